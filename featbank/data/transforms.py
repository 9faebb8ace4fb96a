"""From an RGB image to the numbers a network sees, by torchvision's transforms."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

__all__ = [
    "InputSpec",
    "Transform",
    "augmentation",
    "eval_transform",
    "fingerprint",
    "train_transform",
]

Transform = Callable[[Image.Image], Tensor]

# RandomResizedCrop's usual range (Szegedy et al., 2015) on photographs. A tiny image loses its
# class in an eighth of its area.
_SCALE, _TINY_SCALE, _TINY_SIDE = (0.08, 1.0), (0.5, 1.0), 64
# The colour jitter of Kang et al. (2020): data/dataloader.py in their code.
_JITTER = 0.4
_PADDING = 4


@dataclass(frozen=True)
class InputSpec:
    """What a backbone wants to see: side in pixels, normalisation, interpolation, centre crop.

    `crop` is the side's share of the resized image's shorter side (1: no border is cut off).
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    crop: float = 1.0

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> InputSpec:
        """Return the spec that ``dataclasses.asdict`` wrote."""
        pairs = {"mean": tuple(record["mean"]), "std": tuple(record["std"])}
        return cls(**{**record, **pairs})


def _to_normalised(spec: InputSpec) -> list[Any]:
    return [
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(spec.mean, spec.std),
        v2.ToPureTensor(),
    ]


def eval_transform(spec: InputSpec) -> Transform:
    """Return resize of the shorter side, centre crop and normalisation: no draws."""
    resized = int(spec.size / spec.crop)
    mode = InterpolationMode(spec.interpolation)
    steps = [v2.Resize(resized, interpolation=mode), v2.CenterCrop(spec.size)]
    composed: Transform = v2.Compose(steps + _to_normalised(spec))
    return composed


def train_transform(
    spec: InputSpec, photographs: bool = True, *, pad_crop: bool = False
) -> Transform:
    """Return random resized crop, for photographs flip and colour jitter, and normalisation.

    With `pad_crop`: resize, 4 pixels of zeros around, a random crop and for photographs a flip,
    as He et al., "Deep Residual Learning" (CVPR 2016), section 4.2, on CIFAR.

    Draws come from torch's process-wide generator, as torchvision has it; the caller isolates it.
    """
    if pad_crop:
        return _pad_crop(spec, photographs)
    scale = _TINY_SCALE if spec.size < _TINY_SIDE else _SCALE
    mode = InterpolationMode(spec.interpolation)
    steps = [v2.RandomResizedCrop(spec.size, scale=scale, interpolation=mode)]
    if photographs:
        jitter = v2.ColorJitter(brightness=_JITTER, contrast=_JITTER, saturation=_JITTER)
        steps += [v2.RandomHorizontalFlip(), jitter]
    composed: Transform = v2.Compose(steps + _to_normalised(spec))
    return composed


def augmentation(
    spec: InputSpec, augment: str, photographs: bool, native_size: int | None
) -> Transform:
    """Return how training images are varied: ``resized-crop``, ``pad-crop`` or ``auto``.

    ``auto`` pads and crops small photographs that have the network's size, `native_size`.
    """
    small = photographs and native_size == spec.size
    pad_crop = augment == "pad-crop" or (augment == "auto" and small)
    return train_transform(spec, photographs, pad_crop=pad_crop)


def _pad_crop(spec: InputSpec, photographs: bool) -> Transform:
    mode = InterpolationMode(spec.interpolation)
    steps = [
        v2.Resize((spec.size, spec.size), interpolation=mode),
        v2.RandomCrop(spec.size, padding=_PADDING),
    ]
    flip = [v2.RandomHorizontalFlip()] if photographs else []
    composed: Transform = v2.Compose([*steps, *flip, *_to_normalised(spec)])
    return composed


def _fixed_image() -> Image.Image:
    """Return an image that is the same everywhere: integers only, all frequencies, not square."""
    y, x, channel = np.ogrid[:360, :480, :3]
    pattern = (x * x + 3 * y * y + x * y * (channel + 1)) // 7 + 31 * channel
    return Image.fromarray((pattern % 256).astype(np.uint8))


def fingerprint(transform: Transform) -> str:
    """Return the SHA-256 of a transform's output on one fixed image.

    It moves when a library changes what the same words mean, which its `repr` does not show.
    """
    output = transform(_fixed_image()).contiguous()
    return hashlib.sha256(output.numpy().tobytes()).hexdigest()
