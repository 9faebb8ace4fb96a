"""Which split chooses and which is reported, and what a reader has to know of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featbank.bank.bank import Bank
from featbank.errors import UsageError
from featbank.results.records import HeadChoice
from featbank.runtime.names import printable

__all__ = [
    "VALIDATION",
    "Roles",
    "all_head_notes",
    "coverage",
    "distinct",
    "group_coverage",
    "head_notes",
    "role_notes",
    "roles",
    "splits_to_evaluate",
]

# What people call the split on which they choose; in any case of letters. A split called val
# comes before the others.
VALIDATION = ("val", "validation", "valid", "dev", "development")


@dataclass(frozen=True)
class Roles:
    """The splits by what is done with them.

    Attributes
    ----------
    select : str or None
        The split on which parameters are chosen. Where it is None, heads take their defaults.
    report : tuple of str
        The splits that are reported.
    chooser : str, optional
        The split whose part it is to choose, whether or not it can.
    reason : str
        Why nothing is chosen, where nothing is.
    """

    select: str | None
    report: tuple[str, ...]
    chooser: str | None = None
    reason: str = "no val split"

    @property
    def dishonest(self) -> bool:
        """True where the user asked to choose on the reported split."""
        return self.select in self.report

    def selected_on(self, *, chosen: bool) -> str | None:
        """Name the split on which a parameter was chosen, if it was."""
        return self.select if chosen else None

    def label(self, split: str | None) -> str:
        """Name a split in a table, marked where choosing saw what is reported."""
        if split is None:
            return "-"
        return f"{split} (REPORTED)" if split in self.report else split


def roles(bank: Bank, select: str | None, report: str | None) -> Roles:
    """Give the splits their roles; choosing on a reported split happens only when named twice.

    By default parameters are chosen on val, and every other split but train is reported. A split
    called validation, valid or dev is val where there is no val, and is reported only by name.
    Where val is all there is to report, nothing is chosen. Nothing is chosen either on a split
    with rows of a single class, which tells no parameter from another.

    Raises
    ------
    UsageError
        A split that the bank lacks, or several between which the user has to choose.
    """
    check_named(bank, "--select", select)
    check_named(bank, "--report", report)
    chooser = select or default_chooser(bank, report)
    reported = (report,) if report else default_report(bank, chooser, named=select is not None)
    if select is None and chooser in reported:
        return Roles(None, reported, chooser, f"{chooser} is reported")
    present, n_classes = coverage(bank, chooser) if chooser else (0, 0)
    if present == 1 < n_classes:
        reason = f"{chooser} has rows of 1 of {n_classes} classes"
        return Roles(None, reported, chooser, reason)
    return Roles(chooser, reported, chooser)


def splits_to_evaluate(bank: Bank, report: str | None) -> tuple[str, ...]:
    """Return the splits that are reported where heads are fitted already: what is there to test."""
    check_named(bank, "--report", report)
    held_out = [name for name in bank.splits if name != "train"]
    tests = [name for name in held_out if name not in validation_splits(bank)]
    return (report,) if report else tuple(tests or held_out) or ("train",)


def check_named(bank: Bank, option: str, name: str | None) -> None:
    """Refuse a split that the bank lacks."""
    if name is not None and name not in bank:
        message = f"{option} {name}: {bank.path} has only {', '.join(bank.splits)}"
        raise UsageError(printable(message))


def default_chooser(bank: Bank, report: str | None) -> str | None:
    """Return the split that chooses where none is named."""
    able = validation_splits(bank)
    if "val" in able or not able:
        return "val" if able else None
    free = [name for name in able if name != report] or able
    if len(free) > 1:
        raise undecided(bank, free)
    return free[0]


def default_report(bank: Bank, chooser: str | None, *, named: bool) -> tuple[str, ...]:
    """Return the splits that are reported where none is named; `named` tells if the chooser was."""
    others = [name for name in bank.splits if name not in ("train", chooser)]
    tests = [name for name in others if name not in validation_splits(bank)]
    if others and not (tests or named):
        raise undecided(bank, validation_splits(bank))
    return tuple(tests or others) or (chooser or "train",)


def validation_splits(bank: Bank) -> list[str]:
    """Return the splits that are by their names there to choose on."""
    return [name for name in bank.splits if name.casefold() in VALIDATION]


def undecided(bank: Bank, names: Sequence[str]) -> UsageError:
    """Return the error of a bank in which several splits could choose."""
    message = (
        f"{bank.path} has {' and '.join(names)}; name the one to choose on with --select, and the "
        "one to evaluate with --report"
    )
    return UsageError(printable(message))


def coverage(bank: Bank, split: str) -> tuple[int, int]:
    """Return how many classes have rows in a split, and how many there are."""
    return len(np.unique(bank[split].labels)), len(bank.class_counts)


def group_coverage(labels: Any, groups: Any) -> dict[str, tuple[int, int]]:
    """Return, for each shot group that lacks classes in labels (n,), how many have rows of all.

    `groups` (C,) has 0 for many, 1 for medium and 2 for few.
    """
    there = np.bincount(labels, minlength=len(groups)) > 0
    found = {
        name: (int(there[groups == number].sum()), int((groups == number).sum()))
        for number, name in enumerate(("many", "medium", "few"))
    }
    return {name: counts for name, counts in found.items() if counts[0] < counts[1]}


def role_notes(bank: Bank, parts: Roles) -> list[str]:
    """Return what a reader has to know of the splits beside the numbers."""
    notes = [*select_notes(bank, parts)]
    for split in parts.report:
        notes += report_notes(bank, split)
    named = {parts.chooser, *parts.report}
    unused = [name for name in validation_splits(bank) if name not in named]
    if unused:
        verb = "are" if len(unused) > 1 else "is"
        notes.append(f"{', '.join(unused)} {verb} not used; --select or --report can name it")
    return notes


def select_notes(bank: Bank, parts: Roles) -> Iterator[str]:
    """Yield what there is to say of the split that chooses."""
    if parts.select is None:
        if parts.chooser not in (None, *parts.report):
            yield f"{parts.reason}: nothing is chosen on it"
        return
    present, n_classes = coverage(bank, parts.select)
    if present < n_classes:
        yield (
            f"{parts.select} has rows of {present} of {n_classes} classes; parameters are chosen "
            "on those"
        )
    if parts.select == "train":
        yield "parameters are chosen on train, the rows that heads are fitted on"
    if parts.dishonest:
        yield f"parameters are chosen on {parts.select}, the REPORTED split"


def report_notes(bank: Bank, split: str) -> Iterator[str]:
    """Yield what there is to say of a reported split."""
    present, n_classes = coverage(bank, split)
    if present < n_classes:
        lacking = group_coverage(bank[split].labels, bank.shots.groups(bank.class_counts))
        parts = ", ".join(f"{name}: {some} of {every}" for name, (some, every) in lacking.items())
        yield (
            f"{split} has rows of {present} of {n_classes} classes, so `all` is a mean of "
            f"{present} ({parts})"
        )
    if split == "train":
        yield "train is reported, the rows that heads are fitted on"


def defaults_note(reason: str, defaults: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Say in one note which parameters are defaults for want of a choice, by head.

    `reason` says why nothing was chosen.
    """
    taken = [
        f"{key}={value:g} of {spec}" for spec, of in defaults.items() for key, value in of.items()
    ]
    end = "are defaults" if len(taken) > 1 else "is the default"
    return [f"{reason}: {', '.join(taken)} {end}"] if taken else []


def head_notes(choice: HeadChoice, reason: str) -> list[str]:
    """Return what there is to say of one head: what was not chosen, and what ends a range."""
    return all_head_notes([choice], reason)


def all_head_notes(choices: Sequence[HeadChoice], reason: str) -> list[str]:
    """Return the notes of several heads, their defaults in one."""
    defaults = {choice.spec: choice.defaults for choice in choices}
    ends = [f"{choice.spec}: {each}" for choice in choices for each in choice.ends]
    return [*defaults_note(reason, defaults), *ends]


def distinct(notes: Sequence[str]) -> list[str]:
    """Return notes in their order, each once."""
    return list(dict.fromkeys(notes))
