import contextlib
import os
import socket
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


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened, contextlib.chdir(path.parent):
        opened.bind(path.name)


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
    "bomb": lambda path: path.write_bytes(png_header(13_400, 13_400)),
    "larger bomb": lambda path: path.write_bytes(png_header(60_000, 60_000)),
    "folder": lambda path: path.mkdir(),
    "fifo": lambda path: os.mkfifo(path),
    "dangling link": lambda path: path.symlink_to(path.with_name("gone")),
    "missing": lambda path: None,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "postscript": lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    "float": lambda path: Image.fromarray(np.ones((4, 4), np.float32)).save(path, "TIFF"),
    "below zero": lambda path: Image.fromarray(np.int32([[-1, 70000]])).save(path, "TIFF"),
    "socket": lambda path: socket_at(path),
}

# What must be refused for this reason and before anything is decoded.
REASONS = {
    "bomb": "decompression bomb",
    "larger bomb": "decompression bomb",
    "fifo": "not a regular file",
    "folder": "not a regular file",
    "device": "not a regular file",
    "postscript": "none of JPEG, PNG",
    "missing": "there is no such file",
    "socket": "not a regular file",
    "float": "floating-point pixels have no agreed 8-bit form; convert it to 8 bits",
    "below zero": "grey values down to -1",
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


def test_a_photograph_of_more_than_89_megapixels_is_read(tmp_path: Path) -> None:
    Image.new("L", (10_000, 9_000), 90).save(tmp_path / "phone.jpg", quality=50)

    assert load_rgb(tmp_path / "phone.jpg").size == (10_000, 9_000)


GREY_16 = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
FEWER = [(name, bits) for name in ("d.png", "d.tif", "d 32.tif") for bits in (8, 9, 10, 12, 14, 15)]


def save_deep(path: Path, bits: int) -> np.ndarray:
    """Save grey values of so many bits in a file of 16 or 32; return them as 8 bits."""
    values = GREY_16 >> (16 - bits)
    wide = np.int32 if "32" in path.name else np.uint16
    Image.fromarray(values.astype(wide)).save(path)
    return (GREY_16 >> 8).astype(np.uint8)


@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "deep.pgm"])
def test_grey_that_uses_all_of_16_bits_keeps_its_upper_byte(tmp_path: Path, name: str) -> None:
    want = save_deep(tmp_path / name, 16)

    np.testing.assert_array_equal(np.asarray(load_rgb(tmp_path / name))[..., 1], want)


@pytest.mark.parametrize(("name", "bits"), [*FEWER, ("d 32.tif", 16)])
def test_grey_of_fewer_bits_is_refused_until_they_are_named(
    tmp_path: Path, name: str, bits: int
) -> None:
    want = save_deep(tmp_path / name, bits)

    with pytest.raises(InputError, match=f"white is not known: say .* grey_bits={bits} .or up to"):
        load_rgb(tmp_path / name)
    got = np.asarray(load_rgb(tmp_path / name, bits))
    np.testing.assert_array_equal(got, np.dstack([want] * 3))
    if bits > 8:
        with pytest.raises(InputError, match=f"more bits than grey_bits={bits - 1} says"):
            load_rgb(tmp_path / name, bits - 1)


def test_masks_of_few_bits_are_stretched_and_black_is_black(tmp_path: Path) -> None:
    Image.fromarray(np.uint16([[0, 1, 2, 3]])).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((3, 3), np.uint16)).save(tmp_path / "b.png")

    assert np.asarray(load_rgb(tmp_path / "a.png", 2))[0, :, 0].tolist() == [0, 85, 170, 255]
    assert not np.asarray(load_rgb(tmp_path / "b.png")).any()


def test_the_largest_value_that_a_pgm_names_is_white(tmp_path: Path) -> None:
    values = np.uint16([[0, 1000, 4095, 2048]])
    (tmp_path / "a.pgm").write_bytes(b"P5 4 1 4095\n" + values.astype(">u2").tobytes())

    assert np.asarray(load_rgb(tmp_path / "a.pgm", 12))[0, :, 0].tolist() == [0, 62, 255, 128]


def tiff_of_12_bits(values: list[int]) -> bytes:
    """One row of grey in an uncompressed TIFF whose header says that samples have 12 bits."""
    bits = "".join(f"{value:012b}" for value in values)
    data = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    tags = {256: len(values), 257: 1, 258: 12, 259: 1, 262: 1, 277: 1, 278: 1, 279: len(data)}
    head = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = sorted([*tags.items(), (273, head)])
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + body + bytes(4) + data


def test_a_tiff_that_says_12_bits_has_12(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff_of_12_bits([0, 16, 4095, 2048]))

    assert np.asarray(load_rgb(tmp_path / "a.tif"))[0, :, 0].tolist() == [0, 1, 255, 128]


def png_16(colour: int, pixel: tuple[int, ...]) -> bytes:
    """A PNG of 4 x 4 equal pixels of 16 bits."""
    row = b"\0" + np.array(pixel * 4, ">u2").tobytes()

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + crc

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(row * 4))
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("colour", "dark", "bright"),
    [
        (2, (200, 4095, 300), (200, 40_000, 300)),
        (4, (4095, 65535), (33_000, 65535)),
        (6, (1, 2, 255, 65535), (1, 2, 65535, 9)),
    ],
)
def test_colours_of_16_bits_that_leave_half_of_them_unused_are_not_shown_black(
    tmp_path: Path, colour: int, dark: tuple[int, ...], bright: tuple[int, ...]
) -> None:
    (tmp_path / "dark.png").write_bytes(png_16(colour, dark))
    (tmp_path / "bright.png").write_bytes(png_16(colour, bright))
    rgb = slice(None) if colour == 2 else slice(-1)

    with pytest.raises(InputError, match="less than half of them, whose white is not known"):
        load_rgb(tmp_path / "dark.png")
    assert np.asarray(load_rgb(tmp_path / "dark.png", 16)).max() == max(dark[rgb]) >> 8
    assert np.asarray(load_rgb(tmp_path / "bright.png")).max() == max(bright[rgb]) >> 8
