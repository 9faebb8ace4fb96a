"""Images that are arrays in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["ArrayImages"]


@dataclass(frozen=True)
class ArrayImages:
    """Pixels (N, H, W) grey or (N, H, W, 3) RGB, uint8."""

    pixels: NDArray[np.uint8]

    def raw(self, i: int) -> bytes:
        """Return the pixels of image i."""
        return bytes(self.pixels[i].tobytes())

    def decode(self, i: int, raw: bytes) -> Image.Image:
        """Return the image that these pixels are, RGB."""
        array = np.frombuffer(raw, dtype=np.uint8).reshape(self.pixels.shape[1:])
        return Image.fromarray(array).convert("RGB")

    def n_bytes(self, i: int) -> int:
        """Return the number of bytes of one image; all are of one size."""
        return int(self.pixels[i].nbytes)
