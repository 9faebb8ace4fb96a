"""One bank of a comparison: its record, and the cells that are missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featbank.bank.bank import Bank
from featbank.comparing.cells import installed_version, read_cell, write_cell
from featbank.results.cell import BankRecord, CellRecord, RowsRecord
from featbank.results.saved import BANK, RECORD, arrays_bytes, digest_of
from featbank.runtime.progress import Reporter
from featbank.runtime.spec import Spec
from featbank.study.rows import rows_record
from featbank.study.splits import Roles

if TYPE_CHECKING:
    from featbank.study.arrays import BankArrays

__all__ = ["Bench", "Entry", "Settings"]

# How rows are told from each other in a bank's record; 2 since it is by their ids.
SAMPLES = 2


@dataclass(frozen=True)
class Settings:
    """How banks are compared; every choice is recorded in the result.

    Attributes
    ----------
    select, report : str, optional
        The splits to choose parameters on and to evaluate on; where none is named, as
        `featbank.study.splits.roles` gives the splits their parts.
    seed : int
        Seed of every draw.
    draws : int
        How often the evaluation rows are resampled for the intervals.
    baseline : str, optional
        A head or a bank: only differences to it are tested.
    groups : mapping
        From a group's name to the banks that are seeds of one recipe.
    by_recipe : bool
        Whether banks whose recorded recipes differ in their seed only are grouped too.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
    """

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
    """One bank of a comparison, by its short name.

    Attributes
    ----------
    bank : Bank
    name : str
        The bank's name in the comparison.
    slug : str
        The name of the bank's folder in the comparison; no two banks have the same.
    parts : Roles
        The split that chooses, and the one that is reported.
    shown : Path, optional
        The path that is recorded, where the bank is moved there before anyone reads it.
    """

    bank: Bank
    name: str
    slug: str
    parts: Roles
    shown: Path | None = None

    @property
    def path(self) -> str:
        """The bank's path as it is recorded."""
        return str(self.shown or self.bank.path)

    @property
    def split(self) -> str:
        """The split that is reported."""
        return self.parts.report[0]


