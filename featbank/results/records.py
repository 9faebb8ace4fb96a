"""What a study finds, as records; the JSON of schema 1 is made of them and read into them here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from featbank.results.plain import fields_of, known_fields, plain
from heads.curves.chosen import Chosen

__all__ = [
    "Calibration",
    "Candidate",
    "HeadChoice",
    "Interval",
    "Metrics",
    "Origin",
    "Reached",
    "Result",
    "SplitScore",
    "Selection",
    "intervals",
]

# Accuracies by name, as fractions; None for a shot group that has no class.
Metrics = Mapping[str, float | None]
# The lower and the upper end.
Interval = tuple[float, float]


def intervals(found: Mapping[str, Sequence[float] | None] | None) -> dict[str, Interval | None]:
    """Return intervals by name, each as the pair of its ends; None where there is none."""
    pairs = (found or {}).items()
    return {name: None if ends is None else (ends[0], ends[1]) for name, ends in pairs}


@dataclass(frozen=True)
class Candidate:
    """A point of a head's parameters that was tried.

    Attributes
    ----------
    params : mapping
        The parameters that vary among the candidates.
    split : str
        The split on which parameters are chosen.
    metrics : mapping
        The accuracies there.
    """

    params: Mapping[str, Any]
    split: str
    metrics: Metrics

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of one candidate."""
        return {"params": dict(self.params), "split": self.split, "metrics": dict(self.metrics)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read the JSON object of one candidate."""
        return cls(found["params"], found["split"], found["metrics"])


@dataclass(frozen=True)
class Selection:
    """How parameters were chosen.

    Attributes
    ----------
    split, metric : str or None
        The split on which they were chosen, and the metric. None where nothing was chosen but the
        weight decay of a linear classifier that stands in for stage 1's.
    rule : str or None
        ``maximum``, or a rule of `heads.curves.rules`.
    grid : sequence of str or None
        The parameters that the candidates differ in.
    best
        The chosen value, or a mapping of the chosen values by parameter.
    value : float or None
        The metric there.
    maximum : mapping or None
        The greatest value of the metric, and where it is reached.
    points, seeds : int or None
        How many points were tried, and how many seeds a point is the mean of.
    then : Selection or None
        How a parameter was chosen within the chosen point of a grid.
    stage1 : mapping or None
        How the weight decay of the linear classifier that stands in for stage 1's was found.
    """

    split: str | None = None
    metric: str | None = None
    rule: str | None = None
    grid: tuple[str, ...] | None = None
    best: Any = None
    value: float | None = None
    maximum: Mapping[str, Any] | None = None
    points: int | None = None
    seeds: int | None = None
    then: Selection | None = None
    stage1: Mapping[str, Any] | None = None

    @classmethod
    def on_curve(cls, split: str, chosen: Chosen) -> Self:
        """Return how a parameter was chosen by `all` on the curve of a split."""
        return cls(
            split=split,
            metric="all",
            rule=chosen.rule,
            best=chosen.best,
            value=chosen.value,
            maximum=plain(chosen.maximum),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object, without what does not apply."""
        return {name: value for name, value in fields_of(self).items() if value is not None}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read the JSON object; fields that this version does not know are left out."""
        grid, then = found.get("grid"), found.get("then")
        return known_fields(
            cls,
            found,
            grid=None if grid is None else tuple(grid),
            then=None if then is None else cls.from_json(then),
        )


@dataclass(frozen=True)
class HeadChoice:
    """What was left open of a head, and how that ended.

    Attributes
    ----------
    spec : str
        The head's specification as it was given.
    defaults : mapping
        The parameters that were left open and not chosen, with the values that they have.
    ends : tuple of str
        The parameters that were chosen at an end of what was tried, each in a few words.
    """

    spec: str
    defaults: Mapping[str, float] = field(default_factory=dict)
    ends: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read a choice from the metadata of a head; earlier versions say less."""
        return cls(
            str(found["spec"]), dict(found.get("defaults") or {}), tuple(found.get("ends") or ())
        )


@dataclass(frozen=True)
class Origin:
    """What a head's file says of the features that the head was fitted on.

    Attributes
    ----------
    bank_digest : str
        The digest of the bank.
    features : mapping
        What makes the features what they are: see `featbank.bank.provenance_diff`.
    class_names : tuple of C strings
    class_counts : tuple of C ints
        The training rows of each class.
    dtype : str
        How the bank stores features.
    """

    bank_digest: str
    features: Mapping[str, Any]
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...] = ()
    dtype: str = "float32"


