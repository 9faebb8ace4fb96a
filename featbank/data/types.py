"""What a data set of images is, wherever it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featbank.bank.rows import SplitRows, check_rows
from featbank.data.formats.class_names import require_names, twins
from heads.metrics.shots import Shots

__all__ = ["ImageData", "ImageSplit", "Images"]


class Images(Protocol):
    """Where the images of a split come from; it must be picklable, to be sent to processes.

    `raw` and `decode` raise `InputError`, one line that names the file, where an image cannot be
    read.
    """

    def raw(self, i: int) -> bytes:
        """Return the bytes of image i, of which its digest is taken."""

    def decode(self, i: int, raw: bytes) -> Image.Image:
        """Return the RGB image in the bytes of image i."""

    def n_bytes(self, i: int) -> int:
        """Return the number of bytes of image i without reading it; -1 where it is gone."""


@dataclass(frozen=True)
class ImageSplit(SplitRows):
    """Ids (N strings), labels (N,) int64 and images of one split, in data-set order."""

    images: Images

    def load(self, i: int) -> Image.Image:
        """Return image i, RGB."""
        return self.images.decode(i, self.images.raw(i))


@dataclass(frozen=True)
class ImageData:
    """A named data set: its splits (``train`` among them), its classes and its shot thresholds.

    Attributes
    ----------
    name : str
        The data set's name in every record.
    class_names : sequence of str
        Names of the C classes.
    splits : mapping
        `ImageSplit` by the split's name.
    shots : Shots
        Thresholds of the shot groups.
    native_size : int or None
        Side in pixels that all images have, or None where sizes differ.
    photographs : bool
        Whether mirroring and colour jitter keep an image's class; a mirrored digit is no digit.
    settings : mapping
        What the splits were drawn by (seed, imbalance, …), for the record; empty where they were
        not drawn.
    passed_over : sequence of str
        One sentence for everything that was left out: files that are no images, links in circles.
    counts : ndarray of shape (C,), int64
        Training images of each class.

    Raises
    ------
    InputError
        There is no train split, a split is empty, a label is out of range, a class has no
        training image, or a class's name cannot be shown.
    """

    name: str
    class_names: Sequence[str]
    splits: Mapping[str, ImageSplit]
    shots: Shots = field(default_factory=Shots)
    native_size: int | None = None
    photographs: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    passed_over: Sequence[str] = ()
    counts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        require_names(self.class_names)
        object.__setattr__(self, "counts", check_rows(self.splits, self.class_names))

    @property
    def notes(self) -> list[str]:
        """What a person should know of the data before anything is computed from them."""
        return [*self.passed_over, *twins(self.class_names)]
