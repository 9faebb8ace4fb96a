"""From an RGB image to the numbers a network sees, by torchvision's transforms."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from featbank.errors import InputError

__all__ = [
    "CROP_MODES",
    "InputSpec",
    "Size",
    "Transform",
    "augmentation",
    "eval_transform",
    "fingerprint",
    "pixel_transform",
    "sides",
    "size_text",
    "train_transform",
]

Transform = Callable[[Image.Image], Tensor]
# A square's side in pixels, or height and width.
Size = int | tuple[int, int]

CROP_MODES = ("center", "squash", "border")
# The longest side that an image may be given; at this size one takes 3 GB of float32.
MOST_SIDE = 1 << 14

# The share of an image's area that a random crop keeps. The first is usual for photographs
# (Szegedy et al., 2015). A crop of an eighth of a tiny image no longer shows its class, so images
# below _TINY_SIDE pixels keep at least half.
_SCALE, _TINY_SCALE, _TINY_SIDE = (0.08, 1.0), (0.5, 1.0), 64
# The colour jitter of Kang et al. (2020): data/dataloader.py in their code.
_JITTER = 0.4
_PADDING = 4


# Pillow refuses to decode more pixels than this (twice its MAX_IMAGE_PIXELS). What an image is
# resized to has the same limit: the shorter side of a strip of 30,000 x 10 pixels, brought to 224,
# would make an image of 600 MB.
MOST_PIXELS = 2 * (1 << 30) // 12


def sides(size: Size) -> tuple[int, int]:
    """Return height and width in pixels."""
    return size if isinstance(size, tuple) else (size, size)


def size_text(size: Size) -> str:
    """Return a size as text for messages: ``224``, or ``1024 x 768`` (height x width)."""
    return str(size) if isinstance(size, int) else " x ".join(map(str, size))


@dataclass(frozen=True)
class InputSpec:
    """How an image is brought to what a backbone takes: its size and normalisation.

    Attributes
    ----------
    size : int or pair of int
        A square's side in pixels, or (height, width).
    mean, std : tuple of three floats
        Mean and standard deviation of each channel, on the scale of [0, 1].
    interpolation : str
        The resize filter.
    crop : float
        `size` as a share of what the image is resized to before the crop; 1 cuts no border off.
    crop_mode : {"center", "squash", "border"}
        As in timm: ``center`` resizes the shorter side and cuts off what is over, ``squash``
        resizes both sides and does not keep their ratio, ``border`` resizes the longer side and
        fills the rest with the mean.
    """

    size: Size
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    crop: float = 1.0
    crop_mode: str = "center"

    def __post_init__(self) -> None:
        shape = sides(self.size)
        good = len(shape) == 2 and all(
            type(each) is int and 1 <= each <= MOST_SIDE for each in shape
        )
        for name, fine, wanted in (
            ("size", good, f"one or two whole numbers from 1 to {MOST_SIDE}"),
            ("mean", _three_numbers(self.mean), "three numbers"),
            ("std", _three_numbers(self.std) and min(self.std) > 0, "three numbers above 0"),
            ("crop", 0.01 <= self.crop <= 100, "from 0.01 to 100"),
            ("crop_mode", self.crop_mode in CROP_MODES, f"one of {', '.join(CROP_MODES)}"),
        ):
            if not fine:
                message = f"the input's {name} must be {wanted}; got {getattr(self, name)!r}"
                raise InputError(message)

    def to_json(self) -> dict[str, Any]:
        """Return the record of it; ``crop_mode`` is left out where it is ``center``.

        Records that were written before there was a choice have no such entry, and must compare
        as equal.
        """
        record = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}
        if self.crop_mode == "center":
            del record["crop_mode"]
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> InputSpec:
        """Return the spec that `to_json` gave."""
        values: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in record.items()
        }
        return cls(**values)


def _three_numbers(values: tuple[float, ...]) -> bool:
    """Tell whether there are three, and each is finite."""
    return len(values) == 3 and all(
        isinstance(each, int | float) and math.isfinite(each) for each in values
    )


@dataclass(frozen=True)
class _Bounded:
    """A transform that refuses an image which its first step would make too small or too large.

    It is spelled as the transform itself, so that it does not change a record of one.
    """

    transform: Transform
    resized: Callable[[int, int], tuple[int, int]]

    def __call__(self, image: Image.Image) -> Tensor:
        height, width = self.resized(image.height, image.width)
        if min(height, width) < 1 or height * width > MOST_PIXELS:
            message = (
                f"an image of {image.width} x {image.height} pixels would be resized to "
                f"{width} x {height}, and at most {MOST_PIXELS:,} pixels are made; "
                "cut it to a shape that is nearer to a square"
            )
            raise InputError(message)
        return self.transform(image)

    def __repr__(self) -> str:
        return repr(self.transform)


def _to_normalised(spec: InputSpec) -> list[Any]:
    return [
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(spec.mean, spec.std),
        v2.ToPureTensor(),
    ]


def eval_transform(spec: InputSpec) -> Transform:
    """Return timm's evaluation transform: resize, crop (or border) and normalisation; no draws.

    Its output is that of ``timm.data.create_transform`` for the same configuration.
    """
    steps, resized = _placed(spec)
    return _Bounded(v2.Compose(steps + _to_normalised(spec)), resized)


def pixel_transform(spec: InputSpec) -> Transform:
    """Return `eval_transform` without its normalisation: uint8 pixels (3, H, W)."""
    steps, resized = _placed(spec)
    return _Bounded(v2.Compose([*steps, v2.PILToTensor(), v2.ToPureTensor()]), resized)


def _placed(spec: InputSpec) -> _Steps:
    """Return the steps that bring an image to the network's size."""
    return {"center": _center, "squash": _squash, "border": _border}[spec.crop_mode](spec)


