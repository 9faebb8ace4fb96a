"""Accuracy over a head's parameter: what `featbank.sweep` returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from featbank.errors import InputError
from featbank.results.fit import Tabled
from featbank.results.numbers import GROUPS, percent
from featbank.results.plain import plain
from featbank.results.records import Metrics, Selection
from featbank.results.tables import Accuracy, Table

__all__ = ["Sweep"]


@dataclass(frozen=True)
class Sweep(Tabled):
    """Accuracy as a function of one parameter on the splits of a bank.

    Attributes
    ----------
    bank, head, parameter : str
        The bank's path, the head's name, and the name of its parameter.
    selection : Selection
        How the parameter was chosen, on the selecting split alone.
    report : str
        The split that is reported.
    metrics : mapping
        The accuracies there at the chosen value.
    curves : mapping
        Of each split, the points of the curve: the parameter and the accuracies by name.
    notes : tuple of str
        What a reader has to know beside the numbers.
    steps : mapping or None
        Of each split every breakpoint of the exact curve, where they were asked for: ``edges``, and
        the value of `all` and of each shot group between two of them.
    """

    bank: str
    head: str
    parameter: str
    selection: Selection
    report: str
    metrics: Metrics
    curves: Mapping[str, Sequence[Mapping[str, float | None]]]
    notes: tuple[str, ...] = ()
    steps: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the object of schema 1 that the command line writes."""
        steps = {} if self.steps is None else {"steps": plain(self.steps)}
        return {
            "schema": 1,
            "bank": self.bank,
            "head": self.head,
            "parameter": self.parameter,
            "select": self.selection.to_json(),
            "report": {"split": self.report, "metrics": dict(self.metrics)},
            "curves": plain(self.curves),
            **steps,
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read the object of schema 1 that the command line writes."""
        return cls(
            bank=found["bank"],
            head=found["head"],
            parameter=found["parameter"],
            selection=Selection.from_json(found["select"]),
            report=found["report"]["split"],
            metrics=found["report"]["metrics"],
            curves=found["curves"],
            notes=tuple(found.get("notes") or ()),
            steps=found.get("steps"),
        )

    @property
    def best(self) -> float:
        """The chosen value of the parameter."""
        return float(self.selection.best)

    @property
    def chose_on_reported(self) -> bool:
        """Whether the parameter was chosen on the split that is reported."""
        return self.selection.split == self.report

    def at(self, value: float, split: str | None = None) -> Mapping[str, float | None]:
        """Return the point of the sampled curve that is nearest to a value of the parameter.

        Parameters
        ----------
        value : float
        split : str, optional
            The reported one, if none is named.

        Raises
        ------
        InputError
            The value is outside the curve, or there is no such split.
        """
        points = self.curves.get(split or self.report)
        if points is None:
            message = f"there is no curve of {split!r}, only of {', '.join(self.curves)}"
            raise InputError(message)
        places = [float(point[self.parameter] or 0.0) for point in points]
        if not min(places) <= value <= max(places):
            message = f"{self.parameter}={value:g} is outside {min(places):g}..{max(places):g}"
            raise InputError(message)
        return min(points, key=lambda point: abs(float(point[self.parameter] or 0.0) - value))

    def table(self) -> Table:
        """Return the sampled curves, a row for each value, the chosen one marked."""
        names = list(self.curves)
        columns = (self.parameter, *(f"{name} {group}" for name in names for group in GROUPS))
        rows = []
        for index, point in enumerate(self.curves[names[0]]):
            is_best = point[self.parameter] == self.best
            cells = [
                Accuracy(self.curves[name][index][group], best=is_best)
                for name in names
                for group in GROUPS
            ]
            rows.append((point[self.parameter], *cells))
        split, value = self.selection.split, percent(self.selection.value)
        title = (
            f"{self.bank}: {self.head}, {self.parameter} = {self.best:g}, chosen on {split} "
            f"({value} there), accuracy in %"
        )
        return Table(title, columns, tuple(rows), self.notes)

    def plot(self, metric: str = "all") -> Any:
        """Draw the curves of a metric and the chosen value; return matplotlib's axes.

        Parameters
        ----------
        metric : str
            One of `all`, `many`, `medium` and `few`.

        Raises
        ------
        InputError
            matplotlib is not installed.
        """
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            message = "plot() needs matplotlib: pip install 'featbank[figures]'"
            raise InputError(message) from error
        _, axes = plt.subplots()
        for name, points in self.curves.items():
            known = [point for point in points if point[metric] is not None]
            axes.plot(
                [float(point[self.parameter] or 0.0) for point in known],
                [100 * float(point[metric] or 0.0) for point in known],
                label=name,
            )
        axes.axvline(self.best, color="grey", linewidth=0.8, label=f"chosen: {self.best:g}")
        axes.set_xlabel(self.parameter)
        axes.set_ylabel(f"{metric}, accuracy in %")
        axes.legend()
        return axes