@dataclass(frozen=True)
class SplitScore:
    """Accuracies, as fractions, and their 95 % intervals, by name."""

    metrics: Metrics
    ci95: Mapping[str, Interval | None]


@dataclass(frozen=True)
class Reached:
    """What a head reached on one split, as its file says it.

    Attributes
    ----------
    split : str
    metrics, ci95 : mapping
        Accuracies by name, as fractions, and their 95 % intervals.
    calibration : Calibration or None
    """

    split: str
    metrics: Metrics
    ci95: Mapping[str, Interval | None]
    calibration: Calibration | None = None

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read the JSON object of it.

        Raises
        ------
        KeyError, TypeError, ValueError
            It is no such object.
        """
        calibration = found.get("calibration")
        return cls(
            str(found["split"]),
            {str(name): value for name, value in found["metrics"].items()},
            intervals(found.get("ci95")),
            None if calibration is None else known_fields(Calibration, calibration),
        )


@dataclass(frozen=True)
class Calibration:
    """How well the stated confidence of a head agrees with its accuracy on the reported split.

    Attributes
    ----------
    split : str or None
        The split on which the temperature was fitted; None where there was none to fit it on.
    ece, nll : float or None
        Expected calibration error, and mean negative log-likelihood in nats, at temperature 1.
    temperature : float or None
        The fitted temperature.
    ece_scaled, nll_scaled : float or None
        The same two at that temperature.
    ece_groups, ece_scaled_groups : mapping
        The calibration errors of the rows whose class is in a shot group, by its name; None for a
        group without rows.
    """

    split: str | None = None
    ece: float | None = None
    nll: float | None = None
    temperature: float | None = None
    ece_scaled: float | None = None
    nll_scaled: float | None = None
    ece_groups: Mapping[str, float | None] = field(default_factory=dict)
    ece_scaled_groups: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What one head reached on one split of one bank.

    Attributes
    ----------
    bank : str
        The bank's path.
    head : str
        The head's name, as a specification has it.
    params : mapping
        The parameters of the fitted head.
    selected_on : str or None
        The split on which parameters were chosen, where they were.
    selection : Selection or None
        How they were chosen.
    notes : tuple of str
        What a reader has to know beside the numbers.
    split : str
        The split that was evaluated.
    metrics : mapping
        `all`, `many`, `medium`, `few`, `micro`, `macro_f1`, …, as `heads.metrics.evaluate` has
        them.
    ci95 : mapping
        The 95 % intervals of the accuracies, by name.
    fit_seconds : float or None
        What fitting took, where the head was fitted and not loaded. What the heads of a bank share
        is not counted: reading the features, and the linear classifier that stands in where stage
        1 left none.
    file : str or None
        The name of the head's file beside the results.
    calibration : Calibration or None
        How well stated confidence agrees with accuracy on the split.
    """

    bank: str
    head: str
    params: Mapping[str, Any]
    selected_on: str | None
    selection: Selection | None
    notes: tuple[str, ...]
    split: str
    metrics: Metrics
    ci95: Mapping[str, Interval | None]
    fit_seconds: float | None
    file: str | None = None
    calibration: Calibration | None = None

    @property
    def chose_on_reported(self) -> bool:
        """Whether a parameter was chosen on the split that was evaluated."""
        return self.selected_on is not None and self.selected_on == self.split

    def to_json(self) -> dict[str, Any]:
        """Return one entry of ``results``."""
        return {
            "bank": self.bank,
            "head": self.head,
            "params": dict(self.params),
            "selected_on": self.selected_on,
            "selection": None if self.selection is None else self.selection.to_json(),
            "notes": list(self.notes),
            "split": self.split,
            "metrics": dict(self.metrics),
            "ci95": {name: None if of is None else list(of) for name, of in self.ci95.items()},
            "fit_seconds": self.fit_seconds,
            **({} if self.calibration is None else {"calibration": plain(self.calibration)}),
            **({} if self.file is None else {"file": self.file}),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read one entry of ``results``, of any version of schema 1.

        Raises
        ------
        KeyError, TypeError
            It is no such entry.
        """
        selection, calibration = found.get("selection"), found.get("calibration")
        return cls(
            bank=found["bank"],
            head=found["head"],
            params=found["params"],
            selected_on=found.get("selected_on"),
            selection=None if selection is None else Selection.from_json(selection),
            notes=tuple(found.get("notes") or ()),
            split=found["split"],
            metrics=found["metrics"],
            ci95=intervals(found.get("ci95")),
            fit_seconds=found.get("fit_seconds"),
            file=found.get("file"),
            calibration=None if calibration is None else known_fields(Calibration, calibration),
        )
