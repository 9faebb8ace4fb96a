"""What the folder of a comparison keeps of each bank and each head on it, as records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from featbank.results.plain import fields_of, known_fields
from featbank.results.records import Calibration, Candidate, HeadChoice, Metrics, Selection
from heads.metrics.shots import Shots

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["BankRecord", "CellRecord", "ClassNames", "RowsRecord"]


@dataclass(frozen=True)
class ClassNames:
    """The names of the classes of a bank or a head, and the name that it is called by itself."""

    name: str
    class_names: Sequence[str]


@dataclass(frozen=True)
class RowsRecord:
    """What tells whether two banks have the same rows of a split.

    Attributes
    ----------
    digest : str
        A digest of the ids and the labels, in an order that does not depend on the bank's.
    ids : str or None
        A digest of the ids alone.
    named : bool
        Whether the ids say more than the numbers of the rows.
    repeated : str or None
        An id that comes twice.
    """

    digest: str
    ids: str | None = None
    named: bool = False
    repeated: str | None = None


@dataclass(frozen=True, kw_only=True)
class BankRecord:
    """What a comparison keeps of a bank, so that the report needs the bank itself no more.

    The fields are the names in ``bank.json``, in their order.

    Attributes
    ----------
    key : str
        A digest of everything that the record was made from.
    name, slug : str
        The bank's name in the comparison, and the name of its folder there.
    path, digest : str
        Where the bank was, and its digest.
    provenance, recipe : mapping
        What the bank says of its origin, and how its network was trained.
    class_names, class_counts : tuple
        The names of the C classes, and the training rows of each.
    shots : Shots
        The thresholds of the shot groups.
    splits : mapping
        The number of rows of each split.
    select, report : str or None, str
        The split on which parameters are chosen, and the one that is reported.
    samples, train_samples : RowsRecord or None
        The reported rows and the training rows. None in comparisons that were written before rows
        were known by their ids.
    """

    key: str = ""
    name: str
    slug: str
    path: str
    digest: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    shots: Shots
    recipe: Mapping[str, Any] = field(default_factory=dict)
    splits: Mapping[str, int] = field(default_factory=dict)
    select: str | None = None
    report: str
    samples: RowsRecord | None = None
    train_samples: RowsRecord | None = None

    @property
    def reported_rows(self) -> str:
        """The digest of the reported rows; empty where none was kept."""
        return "" if self.samples is None else self.samples.digest

    def groups(self) -> NDArray[np.int8]:
        """Return the shot group of each class, an array of shape (C,)."""
        return self.shots.groups(self.class_counts)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of ``bank.json``."""
        return fields_of(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read the JSON object of ``bank.json``, of this version or an earlier one.

        Raises
        ------
        TypeError, ValueError, KeyError
            The object is not what `to_json` makes.
        """
        shots = found["shots"]
        return known_fields(
            cls,
            found,
            class_names=_texts(found["class_names"]),
            class_counts=tuple(int(count) for count in found["class_counts"]),
            shots=Shots(int(shots["many_above"]), int(shots["few_below"])),
            samples=_rows(found.get("samples")),
            train_samples=_rows(found.get("train_samples")),
        )


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """What one head reached on one bank: ``cell.json``, whose names are the fields.

    Attributes
    ----------
    head, spec : str
        The head's name, and its specification.
    params : mapping
        The parameters of the fitted head.
    selected_on : str or None
        The split on which parameters were chosen, where they were.
    selection : Selection or None
        How they were chosen.
    split : str
        The split that was evaluated.
    defaults, ends
        As in `featbank.results.records.HeadChoice`.
    metrics : mapping
        Accuracies by name, as fractions.
    calibration : Calibration
    fit_seconds : float
    candidates : tuple of Candidate
        The points that were tried.
    samples : RowsRecord or None
        The rows that were evaluated.
    """

    head: str
    spec: str
    params: Mapping[str, Any]
    selected_on: str | None
    selection: Selection | None
    split: str
    defaults: Mapping[str, float] = field(default_factory=dict)
    ends: tuple[str, ...] = ()
    metrics: Metrics
    calibration: Calibration
    fit_seconds: float
    candidates: tuple[Candidate, ...] = ()
    samples: RowsRecord | None = None

    @property
    def choice(self) -> HeadChoice:
        """How what the specification left open ended."""
        return HeadChoice(self.spec, self.defaults, self.ends)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of ``cell.json``."""
        return fields_of(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read the JSON object of ``cell.json``.

        Raises
        ------
        TypeError, ValueError, KeyError
            The object is not what `to_json` makes.
        """
        selection = found["selection"]
        return known_fields(
            cls,
            found,
            selection=None if selection is None else Selection.from_json(selection),
            defaults=dict(found.get("defaults") or {}),
            ends=tuple(found.get("ends") or ()),
            calibration=known_fields(Calibration, found["calibration"]),
            candidates=tuple(map(Candidate.from_json, found["candidates"])),
            samples=_rows(found.get("samples")),
        )


def _texts(found: Sequence[Any]) -> tuple[str, ...]:
    """Return the entries of a JSON list as text."""
    return tuple(str(each) for each in found)


def _rows(found: Any) -> RowsRecord | None:
    """Read a record of rows; earlier versions kept none, or only a digest that says less."""
    return known_fields(RowsRecord, found) if isinstance(found, Mapping) else None