_Steps = tuple[list[Any], Callable[[int, int], tuple[int, int]]]


def _center(spec: InputSpec) -> _Steps:
    """Return the steps that resize the shorter side and cut out the centre."""
    height, width = (int(side / spec.crop) for side in sides(spec.size))
    crop = v2.CenterCrop(spec.size)
    if height != width:
        return _keeping_ratio(spec, (height, width), longest=0.0, then=crop)
    resize = v2.Resize(height, interpolation=InterpolationMode(spec.interpolation))

    def resized(h: int, w: int) -> tuple[int, int]:
        return (height, height * w // h) if h <= w else (height * h // w, height)

    return [resize, crop], resized


def _squash(spec: InputSpec) -> _Steps:
    """Return the steps that resize both sides, whatever their ratio, and cut out the centre."""
    height, width = (int(side / spec.crop) for side in sides(spec.size))
    resize = v2.Resize((height, width), interpolation=InterpolationMode(spec.interpolation))
    return [resize, v2.CenterCrop(spec.size)], lambda _h, _w: (height, width)


def _border(spec: InputSpec) -> _Steps:
    """Return the steps that resize the longer side and fill what is missing with the mean."""
    from timm.data.transforms import CenterCropOrPad

    height, width = (int(side / spec.crop) for side in sides(spec.size))
    fill: Any = [round(255 * value) for value in spec.mean]
    pad = CenterCropOrPad(list(sides(spec.size)), fill=fill)
    return _keeping_ratio(spec, (height, width), longest=1.0, then=pad)


def _keeping_ratio(spec: InputSpec, to: tuple[int, int], *, longest: float, then: Any) -> _Steps:
    """Return timm's step that resizes the shorter (or longer) side to `to`, and what follows."""
    from timm.data import transforms as of_timm

    keep_ratio: Any = of_timm.ResizeKeepRatio
    resize = keep_ratio(to, longest=longest, interpolation=spec.interpolation)

    def resized(h: int, w: int) -> tuple[int, int]:
        ratios = (h / to[0], w / to[1])
        ratio = max(ratios) * longest + min(ratios) * (1.0 - longest)
        return round(h / ratio), round(w / ratio)

    return [resize, then], resized


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
    scale = _TINY_SCALE if min(sides(spec.size)) < _TINY_SIDE else _SCALE
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
    """Return how training images are varied at random.

    Parameters
    ----------
    spec : InputSpec
        What the network sees: size, normalisation, resize filter.
    augment : {"resized-crop", "pad-crop", "auto"}
        ``auto`` pads and crops photographs that have the network's own size, and takes resized
        crops of others.
    photographs : bool
        Whether mirroring and colour jitter keep an image's class.
    native_size : int or None
        Side in pixels that all images have; None where sizes differ.
    """
    small = photographs and native_size == spec.size
    pad_crop = augment == "pad-crop" or (augment == "auto" and small)
    return train_transform(spec, photographs, pad_crop=pad_crop)


def _pad_crop(spec: InputSpec, photographs: bool) -> Transform:
    mode = InterpolationMode(spec.interpolation)
    steps = [
        v2.Resize(sides(spec.size), interpolation=mode),
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
