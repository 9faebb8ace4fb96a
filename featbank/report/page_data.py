"""Everything that the page and the figures show of a comparison, as records.

The fields of each record are the names in the page's JSON object, in their order; the scripts of
the page read them. Arrays are packed when the page is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.report.classes import ClassSet
from featbank.report.confusion import Confusions
from featbank.report.gallery import Gallery
from featbank.report.provenance import ProvenanceRow
from featbank.report.reliability import Reliability
from featbank.results.compared import ComparisonSettings, SeedGroup
from featbank.results.records import Calibration, Interval, Metrics, Selection

__all__ = [
    "PageBank",
    "PageCell",
    "PageCurve",
    "PageData",
    "PageDifference",
    "PageView",
    "Plane",
    "Points",
]


@dataclass(frozen=True, eq=False)
class Points:
    """Points in a plane, in whole steps of their extent.

    Attributes
    ----------
    extent : tuple of four floats
        The least and the greatest first coordinate, then the same of the second.
    units : int
        The number of steps in the extent.
    xy : ndarray of shape (2 n,)
        The first coordinates of all points, then the second ones.
    """

    extent: tuple[float, ...]
    units: int
    xy: NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class PageView:
    """The sample of a bank's reported split: labels (n,), and points in one or two planes."""

    labels: NDArray[Any]
    pca: Points
    tsne: Points | None


@dataclass(frozen=True, eq=False)
class PageCurve:
    """The accuracy of a head over its parameter.

    Attributes
    ----------
    head : str
    parameter : ndarray of shape (m,)
        The values of the parameter.
    best : float or None
        The value that was chosen on this curve, where one was.
    splits : mapping
        From a split to the accuracy of each shot group (m,); None for a group without classes.
    """

    head: str
    parameter: NDArray[np.float32]
    best: float | None
    splits: Mapping[str, Mapping[str, NDArray[np.float32] | None]]


@dataclass(frozen=True, eq=False)
class PageBank:
    """A bank: where it came from, its sample and its exact curves.

    Attributes
    ----------
    name : str
        The bank's name, marked where a head's parameter was chosen on the reported split.
    slug : str
        The name of the bank's folder.
    digest : str
        The bank's digest.
    recipe : mapping
        How the network was trained, where that is known.
    classes : int
        The place of its classes among the sets of classes of the page.
    view : PageView
        The sample of the reported split.
    curves : tuple of PageCurve
        One for each head that has an exact curve.
    """

    name: str
    slug: str
    digest: str
    recipe: Mapping[str, Any]
    classes: int
    view: PageView
    curves: tuple[PageCurve, ...]


@dataclass(frozen=True, eq=False)
class Plane:
    """What a head says of the points of a plane.

    Attributes
    ----------
    size : int
        The number of steps along each axis.
    grid : ndarray of shape (size * size,)
        The class of each point, or its shot group where colours do not suffice for the classes.
        Row i of the grid is at the i-th step of the second axis, from below.
    extent : tuple of four floats
        The ends of the two axes.
    """

    size: int
    grid: NDArray[Any]
    extent: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class PageCell:
    """One head on one bank: its result, and what is drawn of it.

    Attributes
    ----------
    bank, head : int
        The places of the bank and the head in the lists of the page.
    metrics, ci95, params, selected_on, selection, seconds, calibration
        As the comparison's result has them; `metrics` has the error too.
    dishonest : bool
        Whether a parameter was chosen on the split that is reported.
    hits : ndarray of shape (C,) or None
        The rows of each class that were predicted as it; None where they are left out.
    norms : ndarray or None
        The norm of each class's weight, from the largest class on; None for a head without weights.
    wrong : ndarray of bytes
        As bits, which of the sampled rows the head gets wrong.
    """

    bank: int
    head: int
    metrics: Metrics
    ci95: Mapping[str, Interval | None]
    params: Mapping[str, Any]
    selected_on: str | None
    selection: Selection | None
    seconds: float
    calibration: Calibration
    dishonest: bool
    hits: NDArray[Any] | None
    norms: NDArray[np.float32] | None
    confusion: Confusions
    reliability: Reliability
    plane: Plane
    wrong: NDArray[np.uint8]


@dataclass(frozen=True)
class PageDifference:
    """A difference between two results.

    Attributes
    ----------
    a, b : int
        The places of the two results in the list of cells; the difference is `a` minus `b`.
    metric, difference, ci95, p_bootstrap, p_mcnemar, p_adjusted, p_mcnemar_adjusted, paired
        As in `featbank.results.compared.Difference`.
    """

    a: int
    b: int
    metric: str
    difference: float
    ci95: Interval
    p_bootstrap: float
    p_mcnemar: float | None
    p_adjusted: float
    p_mcnemar_adjusted: float | None
    paired: bool


@dataclass(frozen=True, eq=False)
class PageData:
    """Everything that is shown of a comparison.

    Attributes
    ----------
    settings : ComparisonSettings
        How the banks were compared; `select` and `report` are always named where they are known.
    heads : tuple of str
        The specifications of the heads.
    banks : tuple of PageBank
    classes : tuple of ClassSet
        The different sets of classes among the banks; most comparisons have one.
    cells : tuple of PageCell
        One for each bank and head.
    comparisons : tuple of PageDifference
    groups : tuple of SeedGroup
    provenance : tuple of ProvenanceRow
    notes : tuple of str
        What a reader has to know beside the numbers, and what was left out of the page.
    by_group : bool
        Whether the feature view is coloured by shot group, there being too many classes.
    gallery : Gallery or None
        The most confident mistakes of each result, where they were asked for.
    """

    settings: ComparisonSettings
    heads: tuple[str, ...]
    banks: tuple[PageBank, ...]
    classes: tuple[ClassSet, ...]
    cells: tuple[PageCell, ...]
    comparisons: tuple[PageDifference, ...]
    groups: tuple[SeedGroup, ...]
    provenance: tuple[ProvenanceRow, ...]
    notes: tuple[str, ...]
    by_group: bool
    gallery: Gallery | None = None

    def of_bank(self, bank: int) -> tuple[PageCell, ...]:
        """Return the cells of one bank."""
        return tuple(cell for cell in self.cells if cell.bank == bank)

    def classes_of(self, bank: int) -> ClassSet:
        """Return the classes of one bank."""
        return self.classes[self.banks[bank].classes]
