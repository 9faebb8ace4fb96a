"""Rules that choose a parameter from its exact curve on a validation split.

The maximum of a step curve chases single rows: its interval can be 0.0002 wide and elsewhere on
another draw of the split. The other rules are steadier; `docs/notes/heads.md` compares them.
"""

from __future__ import annotations

import numpy as np

from heads.curves.chosen import Chosen, Maximum
from heads.curves.curve import StepCurve, widest_top
from heads.errors import HeadInputError

__all__ = ["DEFAULT_RULE", "RULES", "choose_on_curve"]

RULES = ("one-se", "bootstrap", "maximum")
DEFAULT_RULE = "one-se"
DRAWS = 100  # of the bootstrap


def choose_on_curve(
    curve: StepCurve, rule: str = DEFAULT_RULE, metric: str = "all", seed: int = 0
) -> Chosen:
    """Choose the parameter of an exact curve.

    Parameters
    ----------
    curve : StepCurve
    rule : {"one-se", "bootstrap", "maximum"}
        The middle of the run around the maximum whose values lie within one standard error of
        it; the median, over 100 draws of the rows within their classes, of the middle of the
        widest best interval; the middle of the widest best interval itself.
    metric : {"all", "many", "medium", "few", "micro"}
    seed : int
        Of the rule that draws: the same curve and seed give the same choice.

    Returns
    -------
    Chosen
        `best` is rounded to 4 digits: no curve tells more.
    """
    if rule not in RULES:
        message = f"rule must be one of: {', '.join(RULES)}. Got {rule!r} instead."
        raise HeadInputError(message)
    low, high, value = curve.maximum(metric)
    if rule == "maximum":
        best = (low + high) / 2
    elif rule == "one-se":
        best = _one_se_centre(curve, metric, (low + high) / 2)
    else:
        best = _bootstrap_median(curve, metric, seed)
    best = float(min(max(round(best, 4), curve.low), curve.high))
    reached = float(curve.at(best)[metric] or 0.0)
    return Chosen(rule, best, reached, Maximum((low, high), value))


def _one_se_centre(curve: StepCurve, metric: str, best: float) -> float:
    edges, values = curve.steps(metric)
    good = values >= values.max() - curve.standard_error(best)
    here = int(np.searchsorted(edges, best, side="right")) - 1
    before, after = np.flatnonzero(~good[:here]), np.flatnonzero(~good[here:])
    first = before[-1] + 1 if len(before) else 0
    last = here + after[0] if len(after) else len(good)
    return float(edges[first] + edges[last]) / 2


def _bootstrap_median(curve: StepCurve, metric: str, seed: int) -> float:
    rng = np.random.default_rng(seed)
    weights, middles = curve._weights(metric), np.empty(DRAWS)
    order = np.argsort(curve.y_idx, kind="stable")
    total = np.bincount(curve.y_idx)
    total = total[total > 0]
    start = np.repeat(np.cumsum(total) - total, total)
    size = np.repeat(total, total)
    for draw in range(DRAWS):
        drawn = order[start + (rng.random(len(size)) * size).astype(np.int64)]
        times = np.bincount(drawn, minlength=len(order))
        low, high, _ = widest_top(*curve._steps(weights * times))
        middles[draw] = (low + high) / 2
    return float(np.median(middles))
