"""Shot groups: which classes have many training rows, which few.

Plain numpy, so that banks use the same thresholds and groups without loading an engine.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heads.errors import HeadInputError

__all__ = ["FEW", "GROUPS", "MANY", "MEDIUM", "ShotGroups", "Shots"]

MANY, MEDIUM, FEW = 0, 1, 2
GROUPS = ("many", "medium", "few")


@dataclass(frozen=True)
class Shots:
    """Train counts above `many_above` are many, below `few_below` few, the rest medium.

    The defaults are those of Liu et al., "Large-Scale Long-Tailed Recognition in an Open World"
    (CVPR 2019), as the code of Kang et al. (ICLR 2020) applies them: both strict.

    Raises
    ------
    HeadInputError
        Thresholds that are not numbers, or by which a class would be both many and few.
    """

    many_above: int = 100
    few_below: int = 20

    def __post_init__(self) -> None:
        if not 0 <= self.few_below <= self.many_above + 1:
            message = (
                f"shot thresholds must satisfy 0 <= few <= many + 1; "
                f"got many > {self.many_above} and few < {self.few_below}"
            )
            raise HeadInputError(message)

    def to_json(self) -> dict[str, int]:
        """Return the two numbers by name."""
        return asdict(self)

    def groups(self, counts: ArrayLike) -> NDArray[np.int8]:
        """Return the group of each class, (C,): `MANY`, `MEDIUM` or `FEW`, by train counts (C,)."""
        n_c = np.asarray(counts)
        found = np.full(n_c.shape, MEDIUM, dtype=np.int8)
        found[n_c > self.many_above] = MANY
        found[n_c < self.few_below] = FEW
        return found


@dataclass(frozen=True, eq=False)
class ShotGroups:
    """The classes of a task, by how many training rows each has.

    Attributes
    ----------
    counts : ndarray of shape (C,)
        Training rows of each class.
    shots : Shots
        The thresholds; those of the paper where none are given.

    Raises
    ------
    HeadInputError
        Counts that are not numbers from 0.
    """

    counts: NDArray[Any]
    shots: Shots = field(default_factory=Shots)

    def __post_init__(self) -> None:
        n_c = np.asarray(self.counts)
        good = n_c.ndim == 1 and n_c.dtype.kind in "biuf"
        if not (good and np.isfinite(n_c).all() and (n_c >= 0).all()):
            message = "counts must hold a number of rows, at least 0, for each class (C,)"
            raise HeadInputError(message)
        object.__setattr__(self, "counts", n_c)

    @classmethod
    def of(cls, groups: ShotGroups | ArrayLike) -> ShotGroups:
        """Return the groups; of an array of counts (C,), those at the usual thresholds."""
        return groups if isinstance(groups, ShotGroups) else cls(np.asarray(groups))

    def __len__(self) -> int:
        """Return the number of classes, C."""
        return len(self.counts)

    @cached_property
    def of_class(self) -> NDArray[np.int8]:
        """The group of each class, (C,): `MANY`, `MEDIUM` or `FEW`."""
        return self.shots.groups(self.counts)
