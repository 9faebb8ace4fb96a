"""Reading one image file that may be damaged, hostile or no image at all."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from featbank.errors import InputError, MissingFileError
from featbank.files.plain_files import open_regular

__all__ = [
    "FORMATS",
    "MOST_BYTES",
    "decode_rgb",
    "eight_bits",
    "load_rgb",
    "read_file",
    "to_rgb",
]

# The formats that photographs and data sets come in. Pillow reads forty more, and each is one more
# parser that a hostile file could attack.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

# No photograph's file is larger. The limit is there because files are read into memory whole.
MOST_BYTES = 1 << 30
_BITS_PER_SAMPLE = 258  # the number of this tag in a TIFF file


def read_file(path: Path) -> bytes:
    """Return the bytes of an image file.

    Raises
    ------
    InputError
        It is no regular file, or larger than `MOST_BYTES`; one line that names it.
    """
    try:
        with open_regular(path) as file:
            large = os.fstat(file.fileno()).st_size > MOST_BYTES
            raw = b"" if large else file.read()
    except MissingFileError as error:
        raise InputError(_refusal(path, "there is no such file")) from error
    except InputError as error:
        reason = "it cannot be opened" if path.is_file() else "not a regular file"
        raise InputError(_refusal(path, reason)) from error
    except OSError as error:
        raise InputError(_refusal(path, error.strerror or str(error))) from error
    if large:
        raise InputError(_refusal(path, f"larger than {MOST_BYTES >> 20} MiB"))
    return raw


def load_rgb(path: Path, grey_bits: int | None = None) -> Image.Image:
    """Return the image at `path` as 8-bit RGB; see `decode_rgb`."""
    return decode_rgb(read_file(path), path, grey_bits)


def decode_rgb(raw: bytes, path: Path, grey_bits: int | None = None) -> Image.Image:
    """Return the image in these bytes as 8-bit RGB; `path` is what a message calls it.

    Alpha is dropped, palettes and CMYK are converted, an animation gives its first frame, and
    EXIF rotation is not applied: as in the usual training pipelines (torchvision's and timm's).
    Deeper grey images are brought to 8 bits, see `eight_bits`; the usual pipelines clip those at
    255, which leaves white.

    Parameters
    ----------
    raw : bytes
        The content of the file.
    path : Path
        Where it is from, for messages.
    grey_bits : int, optional
        How many bits the values of deeper grey images have, where the user says so.

    Raises
    ------
    InputError
        It is none of `FORMATS`, has more pixels than Pillow takes for honest (178,956,970), has a
        range of values that is not known, or is damaged; one line that names it.
    """
    try:
        with warnings.catch_warnings():
            # Odd metadata is not worth a line per image, nor is a large photograph: Pillow warns
            # from 89 million pixels on, and refuses from twice as many.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
                return to_rgb(image, grey_bits)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # decoders raise errors of any class on damaged bytes
        reason = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = f"no image, or none of {', '.join(FORMATS)}"
        elif isinstance(error, Image.DecompressionBombError):
            reason = f"{reason.rstrip('.')}; make it smaller"
        raise InputError(_refusal(path, reason)) from error


def to_rgb(image: Image.Image, grey_bits: int | None = None) -> Image.Image:
    """Return an image as 8-bit RGB.

    Raises
    ------
    ValueError
        Its pixels are floating-point numbers, or their range is not known; without its name.
    """
    if image.mode == "F":
        message = "floating-point pixels have no agreed 8-bit form; convert it to 8 bits"
        raise ValueError(message)
    deep_colour = _is_deep_colour(image)
    if image.mode.startswith("I"):
        declared = _declared_bits(image)
        values = np.asarray(image)
        image = Image.fromarray(eight_bits(values, declared or grey_bits))
    rgb = image.convert("RGB")
    if deep_colour and grey_bits != 16:
        _require_upper_half(rgb)
    return rgb


def eight_bits(values: NDArray[Any], bits: int | None) -> NDArray[np.uint8]:
    """Return grey values of a known number of bits as 8 bits: their upper ones.

    A 16-bit file often holds values of 8, 10, 12 or 14 bits, and a network would see black.
    Without `bits` only values that use all of 16 bits are taken, which is certain from the
    highest bit. Values of less than 8 bits are stretched to 0..255.

    Raises
    ------
    ValueError
        The range of the values is not known, or they have more than `bits` bits.
    """
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0:
        message = f"grey values down to {lowest:,}; convert it to 8 bits"
        raise ValueError(message)
    if bits is None and values.dtype.itemsize == 2 and highest.bit_length() == 16:
        bits = 16
    if highest == 0:
        return np.zeros(values.shape, np.uint8)
    if bits is None:
        width, guess = 8 * values.dtype.itemsize, max(8, highest.bit_length())
        message = (
            f"grey values up to {highest:,} in {width} bits, whose white is not known: say how "
            f"many bits they have with grey_bits={guess} (or up to 16) in --data, or convert it "
            "to 8 bits"
        )
        raise ValueError(message)
    if highest.bit_length() > bits:
        message = f"a grey value of {highest:,} has more bits than grey_bits={bits} says"
        raise ValueError(message)
    if bits < 8:
        return (values.astype(np.int64) * 255 // ((1 << bits) - 1)).astype(np.uint8)
    return (values >> (bits - 8)).astype(np.uint8)


def _declared_bits(image: Image.Image) -> int | None:
    """Return how many bits the values of a grey image have, where its format says so.

    Pillow brings PGM to 16 bits by the largest value that the file names. A TIFF may say 9 to 15.
    """
    if image.format == "PPM":
        return 16
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS_PER_SAMPLE, (16,))
    return int(bits[0]) if 8 < int(bits[0]) < 16 else None


def _is_deep_colour(image: Image.Image) -> bool:
    """Tell whether Pillow will cut the lower 8 of 16 bits off colours (or grey with alpha)."""
    if image.format not in ("PNG", "TIFF") or image.mode.startswith("I"):
        return False
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _require_upper_half(rgb: Image.Image) -> None:
    """Refuse colours that leave the highest of 16 bits unused: they may have 12, and look black."""
    if np.asarray(rgb).max() < 128:
        message = (
            "colours of 16 bits that use less than half of them, whose white is not known: "
            "convert it to 8 bits, or give grey_bits=16 in --data where it is as dark as that"
        )
        raise ValueError(message)


def _refusal(path: Path, reason: str) -> str:
    one_line = " ".join(reason.split())
    return f"cannot read image {str(path)!r}: {one_line}"
