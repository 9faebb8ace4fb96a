"""Heads by name, with parameters as text or as values: what the command line builds from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from numbers import Integral
from typing import Any

from heads.balancing.weighting import WEIGHTINGS
from heads.errors import HeadInputError, HeadSpecError
from heads.estimators.balanced_softmax import BalancedSoftmax
from heads.estimators.base import Head
from heads.estimators.convex_head import ANCHORS, ConvexHead
from heads.estimators.crt import ClassifierRetraining
from heads.estimators.joint import JointClassifier
from heads.estimators.logit_adjust import LogitAdjustment
from heads.estimators.lws import LearnableWeightScaling
from heads.estimators.ncm import CENTROIDS, ENGINES, METRICS, TRANSFORMS, NearestClassMean
from heads.estimators.recipe import SOLVERS, RecipeParams
from heads.estimators.tau_norm import TauNorm
from heads.names import did_you_mean

__all__ = ["SPEC_NAMES", "Point", "build", "describe", "expand", "has_path", "needs_stage1"]

Value = str | float | int | bool | list[Any]
# More heads than this in one specification are a typing error.
MOST_POINTS = 10_000
Reader = Callable[[Value], Any]


def _number(value: Value) -> float:
    if isinstance(value, bool | list):
        raise TypeError
    return float(value)


def _whole(value: Value) -> int:
    number = _number(value)
    if number != int(number):
        raise ValueError
    return int(number)


@dataclass(frozen=True)
class _Key:
    """One key of a specification: what its value is called, how it is read, and what it sets.

    `meaning` gives the parameter's value of a word that is not the value itself.
    """

    what: str
    read: Reader
    parameter: str | None = None
    meaning: Mapping[str, Any] | None = None

    def sets(self, key: str, read: Any) -> dict[str, Any]:
        """Return the parameter that a value sets, once read."""
        return {self.parameter or key: self.meaning[read] if self.meaning else read}


def _words(*allowed: str) -> _Key:
    def read(value: Value) -> str:
        if value not in allowed:
            raise ValueError
        return str(value)

    return _Key(f"one of: {', '.join(allowed)}", read)


_NUMBER, _WHOLE = _Key("a number", _number), _Key("a whole number", _whole)
_BIAS = _Key(
    "one of: drop, keep",
    _words("drop", "keep").read,
    "keep_bias",
    {"drop": False, "keep": True},
)
_RECIPE = {
    "solver": _words(*SOLVERS),
    "lr": _NUMBER,
    "momentum": _NUMBER,
    "weight_decay": _NUMBER,
    "batch": _WHOLE,
    "epochs": _WHOLE,
    "per_class": _WHOLE,
    "seed": _Key("a whole number", _whole, "random_state"),
    "views": _WHOLE,
}


@dataclass(frozen=True)
class _Spec:
    build: type[Head]
    keys: Mapping[str, _Key]
    stage1: bool = False
    random: bool = False


_SPECS = {
    "balanced-softmax": _Spec(
        BalancedSoftmax,
        {
            "weight_decay": _NUMBER,
            "anchor": _words(*ANCHORS),
            "sampling": _words("instance", "class"),
        },
        stage1=True,
    ),
    "joint": _Spec(JointClassifier, {"weight_decay": _NUMBER}, stage1=True),
    "ncm": _Spec(
        NearestClassMean,
        {
            "transform": _words(*TRANSFORMS),
            "metric": _words(*METRICS),
            "centroids": _words(*CENTROIDS),
            "engine": _words(*ENGINES),
        },
    ),
    "tau": _Spec(TauNorm, {"tau": _NUMBER, "bias": _BIAS}, stage1=True),
    "logit-adjust": _Spec(LogitAdjustment, {"tau": _NUMBER}, stage1=True),
    "crt": _Spec(
        ClassifierRetraining,
        {
            **_RECIPE,
            "anchor": _words(*ANCHORS),
            "q": _NUMBER,
            "weighting": _words(*WEIGHTINGS),
            "beta": _NUMBER,
        },
        stage1=True,
        random=True,
    ),
    "lws": _Spec(LearnableWeightScaling, _RECIPE, stage1=True, random=True),
}
SPEC_NAMES = tuple(_SPECS)


@dataclass(frozen=True)
class Point:
    """One head of a specification with lists: its parameters, and what varies among the points.

    path: the weight decays, strong to weak, that a convex head follows; None where it has no list.
    """

    params: dict[str, Value]
    varied: dict[str, Value]
    path: tuple[float, ...] | None = None


def expand(name: str, params: Mapping[str, Value] | None = None) -> list[Point]:
    """Return the points of a specification whose values may be lists, ``[0.1,0.2]`` or a list.

    Every combination is a point, those that differ in `weight_decay`, else in the last key, side by
    side; without lists there is one.
    The weight decays of a head that is solved exactly stay together as one path. All points have
    been built once, so each is known to be right.

    Raises
    ------
    HeadSpecError
        As `build`; an empty list, a value that comes twice, or more than 10,000 points.
    """
    spec = _spec(name)
    lists = {key: _listed(name, spec, key, value) for key, value in (params or {}).items()}
    n_points = math.prod(len(values) for values in lists.values())
    if n_points > MOST_POINTS:
        message = f"head {name!r} has {n_points} combinations of values; at most {MOST_POINTS} go"
        raise HeadSpecError(message)
    varied = {key for key, values in lists.items() if len(values) > 1}
    decays = [{"weight_decay": value} for value in lists.pop("weight_decay", [])]
    points: list[Point] = []
    for values in product(*lists.values()):
        base = dict(zip(lists, values, strict=True))
        heads = [build(name, base | decay) for decay in decays or [{}]]
        if len(decays) > 1 and isinstance(heads[0], ConvexHead) and _is_exact(heads[0]):
            path = tuple(
                sorted((head.get_params()["weight_decay"] for head in heads), reverse=True)
            )
            points.append(Point(base, _only(base, varied), path))
            continue
        alone = [base | decay for decay in decays or [{}]]
        points += [Point(point, _only(point, varied)) for point in alone]
    return points


def _only(params: Mapping[str, Value], keys: Iterable[str]) -> dict[str, Value]:
    return {key: value for key, value in params.items() if key in keys}


def _listed(name: str, spec: _Spec, key: str, value: Value) -> list[Any]:
    """Return the values of a key, as they are read; one that is no list is a list of one."""
    values = value
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        values = [part.strip(" '\"") for part in value[1:-1].split(",") if value != "[]"]
    if not isinstance(values, list | tuple):
        values = [value]
    read = [_read(name, spec, key, each) for each in values]
    if not read or len(set(read)) < len(read):
        message = f"head {name!r}: {key}={value} must list one value or more, each once"
        raise HeadSpecError(message)
    return read


def build(
    name: str,
    params: Mapping[str, Value] | None = None,
    *,
    weight: Any = None,
    bias: Any = None,
    random_state: int = 0,
) -> Head:
    """Build an unfitted head.

    Parameters
    ----------
    name : str
        One of `SPEC_NAMES`.
    params : mapping, optional
        By key; a value may be the text that a user typed.
    weight, bias : arrays of shape (C, D) and (C,), optional
        Stage 1's classifier, for the heads that start from one (`needs_stage1`).
    random_state : int
        For the heads that draw.

    Raises
    ------
    HeadSpecError
        An unknown name or key, or a value that is not allowed.
    """
    spec = _spec(name)
    given: dict[str, Any] = {}
    for key, value in (params or {}).items():
        read = _read(name, spec, key, value)
        given |= spec.keys[key].sets(key, read)
    given |= {"weight": weight, "bias": bias} if spec.stage1 else {}
    if spec.random:
        given.setdefault("random_state", random_state)
    head = spec.build(**given)
    try:
        head._check_params()
    except HeadInputError as error:
        message = f"head {name!r}: {error}"
        raise HeadSpecError(message) from error
    if "seed" in (params or {}) and _is_exact(head):
        message = f"head {name!r}: seed: only for solver='sgd'; the exact solver draws nothing"
        raise HeadSpecError(message)
    return head


def needs_stage1(name: str, params: Mapping[str, Value] | None = None) -> bool:
    """Tell whether a head starts from the stage-1 classifier."""
    anchor = (params or {}).get("anchor")
    if name == "crt":
        return anchor == "stage1"
    return _spec(name).stage1 and not (name == "balanced-softmax" and anchor == "zero")


def has_path(head: Head) -> bool:
    """Tell whether a head's weight decay is left open and can be chosen along a path."""
    if isinstance(head, JointClassifier) and head.weight is not None:
        return False  # stage 1's classifier as it is
    return isinstance(head, ConvexHead) and _is_exact(head) and head.weight_decay is None