@dataclass
class Bench:
    """One bank on which cells are made; its arrays are read when the first cell needs them.

    What is missing is made in `out`. What is whole there, or in the earlier comparison `old`, is
    kept.

    Attributes
    ----------
    entry : Entry
        The bank.
    out : Path
        The folder of the comparison.
    settings : Settings
        How banks are compared.
    reporter : Reporter
        Is told what takes time.
    overwrite : bool
        Whether nothing is taken over from `old`.
    old : Path, optional
        The folder of an earlier comparison.
    about : BankRecord
        The bank's record, once `fill` was called.
    cells : dict
        The records of the bank's cells by key, once `fill` was called.
    made : int
        How much `fill` had to make: cells, and the bank's record.
    """

    entry: Entry
    out: Path
    settings: Settings
    reporter: Reporter
    overwrite: bool = False
    old: Path | None = None
    about: BankRecord = field(init=False)
    cells: dict[str, CellRecord] = field(default_factory=dict)
    made: int = 0
    _arrays: BankArrays | None = None

    def found(self, place: Path, name: str, said: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield the folders at `place`, of this attempt and of `old`, whose record is whole.

        A damaged one is named, `said` being what becomes of it; one of this attempt is removed, so
        that it is not in the way of the old one.
        """
        earlier = [] if self.old is None or self.overwrite else [self.old]
        for top in (self.out, *earlier):
            record, complaint = read_cell(top / place, name)
            if complaint:
                self.reporter.say(f"{complaint}: {said}")
            if complaint and top == self.out:
                shutil.rmtree(top / place)
            if record is not None:
                yield top / place, record

    @property
    def ids(self) -> list[str]:
        """The ids of the reported rows, in the bank's order."""
        ids: list[str] = self.entry.bank[self.entry.split].ids.tolist()
        return ids

    @property
    def arrays(self) -> BankArrays:
        """The bank's arrays."""
        from featbank.runtime.device import resolve_device
        from featbank.study.arrays import BankArrays

        if self._arrays is None:
            device = str(resolve_device(self.settings.device))
            self._arrays = BankArrays(
                self.entry.bank, device, self.entry.parts.select, shown=self.entry.shown
            )
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
        curves = sorted({spec.name for spec in wanted} & {"tau", "logit-adjust"})
        folder, self.about = self.record(curves)
        if missing:
            with self.reporter.track(self.entry.name, len(missing), "heads") as advance:
                for spec, key in missing:
                    self.cells[key] = self.make(spec, key, folder)
                    self.made += 1
                    advance(1, str(spec))
        self._arrays = None  # the next bank needs the room

    def kept(self, spec: Spec, key: str) -> CellRecord | None:
        """Return a cell's record where it is there and whole."""
        said = f"{spec} on {self.entry.name} is fitted again"
        for folder, record in self.found(Path("cells", key), RECORD, said):
            try:
                return CellRecord.from_json(record)
            except (AttributeError, KeyError, TypeError, ValueError):
                self.reporter.say(f"{folder / RECORD} is no record of a comparison: {said}")
        return None

    def make(self, spec: Spec, key: str, bank: Path) -> CellRecord:
        """Fit one head and keep it; `bank` is the folder of the bank's record."""
        import numpy as np

        from featbank.comparing.evaluating import fit_cell

        with np.load(bank / "view.npz") as file:
            view = dict(file)
        record, files = fit_cell(
            self.arrays, spec, self.entry.parts, self.settings.seed, view, self.reporter
        )
        record = replace(record, samples=samples_of(self.entry, self.entry.split))
        write_cell(self.out / "cells" / key, record.to_json(), files)
        return record

    def record(self, curves: Sequence[str]) -> tuple[Path, BankRecord]:
        """Return the bank's record and its folder, made where none is whole and of this bank."""
        key = digest_of([
            self.entry.name, self.entry.path, self.entry.bank.digest,
            self.entry.parts.select, self.entry.split, list(curves), installed_version(),
            SAMPLES,
        ])  # fmt: skip
        place = Path("banks", self.entry.slug)
        for folder, before in self.found(place, BANK, "it is made again"):
            if before.get("key") == key:
                if folder != self.out / place:  # what another attempt has begun is not in its way
                    shutil.rmtree(self.out / place, ignore_errors=True)
                return folder, BankRecord.from_json(before)
        record = description(self.entry, key)
        self.write_record(self.out / place, record, curves)
        self.made += 1
        return self.out / place, record

    def write_record(self, folder: Path, record: BankRecord, curves: Sequence[str]) -> None:
        """Write what the report shows of a bank."""
        from featbank.comparing.evaluating import curve_arrays, view_arrays

        parts, split = self.entry.parts, self.entry.split
        shown = [name for name in dict.fromkeys((parts.select, split)) if name is not None]
        files = {"view.npz": arrays_bytes(view_arrays(self.arrays, split))}
        for head in curves:
            files[f"curve-{head}.npz"] = arrays_bytes(curve_arrays(self.arrays, head, shown))
        write_cell(folder, record.to_json(), files, BANK)


def description(entry: Entry, key: str) -> BankRecord:
    """Return a bank's own record, `key` being a digest of everything that it is made from."""
    bank = entry.bank
    provenance = dict(bank.provenance)
    recipe = provenance.get("recipe") or {}
    return BankRecord(
        key=key,
        name=entry.name,
        slug=entry.slug,
        path=entry.path,
        digest=bank.digest,
        provenance=provenance,
        class_names=tuple(bank.class_names),
        class_counts=tuple(bank.class_counts.tolist()),
        shots=bank.shots,
        recipe={"sampler": None, "loss": None, "seed": None, **recipe},
        splits={name: len(bank[name]) for name in bank.splits},
        select=entry.parts.select,
        report=entry.split,
        samples=samples_of(entry, entry.split),
        train_samples=samples_of(entry, "train"),
    )


def samples_of(entry: Entry, split: str) -> RowsRecord:
    """Return what tells whether another bank has the same rows in a split."""
    rows = entry.bank[split]
    return rows_record(rows.ids.tolist(), rows.labels)
