"""What is kept of a bank that was compared: its classes, its rows and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from featbank.bank.shots import Shots
from featbank.results.plain import known_fields, plain

__all__ = ["BankRecord", "ClassList", "HasClasses", "RowsDigest"]


class HasClasses(Protocol):
    """Anything that has a name and named classes: a bank, a bank's record, a head's file."""

    @property
    def name(self) -> str:
        """What a message calls it."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of its classes, in their order."""


@dataclass(frozen=True)
class ClassList:
    """The classes of something that has no record, by the name that a message gives it."""

    name: str
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class RowsDigest:
    """What tells whether two banks have the same rows.

    Attributes
    ----------
    digest : str
        SHA-256 of ids and labels, in the order of `featbank.study.rows.row_order`.
    ids : str or None
        SHA-256 of the ids alone.
    named : bool
        Whether the ids are more than row numbers.
    repeated : str or None
        An id that comes twice.
    """

    digest: str
    ids: str | None = None
    named: bool = False
    repeated: str | None = None


@dataclass(frozen=True)
class BankRecord:
    """One bank of a comparison, as its ``bank.json`` has it.

    Attributes
    ----------
    name, slug : str
        What tables call the bank, and the name of its folder in the comparison's.
    path, digest : str
        Where the bank is, and the digest of everything in it.
    class_names, class_counts
        Names and training rows of the C classes.
    shots : Shots
        Which classes are many, medium and few.
    report : str
        The split on which heads are evaluated.
    select : str or None
        The split on which parameters are chosen, where there is one.
    provenance : mapping
        What the features were made from, as the bank has it.
    recipe : mapping
        How the network was trained; `sampler`, `loss` and `seed` are always there.
    splits : mapping
        The number of rows of each split.
    samples, train_samples : RowsDigest or None
        The reported rows and the training rows; None in a comparison that was written before
        banks were compared by their ids.
    key : str
        A digest of all that the record was made from.
    """

    key: str = field(kw_only=True, default="")
    name: str
    slug: str
    path: str
    digest: str
    provenance: Mapping[str, Any] = field(kw_only=True, default_factory=dict)
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    shots: Shots
    recipe: Mapping[str, Any] = field(kw_only=True, default_factory=dict)
    splits: Mapping[str, int] = field(kw_only=True, default_factory=dict)
    select: str | None = field(kw_only=True, default=None)
    report: str
    samples: RowsDigest | None = field(kw_only=True, default=None)
    train_samples: RowsDigest | None = field(kw_only=True, default=None)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of ``bank.json``."""
        found: dict[str, Any] = plain(self)
        return found

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read the JSON object of ``bank.json``.

        Raises
        ------
        TypeError, ValueError, KeyError
            The object is not what `to_json` makes.
        """
        return known_fields(
            cls,
            found,
            class_names=tuple(str(name) for name in found["class_names"]),
            class_counts=tuple(int(count) for count in found["class_counts"]),
            shots=Shots(int(found["shots"]["many_above"]), int(found["shots"]["few_below"])),
            provenance=dict(found.get("provenance") or {}),
            recipe=dict(found.get("recipe") or {}),
            splits=dict(found.get("splits") or {}),
            samples=rows_from(found.get("samples")),
            train_samples=rows_from(found.get("train_samples")),
        )


def rows_from(found: Mapping[str, Any] | None) -> RowsDigest | None:
    """Read what tells some rows from others, where it is known."""
    return known_fields(RowsDigest, found) if found else None