def describe(head: Head) -> dict[str, Any]:
    """Return a head's parameters by the keys of its specification, for a result.

    None is replaced by the value it stands for; a head fitted by steps says how many it took
    (`n_steps`), and whether the floor raised that number (`floored`).
    """
    spec = next((spec for spec in _SPECS.values() if type(head) is spec.build), None)
    if spec is None:
        message = f"{type(head).__name__} has no specification; known are {', '.join(SPEC_NAMES)}"
        raise HeadSpecError(message)
    used = spec.build(**head.fitted_params())
    params = used.get_params(deep=False) | _filled(used, getattr(head, "weight_decay_", None))
    idle = _idle(used)
    described = {
        key: params[how.parameter or key] for key, how in spec.keys.items() if key not in idle
    }
    if not isinstance(described.get("seed", 0), Integral):
        described["seed"] = None  # a generator: what it will draw has no name
    if not described.get("views", 1):
        del described["views"]  # rows as they are: nothing to say
    if isinstance(head, TauNorm):
        described["bias"] = "keep" if params["keep_bias"] else "drop"
    steps = {"n_steps": "n_steps_", "floored": "floored_", "gradient": "gradient_"}
    return described | {key: getattr(head, of) for key, of in steps.items() if hasattr(head, of)}


def _filled(head: Head, weight_decay: float | None) -> dict[str, Any]:
    """Return the values that a head's None stands for; `weight_decay` is what its fit has used."""
    filled: dict[str, Any] = {}
    if isinstance(head, RecipeParams):
        filled |= vars(head._recipe())
    if _is_exact(head) and isinstance(head, ConvexHead):
        usual = head._usual_weight_decay if weight_decay is None else weight_decay
        filled["weight_decay"] = usual if head.weight_decay is None else head.weight_decay
    if isinstance(head, BalancedSoftmax) and head.anchor is None:
        filled["anchor"] = "zero" if head.weight is None else "stage1"
    return filled


