"""How often a head is right when it says that it is sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.report.pack import smallest

__all__ = ["BINS", "Reliability", "reliability_bins"]

# As Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), and the ECE in the table.
BINS = 15


@dataclass(frozen=True, eq=False)
class Reliability:
    """Rows, mean confidence and accuracy of each bin of confidence, NaN where a bin is empty."""

    rows: NDArray[Any]
    confidence: NDArray[np.float32]
    accuracy: NDArray[np.float32]


def reliability_bins(
    confidence: NDArray[np.float32], right: NDArray[np.bool_], bins: int = BINS
) -> Reliability:
    """Return rows, mean confidence and accuracy of each bin ((m-1)/bins, m/bins], NaN where empty.

    Guo et al. (ICML 2017), eq. 1 and section 2; `confidence` (n,) in [0, 1], rows where
    it is not known left out; `right` (n,).
    """
    known = np.isfinite(confidence)
    confidence, right = confidence[known], right[known]
    index = np.clip(np.ceil(confidence.astype(np.float64) * bins).astype(np.int64) - 1, 0, bins - 1)
    rows = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        sure = np.bincount(index, confidence.astype(np.float64), minlength=bins) / rows
        hit = np.bincount(index, right.astype(np.float64), minlength=bins) / rows
    return Reliability(smallest(rows), sure.astype(np.float32), hit.astype(np.float32))
