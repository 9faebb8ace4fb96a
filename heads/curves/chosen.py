"""What a rule says of a curve."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Chosen", "Maximum"]


@dataclass(frozen=True)
class Maximum:
    """The greatest value of a curve, and the widest interval on which it is reached.

    Attributes
    ----------
    interval : tuple of two floats
        The lowest and the highest parameter.
    value : float
        The value there, as a fraction.
    """

    interval: tuple[float, float]
    value: float


@dataclass(frozen=True)
class Chosen:
    """The parameter that a rule chose on a curve.

    Attributes
    ----------
    rule : str
        The name of the rule.
    best : float
        The parameter.
    value : float
        The value of the curve there, as a fraction.
    maximum : Maximum
    """

    rule: str
    best: float
    value: float
    maximum: Maximum
