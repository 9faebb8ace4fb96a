"""Reading the parameters of a data spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from featbank.errors import InputError
from featbank.runtime.names import require_known
from heads.metrics.shots import Shots

__all__ = ["Params", "choice", "grey_bits_from", "number", "shots_from", "whole_number"]

Params = Mapping[str, Any]


def number(params: Params, key: str, default: float) -> float:
    """Return a parameter as a float."""
    value = params.get(key, default)
    try:
        return float(value)
    except (TypeError, ValueError):
        message = f"data parameter {key}={value!r} is not a number"
        raise InputError(message) from None


def whole_number(params: Params, key: str, default: int) -> int:
    """Return a parameter as an int that is not negative."""
    value = number(params, key, default)
    if not value.is_integer() or value < 0:
        message = f"data parameter {key}={params[key]!r} is not a whole number from 0"
        raise InputError(message)
    return int(value)


def choice(params: Params, key: str, default: str, known: Sequence[str]) -> str:
    """Return a parameter that must be one of some words.

    Parameters
    ----------
    params : mapping
        The data set's parameters.
    key : str
        The parameter's name.
    default : str
        What stands for a parameter that is not given.
    known : sequence of str
        The words that are allowed; ``yes`` and ``no`` may also be given as booleans, as which YAML
        reads them.

    Raises
    ------
    InputError
        Another word.
    """
    value = params.get(key, default)
    # YAML reads yes and no as booleans.
    text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    require_known(f"value of {key}", text, known)
    return text


def shots_from(params: Params, default: Shots) -> Shots:
    """Return the shot thresholds: parameters ``many`` and ``few``, or the data set's own."""
    return Shots(
        many_above=whole_number(params, "many", default.many_above),
        few_below=whole_number(params, "few", default.few_below),
    )


def grey_bits_from(params: Params) -> int | None:
    """Return how many bits the values of deep grey images have, where the user says so."""
    if "grey_bits" not in params:
        return None
    bits = whole_number(params, "grey_bits", 0)
    if not 1 <= bits <= 31:
        message = f"grey_bits must be from 1 to 31; got {bits}"
        raise InputError(message)
    return bits
