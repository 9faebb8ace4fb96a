"""featbank info."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli._show import print_table, say, write_json
from featbank.runtime.names import printable

if TYPE_CHECKING:
    from featbank.bank.facts import BankFacts

__all__ = ["command"]


@click.command()
@options.bank
@options.overwrite_json
@options.json_to
def command(bank: Path, overwrite: bool, json_to: Path | None) -> None:
    """Show what a bank holds and where it came from."""
    from cli._outputs import refuse_outputs
    from featbank import Bank
    from featbank.bank.facts import bank_facts

    refuse_outputs({"--json": json_to}, overwrite=overwrite)
    facts = bank_facts(Bank.open(bank))
    if not write_json(json_to, facts.to_json(), overwrite=overwrite):
        show(facts)


def show(facts: BankFacts) -> None:
    """Print the table of splits, and a line for every other fact."""
    print_table(
        f"{facts.bank}: {facts.dim} {facts.dtype} features, {len(facts.class_counts)} classes, "
        f"{facts.n_bytes / 1e6:.1f} MB",
        ("split", "rows", "skipped", "views"),
        [
            (name, f"{split.rows:,}", str(split.skipped or "-"), str(split.views or "-"))
            for name, split in facts.splits.items()
        ],
    )
    sizes, shots = facts.group_sizes, facts.shots
    say(
        f"classes: {sizes['many']} many (> {shots.many_above} training rows), "
        f"{sizes['medium']} medium, {sizes['few']} few (< {shots.few_below})"
    )
    say(f"stage-1 classifier: {norms_line(facts.weight_norms)}")
    say(f"digest: {facts.digest}")
    for line in flatten(dict(facts.provenance)):
        say(printable(line))


def norms_line(norms: Mapping[str, float | None] | None) -> str:
    """Show mean weight norms by shot group."""
    if norms is None:
        return "none"
    shown = ((name, "-" if value is None else f"{value:.2f}") for name, value in norms.items())
    return "mean weight norm " + ", ".join(f"{name} {value}" for name, value in shown)


def flatten(value: Any, prefix: str = "") -> list[str]:
    """Write nested mappings as ``a.b: value`` lines."""
    if not isinstance(value, dict):
        return [f"{prefix}: {value}"]
    return [
        line
        for key, inner in value.items()
        for line in flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    ]
