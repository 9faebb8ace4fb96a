import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featbank.data.decode import load_rgb
from featbank.errors import InputError

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + crc

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def jpeg_start() -> bytes:
    import io

    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    return file.getvalue()[:1500]


BAD: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("<html>not found</html>"),
    "truncated jpeg": lambda path: path.write_bytes(jpeg_start()),
    "truncated png": lambda path: path.write_bytes(png_header(8, 8)[:40]),
    "bomb": lambda path: path.write_bytes(png_header(10_000, 10_000)),
    "larger bomb": lambda path: path.write_bytes(png_header(60_000, 60_000)),
    "folder": lambda path: path.mkdir(),
    "fifo": lambda path: os.mkfifo(path),
    "dangling link": lambda path: path.symlink_to(path.with_name("gone")),
    "missing": lambda path: None,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "postscript": lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    "float": lambda path: Image.fromarray(np.ones((4, 4), np.float32)).save(path, "TIFF"),
}

# What must be refused for this reason and before anything is decoded.
REASONS = {
    "bomb": "decompression bomb",
    "larger bomb": "decompression bomb",
    "fifo": "not a regular file",
    "folder": "not a regular file",
    "device": "not a regular file",
    "postscript": "none of JPEG, PNG",
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_usable_image_is_refused_in_one_line_that_names_it(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "odd\nname.jpg"
    BAD[kind](path)

    with pytest.raises(InputError, match=r"cannot read image '.*odd\\nname\.jpg': \S") as caught:
        load_rgb(path)

    assert "\n" not in str(caught.value)
    assert REASONS.get(kind, "") in str(caught.value)


@pytest.mark.parametrize(
    ("name", "image", "want"),
    [
        ("grey.png", Image.fromarray(GREY), GREY),
        ("alpha.png", Image.fromarray(np.dstack([GREY] * 4)), GREY),
        ("palette.png", Image.fromarray(GREY).convert("P"), GREY),
        ("deep.png", Image.fromarray(GREY.astype(np.uint16) * 256 + 200), GREY),
        ("one.bmp", Image.fromarray(GREY[:1, :1]), GREY[:1, :1]),
        ("animated.gif", Image.fromarray(GREY), GREY),
    ],
)
def test_odd_modes_become_the_documented_rgb(
    tmp_path: Path, name: str, image: Image.Image, want: np.ndarray
) -> None:
    more = {"save_all": True, "append_images": [image.rotate(90)]} if "animated" in name else {}
    image.save(tmp_path / name, **more)

    got = load_rgb(tmp_path / name)

    assert got.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(got), np.dstack([want] * 3))


def test_cmyk_is_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "a.jpg")

    red = np.asarray(load_rgb(tmp_path / "a.jpg"))

    assert red[..., 0].min() > 200
    assert red[..., 1:].max() < 60


def test_the_format_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.jpg", "PNG")

    assert np.asarray(load_rgb(tmp_path / "a.jpg"))[..., 0].tolist() == GREY.tolist()
