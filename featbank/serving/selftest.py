"""Pictures with the pixels and scores that a model gave of them when it was exported."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featbank.data.loader import BatchPlan, eval_batches, image_loader
from featbank.data.transforms import InputSpec, pixel_transform
from featbank.errors import DamagedError, FeatbankError, InputError
from featbank.importing import read_arrays
from featbank.serving.backends import Backend
from featbank.serving.images import on_disk

__all__ = ["ARRAYS", "Expected", "check", "expected_of", "files_of", "pictures"]

ARRAYS = "self_test.npz"
_NAMES = ("self_test_0.png", "self_test_1.png", "self_test_2.png")
_SIZES = ((181, 240), (97, 64), (300, 300))
# Pixels may differ by this much, where another version of Pillow rounds otherwise.
_PIXEL_STEPS = 1
# Scores may differ by this part of the largest, where another machine sums in another order.
_SCORE_PART = 1e-3


@dataclass(frozen=True, eq=False)
class Expected:
    """What a model made of the pictures.

    Attributes
    ----------
    pixels : ndarray of shape (n, 3, H, W), uint8
        The pictures as the network is shown them, before they are normalised.
    scores : ndarray of shape (n, C), float32
    """

    pixels: NDArray[np.uint8]
    scores: NDArray[np.float32]


def pictures() -> list[Image.Image]:
    """Return three pictures that are the same on every machine: slopes, edges and noise.

    Their sizes make the transform enlarge, shrink and crop.
    """
    made = []
    for number, (height, width) in enumerate(_SIZES):
        y, x = np.mgrid[:height, :width]
        slope = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=2)
        squares = ((x // 16 + y // 16) % 2)[..., None] * 90
        noise = np.random.default_rng(number).integers(0, 60, (height, width, 3))
        made.append(Image.fromarray(((slope + squares + noise) % 256).astype(np.uint8)))
    return made


def files_of(expected: Expected) -> dict[str, bytes]:
    """Return the files of the self-test by name: the pictures, and what is expected of them."""
    files = {}
    for name, picture in zip(_NAMES, pictures(), strict=True):
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        files[name] = buffer.getvalue()
    buffer = io.BytesIO()
    np.savez(buffer, pixels=expected.pixels, scores=expected.scores)
    return files | {ARRAYS: buffer.getvalue()}


def expected_of(folder: Path, spec: InputSpec, backend: Backend) -> Expected:
    """Return what a backend makes of the pictures in a folder."""
    split = on_disk([str(folder / name) for name in _NAMES])
    plan = BatchPlan(eval_batches(len(split), len(split)))
    with image_loader(split, pixel_transform(spec), spec.size, plan) as loader:
        batch = next(iter(loader))
    if batch.bad:
        message = f"{next(iter(batch.bad.values()))}: the model's own picture"
        raise DamagedError(message)
    scores, _ = backend(batch.images)
    return Expected(batch.images.numpy().astype(np.uint8), np.asarray(scores, np.float32))


def check(folder: Path, spec: InputSpec, n_classes: int, backend: Backend) -> float:
    """Run the self-test of a model's folder; return the largest difference of a score.

    Parameters
    ----------
    folder : Path
    spec : InputSpec
        How the network sees images.
    n_classes : int
        The scores that an image must get, C.
    backend : Backend
        What computes them.

    Raises
    ------
    DamagedError
        The pictures are not seen, or not scored, as they were when the model was exported.
    """
    want = read_expected(folder)
    try:
        found = expected_of(folder, spec, backend)
    except FeatbankError:
        raise
    except Exception as error:  # a program of somebody else's may raise anything
        message = f"{folder}: its network cannot be run: {' '.join(str(error).split())[:200]}"
        raise DamagedError(message) from error
    shape = (len(want.pixels), n_classes)
    if want.pixels.shape != found.pixels.shape or {want.scores.shape, found.scores.shape} != {
        shape
    }:
        message = f"{folder}: its self-test is of another network; export the model again"
        raise DamagedError(message)
    apart = np.abs(found.pixels.astype(np.int16) - want.pixels.astype(np.int16)).max()
    if apart > _PIXEL_STEPS:
        message = (
            f"{folder}: images are resized differently here than where the model was exported (by "
            f"{apart} of 255); its scores would be others, so compare the versions of Pillow"
        )
        raise DamagedError(message)
    difference = float(np.abs(found.scores - want.scores).max())
    if not difference <= _SCORE_PART * max(1.0, float(np.abs(want.scores).max())):
        message = (
            f"{folder}: the self-test's scores differ by {difference:.3g} from those at export, so "
            "the model does not compute here what it did"
        )
        raise DamagedError(message)
    return difference


def read_expected(folder: Path) -> Expected:
    """Read what is expected of the pictures."""
    try:
        arrays: Mapping[str, NDArray[np.generic]] = read_arrays(folder / ARRAYS)
    except InputError as error:
        raise DamagedError(str(error)) from error
    shapes: Sequence[int] = [arrays[name].ndim for name in ("pixels", "scores") if name in arrays]
    if shapes != [4, 2]:
        message = f"{folder / ARRAYS} holds no pixels and scores; export the model again"
        raise DamagedError(message)
    return Expected(arrays["pixels"].astype(np.uint8), arrays["scores"].astype(np.float32))
