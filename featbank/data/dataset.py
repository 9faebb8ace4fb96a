"""Any torch data set of images as the splits of an `ImageData`."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featbank.data.decode import to_rgb
from featbank.data.types import ImageData, ImageSplit
from featbank.errors import InputError
from heads.metrics.shots import Shots

__all__ = ["from_datasets"]

_HEAD = struct.Struct("<II")


@dataclass(frozen=True)
class _Items:
    """Images of a data set whose items are ``(image, label, …)``; raw is height, width, RGB."""

    dataset: Any
    name: str

    def raw(self, i: int) -> bytes:
        pixels = _rgb(self.dataset[i][0], f"item {i} of {self.name}")
        return _HEAD.pack(*pixels.shape[:2]) + pixels.tobytes()

    def decode(self, i: int, raw: bytes) -> Image.Image:
        height, width = _HEAD.unpack_from(raw)
        pixels = np.frombuffer(raw, np.uint8, offset=_HEAD.size).reshape(height, width, 3)
        return Image.fromarray(pixels)

    def n_bytes(self, i: int) -> int:
        return len(self.raw(i))  # the size is known only once the image is made


def from_datasets(
    name: str,
    datasets: Mapping[str, Any],
    *,
    labels: Mapping[str, Sequence[int]] | None = None,
    class_names: Sequence[str] | None = None,
    shots: Shots | None = None,
    photographs: bool = True,
) -> ImageData:
    """Return torch data sets as the splits of an `ImageData`, to train on and to extract.

    Parameters
    ----------
    name : str
        The data set's name in every record.
    datasets : mapping
        ``train``, and ``val`` and ``test`` where there are any; each has a length and items
        ``(image, label, …)``. An image is a PIL image, or uint8 pixels (H, W), (H, W, 3) or, as a
        torch tensor, (1 or 3, H, W): without augmentation or normalisation, which featbank adds.
    labels : mapping, optional
        Labels of every item, (N,) ints from 0, by split. Where they are not given, a data set's
        ``targets`` or ``labels`` are taken, and where it has neither, every item is read once.
    class_names : sequence of str, optional
        Names of the classes. Where they are not given, the train data set's ``classes`` are taken,
        and where it has none, "0", "1", …
    shots : Shots, optional
        Thresholds of the shot groups; the usual ones by default.
    photographs : bool
        Whether mirroring and colour jitter keep an image's class.

    Raises
    ------
    InputError
        Labels are out of range or as many as there are no images, or a class has none in train.
    """
    found = {split: _labels(each, split, labels or {}) for split, each in datasets.items()}
    names = class_names or getattr(datasets.get("train"), "classes", None)
    if names is None:
        names = [str(c) for c in range(1 + max(int(each.max()) for each in found.values()))]
    splits = {
        split: ImageSplit([str(i) for i in range(len(each))], found[split], _Items(each, split))
        for split, each in datasets.items()
    }
    return ImageData(
        name, [str(each) for each in names], splits, shots or Shots(), None, photographs
    )


def _labels(dataset: Any, split: str, given: Mapping[str, Sequence[int]]) -> NDArray[np.int64]:
    values = given.get(split)
    for attribute in ("targets", "labels"):
        values = getattr(dataset, attribute, None) if values is None else values
    if values is None:
        values = [dataset[i][1] for i in range(len(dataset))]
    labels = np.asarray(values)
    if labels.shape != (len(dataset),) or labels.dtype.kind not in "iu" or not labels.size:
        message = (
            f"split {split!r} has {len(dataset)} images and labels {labels.dtype} of shape "
            f"{labels.shape}; give one integer for each with labels="
        )
        raise InputError(message)
    return labels.astype(np.int64)


def _rgb(image: Any, what: str) -> NDArray[np.uint8]:
    """Return an image as pixels (H, W, 3)."""
    if isinstance(image, Image.Image):
        try:
            return np.asarray(to_rgb(image))
        except ValueError as error:
            message = f"{what} cannot be used: {error}"
            raise InputError(message) from error
    channels_first = hasattr(image, "numpy")
    array = np.asarray(image.numpy() if channels_first else image)
    if channels_first and array.ndim == 3:
        array = array.transpose(1, 2, 0)
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1):
        array = np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        message = (
            f"{what} is {array.dtype} of shape {array.shape}, no PIL image and no uint8 pixels; "
            "give the data set without its transform"
        )
        raise InputError(message)
    return np.ascontiguousarray(array)
