"""Checks of the parameters of estimators, in scikit-learn's words."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np

from heads.errors import HeadInputError

__all__ = ["MOST_DECAY", "check_flag", "check_number", "check_one_of", "check_random_state"]

# The smallest normal number and the largest number of float32.
_LEAST, _MOST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
# A weight decay beyond this leaves weights that are nothing but rounding.
MOST_DECAY = 1e12


def check_one_of(owner: str, name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is not one of some words.

    Parameters
    ----------
    owner, name : str
        The class and its parameter, for the message.
    value : object
    allowed : tuple of str

    Raises
    ------
    HeadInputError
    """
    if not isinstance(value, str) or value not in allowed:
        words = ", ".join(allowed)
        message = (
            f"The {name!r} parameter of {owner} must be one of: {words}. Got {value!r} instead."
        )
        raise HeadInputError(message)


def check_number(
    owner: str,
    name: str,
    value: object,
    *,
    low: float,
    high: float = math.inf,
    whole: bool = False,
    above: bool = False,
) -> None:
    """Refuse a value that is no number of a range, or that float32 cannot hold.

    Features are most often computed in float32, where 1e39 is infinity and 1e-50 is 0.

    Parameters
    ----------
    owner, name : str
        The class and its parameter, for the message.
    value : object
    low, high : float
        The ends of the range, which belong to it.
    whole : bool, default False
        Whether only whole numbers are allowed.
    above : bool, default False
        Whether `low` itself is refused.

    Raises
    ------
    HeadInputError
    """
    kind = Integral if whole else Real
    good = isinstance(value, kind) and not isinstance(value, bool | np.bool_)
    number = _as_float(value) if good else math.nan
    held = number == 0 or _LEAST <= abs(number) <= _MOST  # NaN and infinity are not
    if held and low <= number <= high and not (above and number == low):
        return
    what = "a whole number" if whole else "a number"
    bound = f"above {low:g}" if above else f"of at least {low:g}"
    bound += f" and at most {high:g}" if number > high else ""
    if math.isfinite(number) and number >= low and not held:
        bound += f", and one that float32 can hold: 0, or from {_LEAST:.1e} to {_MOST:.1e} in size"
    shown = f"{value!r}" if len(f"{value!r:.60}") < 60 else f"{value!r:.60}..."
    message = f"The {name!r} parameter of {owner} must be {what} {bound}. Got {shown} instead."
    raise HeadInputError(message)


def _as_float(value: Any) -> float:
    """Return a number as a float, infinity where a float has no room for it."""
    try:
        return float(value)
    except OverflowError:  # a whole number of more digits than a float has room for
        return math.inf if value > 0 else -math.inf


def check_random_state(owner: str, value: object) -> None:
    """Refuse a value that is not None, a whole number of at least 0 or a generator of numpy's."""
    whole = isinstance(value, Integral) and not isinstance(value, bool | np.bool_)
    if whole and int(value) >= 0:  # type: ignore[call-overload]
        return
    generators = (np.random.Generator, np.random.BitGenerator, np.random.SeedSequence)
    if value is None or isinstance(value, (*generators, np.random.RandomState)):
        return
    message = (
        f"The 'random_state' parameter of {owner} must be None, a generator of numpy's or a whole "
        f"number of at least 0. Got {value!r} instead."
    )
    raise HeadInputError(message)


def check_flag(owner: str, name: str, value: object) -> None:
    """Refuse a `value` that is neither True nor False."""
    if not isinstance(value, bool | np.bool_):
        message = f"The {name!r} parameter of {owner} must be True or False. Got {value!r} instead."
        raise HeadInputError(message)
