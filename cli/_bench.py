"""One bank of a comparison: its record, and the cells that are missing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli._cells import (
    arrays_bytes,
    digest_of,
    installed_version,
    read_cell,
    read_record,
    write_cell,
)
from cli._splits import Roles
from cli.specs import Spec
from featbank import Bank
from featbank.progress import Reporter

if TYPE_CHECKING:
    from cli._fitting import BankArrays

__all__ = ["Bench", "Entry", "Settings"]

BANK = "bank.json"


@dataclass(frozen=True)
class Settings:
    """How banks are compared; every choice is recorded in the result."""

    select: str | None = None
    report: str | None = None
    seed: int = 0
    draws: int = 1000
    baseline: str | None = None
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    by_recipe: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class Entry:
    """One bank of a comparison, by its short name."""

    bank: Bank
    name: str
    slug: str
    parts: Roles

    @property
    def split(self) -> str:
        """The split that is reported."""
        return self.parts.report[0]


@dataclass
class Bench:
    """One bank on which cells are made; its arrays are read when the first is.

    After `fill`, `about` is the bank's record, `cells` are its cells' records by key, and `made`
    counts those that had to be fitted.
    """

    entry: Entry
    out: Path
    settings: Settings
    reporter: Reporter
    overwrite: bool = False
    about: dict[str, Any] = field(default_factory=dict)
    cells: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: int = 0
    _arrays: BankArrays | None = None

    @property
    def folder(self) -> Path:
        """Where the bank's record is kept."""
        return self.out / "banks" / self.entry.slug

    @property
    def arrays(self) -> BankArrays:
        """The bank's arrays."""
        from cli._fitting import BankArrays
        from featbank.device import resolve_device

        if self._arrays is None:
            device = str(resolve_device(self.settings.device))
            self._arrays = BankArrays(self.entry.bank, device, self.entry.parts.select)
        return self._arrays

    def fill(self, wanted: Sequence[Spec], keys: Sequence[str]) -> None:
        """Read the bank's cells and record, making what is missing."""
        missing = []
        for spec, key in zip(wanted, keys, strict=True):
            found = self.kept(spec, key)
            if found is None:
                missing.append((spec, key))
            else:
                self.cells[key] = found
        self.about = self.record(sorted({spec.name for spec in wanted} & {"tau", "logit-adjust"}))
        if missing:
            with self.reporter.track(self.entry.name, len(missing), "heads") as advance:
                for spec, key in missing:
                    self.cells[key] = self.make(spec, key)
                    self.made += 1
                    advance(1, str(spec))
        self._arrays = None  # the next bank needs the room

    def kept(self, spec: Spec, key: str) -> dict[str, Any] | None:
        """Return a cell's record where it is there and whole."""
        if self.overwrite:
            return None
        record, complaint = read_cell(self.out / "cells" / key)
        if complaint:
            self.reporter.say(f"{complaint}: {spec} on {self.entry.name} is fitted again")
        return record

    def make(self, spec: Spec, key: str) -> dict[str, Any]:
        """Fit one head and keep it."""
        import numpy as np

        from cli._cell_fit import fit_cell

        with np.load(self.folder / "view.npz") as file:
            view = dict(file)
        record, files = fit_cell(
            self.arrays, spec, self.entry.parts, self.settings.seed, view, self.reporter
        )
        folder = self.out / "cells" / key
        write_cell(folder, {**record, "samples": samples_of(self.entry)}, files)
        return read_record(folder / "cell.json") or {}

    def record(self, curves: Sequence[str]) -> dict[str, Any]:
        """Return the bank's record, made again where it is damaged or of something else."""
        key = digest_of([
            self.entry.name, str(self.entry.bank.path), self.entry.bank.digest,
            self.entry.parts.select, self.entry.split, list(curves), installed_version(),
        ])  # fmt: skip
        before, complaint = read_cell(self.folder, BANK)
        if before is not None and before["key"] == key and not self.overwrite:
            return before
        if complaint:
            self.reporter.say(f"{complaint}: it is made again")
        self.write_record(key, curves)
        return read_record(self.folder / BANK) or {}

    def write_record(self, key: str, curves: Sequence[str]) -> None:
        """Write what the report shows of a bank."""
        from cli._cell_fit import curve_arrays, view_arrays

        parts, split = self.entry.parts, self.entry.split
        shown = [name for name in dict.fromkeys((parts.select, split)) if name is not None]
        files = {"view.npz": arrays_bytes(view_arrays(self.arrays, split))}
        for head in curves:
            files[f"curve-{head}.npz"] = arrays_bytes(curve_arrays(self.arrays, head, shown))
        record = {"key": key, **description(self.entry), "samples": samples_of(self.entry)}
        write_cell(self.folder, record, files, BANK)


def description(entry: Entry) -> dict[str, Any]:
    """Return a bank's own record: where it came from, and its classes."""
    bank = entry.bank
    provenance = dict(bank.provenance)
    recipe = provenance.get("recipe") or {}
    return {
        "name": entry.name,
        "slug": entry.slug,
        "path": str(bank.path),
        "digest": bank.digest,
        "provenance": provenance,
        "class_names": list(bank.class_names),
        "class_counts": bank.class_counts.tolist(),
        "shots": bank.shots.to_json(),
        "recipe": {"sampler": None, "loss": None, "seed": None, **recipe},
        "splits": {name: len(bank[name]) for name in bank.splits},
        "select": entry.parts.select,
        "report": entry.split,
    }


def samples_of(entry: Entry) -> dict[str, Any]:
    """Return the digest of the reported rows, ids and labels in order, and if ids are names."""
    split = entry.bank[entry.split]
    ids = split.ids.tolist()
    digest = hashlib.sha256()
    for name in ids:
        digest.update(name.encode() + b"\0")
    digest.update(split.labels.astype("<i8").tobytes())
    named = any(name != str(row) for row, name in enumerate(ids))
    return {"digest": digest.hexdigest(), "named": named}
