"""What a data set of images is, wherever it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featbank.rows import SplitRows, check_rows
from featbank.shots import Shots

__all__ = ["ImageData", "ImageSplit"]


@dataclass(frozen=True)
class ImageSplit(SplitRows):
    """Ids (N strings), labels (N,) int64 and images of one split, in data-set order.

    ``load(i)`` returns image i, RGB, or raises `InputError` with one line that names the file.
    It is called in worker processes, so it must survive being sent there.
    """

    load: Callable[[int], Image.Image]


@dataclass(frozen=True)
class ImageData:
    """A named data set: its splits (``train`` among them), its classes and its shot thresholds.

    Attributes
    ----------
    native_size
        Side in pixels that all images have, or None where sizes differ.
    photographs
        Whether mirroring and colour jitter keep an image's class; a mirrored digit is none.
    counts
        Training images per class, (C,) int64.

    Raises
    ------
    InputError
        There is no train split, a split is empty, a label is out of range, or a class has no
        training image.
    """

    name: str
    class_names: Sequence[str]
    splits: Mapping[str, ImageSplit]
    shots: Shots = field(default_factory=Shots)
    native_size: int | None = None
    photographs: bool = True
    counts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", check_rows(self.splits, self.class_names))
