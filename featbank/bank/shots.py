"""Shot thresholds: which classes count as many, medium and few."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featbank.errors import InputError

__all__ = ["Shots"]


@dataclass(frozen=True)
class Shots:
    """Train counts above `many_above` are many, below `few_below` few, the rest medium.

    The defaults are those of Liu et al., "Large-Scale Long-Tailed Recognition in an Open World"
    (CVPR 2019), as the code of Kang et al. (ICLR 2020) applies them: both strict.
    """

    many_above: int = 100
    few_below: int = 20

    def __post_init__(self) -> None:
        if not 0 <= self.few_below <= self.many_above + 1:
            message = (
                f"shot thresholds must satisfy 0 <= few <= many + 1; "
                f"got many > {self.many_above} and few < {self.few_below}"
            )
            raise InputError(message)

    def to_json(self) -> dict[str, Any]:
        """Return the two numbers by name."""
        return asdict(self)

    def groups(self, counts: ArrayLike) -> NDArray[np.uint8]:
        """Return 0 for many, 1 for medium and 2 for few, by train counts (C,)."""
        n_c = np.asarray(counts)
        return (1 - (n_c > self.many_above) + (n_c < self.few_below)).astype(np.uint8)
