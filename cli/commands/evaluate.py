"""featbank evaluate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli._progress import reporter
from cli._show import print_notes, print_table, write_json
from featbank.results.numbers import GROUPS, percent

if TYPE_CHECKING:
    from featbank import Bank
    from featbank.runtime.progress import Reporter

__all__ = ["command", "load_for"]


@click.command()
@options.bank
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@options.report
@options.seed
@options.device
@options.overwrite_json
@options.json_to
@options.quiet
def command(
    bank: Path,
    files: tuple[Path, ...],
    report: str | None,
    seed: int,
    device: str,
    overwrite: bool,
    json_to: Path | None,
    quiet: bool,
) -> None:
    """Evaluate saved heads on a bank.

    FILES are .head files. A head is used only on features of the network, layer and transform
    that it was fitted on, and on the same classes; anything else is refused.
    """
    from cli._outputs import refuse_outputs
    from featbank import Bank
    from featbank.runtime.device import resolve_device
    from featbank.study.fitting import BankArrays
    from featbank.study.splits import distinct, splits_to_evaluate

    refuse_outputs({"--json": json_to}, overwrite=overwrite)
    opened = Bank.open(bank)
    splits = splits_to_evaluate(opened, report)
    arrays = BankArrays(opened, str(resolve_device(device)))
    loaded = [(file, load_for(opened, file)) for file in files]
    results = evaluate(arrays, loaded, splits, seed, reporter(quiet=quiet))
    notes = distinct([note for entry in results for note in entry["notes"]])
    value = {"schema": 1, "results": results, "candidates": [], "notes": notes}
    if write_json(json_to, value, overwrite=overwrite):
        return
    print_table(f"{bank}, in %", ["head", "split", *GROUPS], [row_of(entry) for entry in results])
    print_notes(notes)


def row_of(entry: Mapping[str, Any]) -> list[str]:
    """Return a line of the table; its split is marked where the head was chosen on it."""
    seen = " (REPORTED)" if entry["selected_on"] == entry["split"] else ""
    values = [percent(entry["metrics"][group]) for group in GROUPS]
    return [entry["file"], f"{entry['split']}{seen}", *values]


def evaluate(
    arrays: Any,
    loaded: Sequence[tuple[Path, tuple[Any, dict[str, Any]]]],
    splits: Sequence[str],
    seed: int,
    watcher: Reporter,
) -> list[dict[str, Any]]:
    """Return one entry of schema 1 for every head and split."""
    results = []
    bank = arrays.bank
    with watcher.track("evaluate", len(loaded) * len(splits), "heads") as advance:
        for file, (head, metadata) in loaded:
            kept = {key: metadata.get(key) for key in ("head", "params", "selected_on")}
            for split in splits:
                score = arrays.score(head, split, seed)
                said = notes_of(bank, file, metadata, split)
                results.append({
                    "bank": str(bank.path), "file": str(file), **kept, "split": split, **score,
                    "notes": said,
                })  # fmt: skip
                advance(1)
    return results


def notes_of(bank: Bank, file: Path, metadata: Mapping[str, Any], split: str) -> list[str]:
    """Return what a reader has to know of a head on a split beside the numbers."""
    from featbank.study.splits import distinct, head_notes, report_notes

    fitted = metadata.get("notes")
    if not isinstance(fitted, list):
        fitted = head_notes(metadata, "nothing was chosen") if "spec" in metadata else []
    own = [f"{file}: {note}" for note in fitted]
    if metadata.get("selected_on") == split:
        own.append(f"{file}: parameters were chosen on {split}, the REPORTED split")
    return distinct([*report_notes(bank, split), *own])


def load_for(bank: Bank, file: Path) -> tuple[Any, dict[str, Any]]:
    """Load a head with its metadata, if it was fitted on features like these.

    Raises
    ------
    StaleError
        The head belongs to other features or classes; the message names what differs.
    """
    import heads
    from featbank import StaleError
    from featbank.bank.provenance_diff import differences, feature_identity
    from featbank.results.alike import other_classes

    head, metadata = heads.load(file), heads.read_metadata(file)
    if not (
        isinstance(metadata.get("features"), dict) and isinstance(metadata.get("class_names"), list)
    ):
        message = f"{file} does not say on which features it was fitted; fit it with featbank fit"
        raise StaleError(message)
    differing = differences(metadata["features"], feature_identity(bank.provenance))
    if differing:
        message = (
            f"{file} was fitted on other features than those of {bank.path}: "
            f"{', '.join(differing)} differ; fit it again on this bank"
        )
        raise StaleError(message)
    classes = other_classes(
        [
            {"name": str(file), "class_names": metadata.get("class_names") or []},
            {"name": str(bank.path), "class_names": bank.class_names},
        ]
    )
    if classes:
        message = f"{file} was fitted on other classes than those of {bank.path}: {classes}"
        raise StaleError(message)
    numbers = set(range(len(bank.class_names)))
    if head.n_features_in_ != bank.dim or not numbers.issuperset(head.classes_.tolist()):
        message = (
            f"{file} takes features of width {head.n_features_in_} and gives labels as "
            f"{head.classes_[0]!r}, where {bank.path} has width {bank.dim} and labels "
            f"0..{len(numbers) - 1}; fit it with featbank fit"
        )
        raise StaleError(message)
    return head, metadata
