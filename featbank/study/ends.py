"""Parameters that were chosen at an end of what was tried, beyond which better ones may lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from featbank.results.records import Candidate, Selection

__all__ = ["end_note", "ends_of", "without"]


def ends_of(chosen: Selection | None, tried: Sequence[Candidate]) -> list[str]:
    """Name the parameters that were chosen at an end of what was tried: better may lie beyond it.

    What was tried of a parameter is what was tried beside the chosen values of the others. Of two
    values one is always an end, and a seed has no beyond; neither is named.
    """
    params = [point.params for point in tried]
    best = chosen_values(chosen, params)
    said = []
    for key, value in best.items():
        others = without(best, (key,))
        beside = [each for each in params if others.items() <= each.items()]
        numbers = sorted({float(each[key]) for each in beside if is_number(each.get(key))})
        if key != "seed" and is_number(value) and len(numbers) > 2:
            said += end_note(key, float(value), numbers[0], numbers[-1], upper_end(chosen))
    return said


def end_note(key: str, value: float, low: float, high: float, reaches: float | None) -> list[str]:
    """Say where a chosen value is an end of its range, or where the best values reach the end.

    Parameters
    ----------
    key : str
        The parameter's name.
    value : float
        What was chosen.
    low, high : float
        The ends of the range that was tried.
    reaches : float or None
        Where the interval of the best values of a curve ends; None where there is no curve.

    Returns
    -------
    list of str
        One sentence, or none.
    """
    if value in (low, high):
        return [f"{key}={value:g} is the end of the range {low:g}..{high:g}"]
    if reaches is not None and reaches >= high:
        return [f"the best values reach from {key}={value:g} to the end of {low:g}..{high:g}"]
    return []


def upper_end(chosen: Selection | None) -> float | None:
    """Return where the interval of the best values of a curve ends, where there is one."""
    inner = None if chosen is None else chosen.then or chosen
    interval = None if inner is None else (inner.maximum or {}).get("interval")
    return None if interval is None else float(interval[1])


def chosen_values(chosen: Selection | None, tried: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what was chosen, by parameter, what was chosen within a grid's point too.

    `tried` are the parameters of every point that was tried.
    """
    if chosen is None or not tried:
        return {}
    keys = chosen.grid or list(tried[0])
    best = chosen.best if isinstance(chosen.best, dict) else {keys[0]: chosen.best}
    inner = [without(params, best) for params in tried if best.items() <= params.items()]
    return best | chosen_values(chosen.then, inner)


def is_number(value: Any) -> bool:
    """Tell whether a parameter's value is a number; True and False are words here."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def without(params: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Return parameters but for some."""
    return {key: value for key, value in params.items() if key not in keys}