def _idle(head: Head) -> set[str]:
    """Return the keys that mean nothing beside a head's other parameters."""
    idle: set[str] = set()
    if isinstance(head, RecipeParams):
        sgd_only = {"lr", "momentum", "batch", "epochs", "per_class", "seed"}
        idle |= sgd_only if _is_exact(head) else {"anchor"}
    if isinstance(head, ClassifierRetraining) and head.weighting != "effective":
        idle.add("beta")
    if isinstance(head, JointClassifier) and head.weight is not None:
        idle.add("weight_decay")  # stage 1's classifier as it is: nothing was fitted
    return idle


def _is_exact(head: Head) -> bool:
    return getattr(head, "solver", "exact") == "exact"


def _spec(name: str) -> _Spec:
    if name not in _SPECS:
        message = (
            f"unknown head {name!r}{_near(name, SPEC_NAMES)}; known are {', '.join(SPEC_NAMES)}"
        )
        raise HeadSpecError(message)
    return _SPECS[name]


def _read(name: str, spec: _Spec, key: str, value: Value) -> Any:
    if key not in spec.keys:
        known = ", ".join(spec.keys)
        message = f"head {name!r} has no parameter {key!r}{_near(key, spec.keys)}; it has {known}"
        raise HeadSpecError(message)
    how = spec.keys[key]
    try:
        return how.read(value)
    except (TypeError, ValueError, OverflowError) as error:
        message = f"head {name!r}: {key} must be {how.what}. Got {value!r} instead."
        raise HeadSpecError(message) from error


def _near(word: str, known: Iterable[str]) -> str:
    """Return the nearest known names in brackets, or nothing."""
    hint = did_you_mean(word, known)
    return f" ({hint})" if hint else ""
