"""Leakage: the same image, or the same id, where it should not be twice.

A row of train that stands in test too makes the test result too good, and one image under two
labels means that one of them is wrong. Both are found from the ids and, where they are known, from
the digests of the images' bytes. Nothing is removed: what was found is said, or refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.bank.rows import SplitRows
from featbank.errors import InputError

__all__ = ["Leak", "find_leaks", "refuse_leaks"]


@dataclass(frozen=True)
class Leak:
    """Rows that share an id or an image.

    Parameters
    ----------
    what : {"id", "image"}
        What they share.
    splits : tuple of str
        The two splits that both have it; or the one split that has it under two labels.
    count : int
        How many different ids or images are shared.
    example : str
        The id of the first such row.
    other : str
        The id that shares it; with ids it is the same one.
    """

    what: str
    splits: tuple[str, ...]
    count: int
    example: str
    other: str

    def __str__(self) -> str:
        things = f"{self.count} {self.what}{'' if self.count == 1 else 's'}"
        verb = "is" if self.count == 1 else "are"
        where = (
            f"both in {self.splits[0]!r} and in {self.splits[1]!r}"
            if len(self.splits) == 2
            else f"in {self.splits[0]!r} twice, with two labels"
        )
        pair = "" if self.example == self.other else f" and {self.other!r}"
        return f"leakage: {things} {verb} {where} (as {self.example!r}{pair})"


def find_leaks(
    rows: Mapping[str, SplitRows], digests: Mapping[str, NDArray[np.uint8]] | None = None
) -> list[Leak]:
    """Return what stands in two splits, or twice in one split with two labels.

    Ids that are the rows' own numbers ("0", "1", … in order) name nothing, so a split that has
    those is left out of the search by id.

    Parameters
    ----------
    rows : mapping of split name to SplitRows
    digests : mapping of split name to array (N, 32) uint8, optional
        SHA-256 of every row's image, in the order of the rows. Copies of one file under other
        names are found by them.

    Returns
    -------
    list of Leak
        Empty where nothing was found. One entry for each pair of splits, and for each split, of
        ids and of images. Where ids already tell of it, images of the same rows tell it again
        only if there are more of them.
    """
    by_id = list(_leaks("id", rows, {n: r.ids for n, r in rows.items() if not _numbered(r.ids)}))
    if digests is None:
        return by_id
    images = {name: [row.tobytes() for row in found] for name, found in digests.items()}
    told = {leak.splits: leak.count for leak in by_id}
    by_image = _leaks("image", rows, images)
    return by_id + [leak for leak in by_image if leak.count > told.get(leak.splits, 0)]


def refuse_leaks(leaks: Sequence[Leak]) -> None:
    """Refuse leaks, all of them named in one line; none is fine.

    Raises
    ------
    InputError
        There is at least one.
    """
    if leaks:
        message = "; ".join(map(str, leaks)) + "; take such rows out, or leave out --strict"
        raise InputError(message)


def _numbered(ids: Sequence[str]) -> bool:
    """Tell whether ids are the numbers of their rows, in whatever order."""
    return {*ids} == {str(row) for row in range(len(ids))}


def _leaks(
    what: str, rows: Mapping[str, SplitRows], values: Mapping[str, Sequence[Any]]
) -> Iterator[Leak]:
    """Yield the leaks by one kind of value, of which every row has one."""
    first = {name: _first_rows(each) for name, each in values.items()}
    for one, two in combinations(first, 2):
        shared = first[one].keys() & first[two].keys()
        if shared:
            row, other = min((first[one][value], first[two][value]) for value in shared)
            yield Leak(what, (one, two), len(shared), rows[one].ids[row], rows[two].ids[other])
    for name, each in values.items():
        ids, labels = rows[name].ids, rows[name].labels.tolist()
        twice: dict[Any, tuple[int, int]] = {}
        for row, value in enumerate(each):
            if labels[row] != labels[first[name][value]]:
                twice.setdefault(value, (first[name][value], row))
        if twice:
            row, other = min(twice.values())
            yield Leak(what, (name,), len(twice), ids[row], ids[other])


def _first_rows(values: Sequence[Any]) -> dict[Any, int]:
    """Return the first row of every different value."""
    first: dict[Any, int] = {}
    for row, value in enumerate(values):
        first.setdefault(value, row)
    return first
