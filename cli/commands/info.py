"""featbank info."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli._show import print_table, say, write_json
from featbank.runtime.names import printable

if TYPE_CHECKING:
    from featbank import Bank

__all__ = ["command"]


@click.command()
@options.bank
@options.overwrite_json
@options.json_to
def command(bank: Path, overwrite: bool, json_to: Path | None) -> None:
    """Show what a bank holds and where it came from."""
    from cli._outputs import refuse_outputs
    from featbank import Bank

    refuse_outputs({"--json": json_to}, overwrite=overwrite)
    opened = Bank.open(bank)
    facts = describe(opened)
    if write_json(json_to, facts, overwrite=overwrite):
        return
    print_table(
        f"{bank}: {facts['dim']} {facts['dtype']} features, {facts['classes']} classes, "
        f"{facts['bytes'] / 1e6:.1f} MB",
        ("split", "rows", "skipped", "views"),
        [
            (name, f"{split['rows']:,}", str(split["skipped"] or "-"), str(split["views"] or "-"))
            for name, split in facts["splits"].items()
        ],
    )
    shots = facts["shots"]
    say(
        f"classes: {shots['many']} many (> {shots['many_above']} training rows), "
        f"{shots['medium']} medium, {shots['few']} few (< {shots['few_below']})"
    )
    say(f"stage-1 classifier: {norms_line(facts['weight_norms'])}")
    say(f"digest: {facts['digest']}")
    for line in flatten(facts["provenance"]):
        say(printable(line))


def describe(bank: Bank) -> dict[str, Any]:
    """Collect the facts of a bank; only its metadata is read."""
    from heads.metrics import GROUPS

    counts, shots = bank.class_counts, bank.shots
    groups = shots.groups(counts).tolist()
    skipped = bank.manifest.skipped
    return {
        "schema": 1,
        "bank": str(bank.path),
        "digest": bank.digest,
        "dim": bank.dim,
        "dtype": bank.dtype,
        "bytes": sum(f.stat().st_size for f in bank.path.rglob("*") if f.is_file()),
        "splits": {
            name: {
                "rows": len(bank[name]),
                "skipped": len(skipped.get(name, ())),
                "views": bank[name].n_views,
            }
            for name in bank.splits
        },
        "classes": len(counts),
        "class_names": list(bank.class_names),
        "class_counts": counts.tolist(),
        "shots": {
            **shots.to_json(),
            **{name: groups.count(group) for group, name in enumerate(GROUPS)},
        },
        "classifier": "classifier/weight" in bank.manifest.arrays,
        "weight_norms": weight_norms(bank),
        "provenance": dict(bank.provenance),
    }  # fmt: skip


def weight_norms(bank: Bank) -> dict[str, float | None] | None:
    """Return the mean norm of the classifier's rows by shot group: its bias towards the head."""
    import numpy as np

    from heads.metrics import GROUPS

    if bank.classifier is None:
        return None
    norms = np.linalg.norm(bank.classifier[0], axis=1)
    groups = bank.shots.groups(bank.class_counts)
    parts = {name: norms[groups == group] for group, name in enumerate(GROUPS)}
    return {name: float(part.mean()) if len(part) else None for name, part in parts.items()}


def norms_line(norms: dict[str, float | None] | None) -> str:
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
