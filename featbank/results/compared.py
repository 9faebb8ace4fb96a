"""The records of a comparison of heads on banks; ``compare.json`` is made and read here.

Every record's fields are the names in its JSON object, in their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from featbank.results.plain import known_fields
from featbank.results.records import (
    Calibration,
    Candidate,
    Interval,
    Metrics,
    Selection,
    intervals,
)

__all__ = [
    "CellName",
    "ComparedBank",
    "ComparedCandidate",
    "ComparedResult",
    "ComparisonSettings",
    "Difference",
    "SeedGroup",
]


@dataclass(frozen=True)
class ComparisonSettings:
    """How banks were compared, as it was asked for.

    Attributes
    ----------
    select, report : str or None
        The splits that were named to choose on and to evaluate on.
    metric : str
        The metric of which differences are tested.
    seed, bootstrap : int
        The seed of every draw, and the number of draws of the evaluation rows.
    baseline : str or None
        The head or the bank with which all others were compared.
    version : str
        The version of featbank.
    """

    select: str | None = None
    report: str | None = None
    metric: str = "all"
    seed: int = 0
    bootstrap: int = 1000
    baseline: str | None = None
    version: str = ""


@dataclass(frozen=True)
class ComparedBank:
    """A bank of a comparison.

    Attributes
    ----------
    name : str
        The bank's name in the comparison.
    path, digest : str
        Where the bank was, and its digest.
    slug : str
        The name of the bank's folder in the comparison.
    shot_groups : int
        Banks with the same number have the same shot groups.
    """

    name: str
    path: str
    digest: str
    slug: str
    shot_groups: int = 0


@dataclass(frozen=True)
class CellName:
    """A bank and a head by the names that they have in the comparison."""

    bank: str
    head: str


@dataclass(frozen=True)
class ComparedResult:
    """What one head reached on one bank.

    Attributes
    ----------
    bank, bank_name : str
        The bank's path and its name in this comparison.
    ci95 : mapping
        The 95 % intervals of the metrics, by name.
    cell : str
        The name of the folder that keeps the head and what it said of every row.
    notes : tuple of str
        What there is to know of this result beside its numbers.

    selection : Selection or None
        How parameters were chosen, where they were.
    params, metrics : mapping
        The fitted head's parameters, and accuracies as fractions.
    """

    bank: str
    bank_name: str
    head: str
    spec: str
    params: Mapping[str, Any]
    selected_on: str | None
    selection: Selection | None
    split: str
    metrics: Metrics
    ci95: Mapping[str, Interval | None]
    calibration: Calibration
    fit_seconds: float
    cell: str
    notes: tuple[str, ...] = ()

    @property
    def place(self) -> CellName:
        """The bank and the head by the names that they have in the comparison."""
        return CellName(self.bank_name, self.spec)

    @property
    def chose_on_reported(self) -> bool:
        """Whether a parameter was chosen on the split on which the head is evaluated."""
        return self.selected_on is not None and self.selected_on == self.split

    def value(self, metric: str) -> tuple[float | None, Interval | None]:
        """Return a metric and its interval; `error` is one minus `micro`."""
        if metric != "error":
            return self.metrics[metric], self.ci95[metric]
        value, ends = self.metrics["micro"], self.ci95["micro"]
        return (
            None if value is None else 1 - value,
            None if ends is None else (1 - ends[1], 1 - ends[0]),
        )

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read one entry of ``results``.

        Raises
        ------
        TypeError, ValueError, KeyError
            The object is not such an entry.
        """
        selection = found.get("selection")
        return known_fields(
            cls,
            found,
            bank_name=str(found.get("bank_name", found["bank"])),
            spec=str(found.get("spec", found["head"])),
            params=dict(found.get("params") or {}),
            selected_on=found.get("selected_on"),
            selection=None if selection is None else Selection.from_json(selection),
            metrics=dict(found["metrics"]),
            ci95=intervals(found.get("ci95")),
            calibration=known_fields(Calibration, found.get("calibration") or {}),
            cell=str(found["cell"]),
            notes=tuple(found.get("notes") or ()),
        )


@dataclass(frozen=True)
class ComparedCandidate:
    """A point of a head's parameters that was tried on a bank.

    Attributes
    ----------
    bank : str
        The bank's path.
    head, spec : str
        The head's name, and its whole specification.
    point : Candidate
        The point, and its metrics on the selecting split alone.
    """

    bank: str
    head: str
    spec: str
    point: Candidate

    def to_json(self) -> dict[str, Any]:
        """Return one entry of ``candidates``."""
        named = {"bank": self.bank, "head": self.head, "spec": self.spec}
        return named | self.point.to_json()

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read one entry of ``candidates``."""
        return cls(
            str(found["bank"]),
            str(found["head"]),
            str(found.get("spec", found["head"])),
            Candidate.from_json(found),
        )


@dataclass(frozen=True)
class Difference:
    """The difference of `metric` between two results, `a` minus `b`.

    Attributes
    ----------
    a, b : CellName
        The two results: two heads on one bank, or one head on two banks.
    difference : float
        As a fraction.
    ci95 : tuple of two floats
        Its 95 % interval.
    p_bootstrap, p_adjusted : float
        The probability of such a difference by chance, by resampling the rows; and the same
        corrected by Holm for the number of differences of the comparison.
    p_mcnemar, p_mcnemar_adjusted : float or None
        McNemar's mid-p, and the same corrected; None where the two have other rows.
    paired : bool
        Whether both were evaluated on the same rows.
    """

    a: CellName
    b: CellName
    metric: str
    difference: float
    ci95: Interval
    p_bootstrap: float
    p_mcnemar: float | None
    p_adjusted: float
    p_mcnemar_adjusted: float | None = None
    paired: bool = True

    def turned(self) -> Self:
        """Return the same difference the other way round: `b` minus `a`."""
        low, high = self.ci95
        return replace(self, a=self.b, b=self.a, difference=-self.difference, ci95=(-high, -low))

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read one entry of ``comparisons``.

        Raises
        ------
        TypeError, ValueError, KeyError
            The object is not such an entry.
        """
        low, high = found["ci95"]
        return known_fields(
            cls,
            found,
            a=known_fields(CellName, found["a"]),
            b=known_fields(CellName, found["b"]),
            ci95=(low, high),
        )


@dataclass(frozen=True)
class SeedGroup:
    """Mean and standard deviation of one metric of one head over the banks of a group.

    Attributes
    ----------
    mean : float or None
        None where a bank lacks the metric, or the banks' shot groups are other classes.
    std : float or None
        With n - 1 in its denominator; None for a single bank.
    n : int
        The number of banks.
    """

    name: str
    banks: tuple[str, ...]
    head: str
    metric: str
    mean: float | None
    std: float | None
    n: int

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read one entry of ``groups``."""
        return known_fields(cls, found, banks=tuple(found.get("banks") or ()))
