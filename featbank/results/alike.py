"""In what banks differ that are set side by side: classes, shot groups, training rows, ids."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from operator import attrgetter
from typing import Protocol, TypeVar

import numpy as np

from featbank.results.cell import BankRecord
from featbank.runtime.names import printable

__all__ = ["Named", "group_kinds", "other_classes", "pairing_notes", "unlike_notes"]

Kind = TypeVar("Kind", bound=Hashable)


class Named(Protocol):
    """Something that has classes, a bank or a head, and the name that it is called by."""

    @property
    def name(self) -> str:
        """The name in a message."""

    @property
    def class_names(self) -> Sequence[str]:
        """The names of the C classes, in their order."""


def other_classes(records: Sequence[Named]) -> str | None:
    """Say in what the classes of a bank differ from the first one's; None where none does."""
    for record in records[1:]:
        difference = class_difference(records[0], record)
        if difference:
            return difference
    return None


def class_difference(one: Named, other: Named) -> str | None:
    """Say in what the classes of two banks differ: their number, their names, their order."""
    names = [list(map(str, record.class_names)) for record in (one, other)]
    who = printable(one.name), printable(other.name)
    if len(names[0]) != len(names[1]):
        return f"{who[0]} has {len(names[0])} classes and {who[1]} has {len(names[1])}"
    place = next((i for i, pair in enumerate(zip(*names, strict=True)) if pair[0] != pair[1]), None)
    if place is None:
        return None
    first = f"class {place} is {names[0][place]!r} in {who[0]} and {names[1][place]!r} in {who[1]}"
    unnamed = [who[k] for k in (0, 1) if names[k] == [str(i) for i in range(len(names[k]))]]
    if sorted(names[0]) == sorted(names[1]):
        return f"{who[0]} and {who[1]} have the same classes in another order: {first}"
    if unnamed:
        return f"{unnamed[0]} gives its classes no names: {first}"
    return f"{who[0]} and {who[1]} have other classes: {first}"


def groups_of(record: BankRecord) -> bytes:
    """Return the shot group of every class, as bytes to compare."""
    return bytes(record.groups().tobytes())


def group_kinds(records: Sequence[BankRecord]) -> list[int]:
    """Return the number of each bank's shot grouping among the different ones, from 0."""
    kinds: dict[bytes, int] = {}
    return [kinds.setdefault(groups_of(record), len(kinds)) for record in records]


def unlike_notes(records: Sequence[BankRecord]) -> list[str]:
    """Return notes of what banks differ in, beside their classes and their reported rows."""
    if other_classes(records):
        return []
    return [*split_notes(records), *group_notes(records), *train_notes(records)]


def by(
    records: Sequence[BankRecord], kind: Callable[[BankRecord], Kind]
) -> list[tuple[Kind, list[BankRecord]]]:
    """Return the records by what they have in common, in the order in which each comes first."""
    found: dict[Kind, list[BankRecord]] = {}
    for record in records:
        found.setdefault(kind(record), []).append(record)
    return list(found.items())


def named(records: Sequence[BankRecord]) -> str:
    """Name banks in a line."""
    return ", ".join(str(record.name) for record in records)


def group_notes(records: Sequence[BankRecord]) -> Iterator[str]:
    """Say where many, medium and few are cut otherwise, and where they are other classes."""
    cuts = by(records, attrgetter("shots"))
    if len(cuts) > 1:
        shown = "; ".join(
            f"{named(some)}: many > {shots.many_above}, few < {shots.few_below}"
            for shots, some in cuts
        )
        yield f"the thresholds of shot groups differ ({shown})"
    kinds = by(records, groups_of)
    for groups, some in kinds[1:]:
        other = np.frombuffer(groups, np.uint8) != np.frombuffer(kinds[0][0], np.uint8)
        yield (
            f"{other.sum()} of {len(other)} classes are in another shot group in {named(some)} "
            f"than in {named(kinds[0][1])}: their many, medium and few are of different classes, "
            "and are not set against each other"
        )


def split_notes(records: Sequence[BankRecord]) -> Iterator[str]:
    """Say where banks are evaluated on splits of other names, or choose on others."""
    for key, done in (("report", "heads are evaluated"), ("select", "parameters are chosen")):
        kinds = by(records, attrgetter(key))
        if len(kinds) > 1:
            shown = "; ".join(f"{named(some)}: {split or 'none'}" for split, some in kinds)
            yield f"the splits on which {done} differ ({shown})"


def train_notes(records: Sequence[BankRecord]) -> Iterator[str]:
    """Say where heads were fitted on other rows: other counts, or other ids of as many."""
    sizes = by(records, attrgetter("class_counts"))
    if len(sizes) > 1:
        shown = "; ".join(f"{named(some)}: {sum(counts):,} rows" for counts, some in sizes)
        yield f"train rows by class differ ({shown}): differences are of the training sets too"
    for _, some in sizes:
        known = [each for each in some if each.train_samples and each.train_samples.named]
        kinds = by(known, attrgetter("train_samples.digest"))
        if len(kinds) > 1:
            shown = " against ".join(named(same) for _, same in kinds)
            yield f"train rows have other ids or labels: {shown}"


def pairing_notes(records: Sequence[BankRecord]) -> Iterator[str]:
    """Say which reported rows are paired, and by what."""
    known = [record for record in records if record.samples]
    by_rows = by(known, attrgetter("samples.digest"))
    shared = [some for _, some in by_rows if len(some) > 1]
    if len(by_rows) > 1:
        same = "; ".join(map(named, shared))
        yield (
            "banks with different reported samples are compared unpaired, without McNemar's test"
            + (f"; the same samples have: {same}" if same else "")
        )
    unnamed = [some for some in shared if not all(map(attrgetter("samples.named"), some))]
    if unnamed:
        yield (
            f"rows of {'; '.join(map(named, unnamed))} have no ids, or only row numbers: they are "
            "paired by their number"
        )
    if len(known) > 1:
        yield from odd_id_notes(known)


def odd_id_notes(known: Sequence[BankRecord]) -> Iterator[str]:
    """Say which ids do not tell a row: those that come twice, and those with two labels."""
    for record in known:
        name = record.samples and record.samples.repeated
        if name is not None:
            yield (
                f"the id {name!r} comes twice among the reported rows of {record.name}: they "
                "are paired by their order, not by their ids"
            )
    for ids, some in by(known, attrgetter("samples.ids")):
        kinds = by(some, attrgetter("samples.digest"))
        if len(kinds) > 1 and ids is not None:
            shown = " and ".join(named(same) for _, same in kinds)
            yield f"reported rows have the same ids and other labels in {shown}"
