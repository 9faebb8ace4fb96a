"""Reading one image file that may be damaged, hostile or no image at all."""

from __future__ import annotations

import io
import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from featbank.errors import InputError

__all__ = ["FORMATS", "decode_rgb", "load_rgb", "read_file"]

# What photographs and data sets come in. Pillow knows forty more, each one more parser to attack.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

# No photograph's file is larger; a file that is would be read into memory whole.
MOST_BYTES = 1 << 30


def read_file(path: Path) -> bytes:
    """Return the bytes of an image file.

    Raises
    ------
    InputError
        It is no regular file, or larger than `MOST_BYTES`; one line that names it.
    """
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):  # opening a FIFO would wait for ever
            raise InputError(_refusal(path, "not a regular file"))
        if state.st_size > MOST_BYTES:
            raise InputError(_refusal(path, f"larger than {MOST_BYTES >> 20} MiB"))
        return path.read_bytes()
    except OSError as error:
        raise InputError(_refusal(path, error.strerror or str(error))) from error


def load_rgb(path: Path) -> Image.Image:
    """Return the image at `path` as 8-bit RGB; see `decode_rgb`."""
    return decode_rgb(read_file(path), path)


def decode_rgb(raw: bytes, path: Path) -> Image.Image:
    """Return the image in these bytes as 8-bit RGB; `path` is what a message calls it.

    Alpha is dropped, palettes and CMYK are converted, 16-bit grey keeps its upper byte, an
    animation gives its first frame, and EXIF rotation is not applied: as in the usual training
    pipelines (torchvision's and timm's).

    Raises
    ------
    InputError
        It is none of `FORMATS`, too large to be honest, or damaged; one line that names it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata is not worth a line per image
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
                return _to_rgb(image)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # decoders raise anything on bytes like these
        reason = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = f"no image, or none of {', '.join(FORMATS)}"
        raise InputError(_refusal(path, reason)) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        message = "floating-point pixels have no agreed 8-bit form"
        raise ValueError(message)
    if image.mode.startswith("I"):
        upper = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255)
        image = Image.fromarray(upper.astype(np.uint8))
    return image.convert("RGB")


def _refusal(path: Path, reason: str) -> str:
    one_line = " ".join(reason.split())
    return f"cannot read image {str(path)!r}: {one_line}"
