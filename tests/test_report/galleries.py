"""Comparisons of banks whose images are there, for the tests of the gallery."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import featbank
from featbank import BankWriter
from featbank.bank.rows import SplitRows
from featbank.data import open_data
from featbank.data.provenance import data_record
from tests.banks import plan, splits

__all__ = ["colour", "compared", "digits_bank", "image_bank", "png"]


def colour(row: int) -> tuple[int, int, int]:
    """Return a colour that no other of 256 rows has."""
    return (37 * row % 256, 91 * row % 256, 53 * row % 256)


def png(row: int) -> bytes:
    """Return a picture in a colour of its own for each row."""
    file = io.BytesIO()
    Image.new("RGB", (120, 60), colour(row)).save(file, "PNG")
    return file.getvalue()


def image_bank(folder: Path, ids: Mapping[int, str] | None = None, *, digests: bool = True) -> Path:
    """Write a bank of blobs and, in ``images``, a picture of every reported row.

    `ids` are the names of some rows of the reported split; those get no picture.
    """
    names = {
        name: [f"{name}/{row}.png" for row in range(len(labels))]
        for name, (_, labels) in splits().items()
    }
    raw = {name: [b""] * len(each) for name, each in names.items()}
    (folder / "images" / "test").mkdir(parents=True)
    for row, name in enumerate(names["test"]):
        raw["test"][row] = png(row)
        if row not in (ids or {}):
            (folder / "images" / name).write_bytes(raw["test"][row])
    for row, name in (ids or {}).items():
        names["test"][row] = name
    rows = {name: SplitRows(names[name], labels) for name, (_, labels) in splits().items()}
    features = {name: part for name, (part, _) in splits().items()}
    return written(folder / "bank.zarr", plan(rows=rows, images=digests), features, raw)


def digits_bank(folder: Path) -> Path:
    """Write a bank of the pixels of Digits-LT, which says what it was made from."""
    data = open_data("digits-lt", {"seed": "3"})
    raw = {
        name: [split.images.raw(row) for row in range(len(split))]
        for name, split in data.splits.items()
    }
    features = {
        name: np.stack([np.asarray(split.load(row))[..., 0].ravel() for row in range(len(split))])
        for name, split in data.splits.items()
    }
    made = plan(
        dim=64, rows=data.splits, class_names=list(data.class_names), classifier=False,
        shots=data.shots, provenance={"data": data_record(data)}, images=True,
    )  # fmt: skip
    return written(folder / "digits.zarr", made, features, raw)


def written(path: Path, made: Any, features: Mapping[str, Any], raw: Mapping[str, Any]) -> Path:
    """Write a bank as planned, with the digests of the images where the plan has them."""
    with BankWriter.begin(path, made) as writer:
        for name, start, stop in writer.missing():
            part = raw[name][start:stop]
            digests = np.array([list(hashlib.sha256(each).digest()) for each in part], np.uint8)
            sizes = np.array([len(each) for each in part])
            block = features[name][start:stop].astype(np.float32)
            writer.put(name, start, block, (digests, sizes) if made.images else None)
        writer.commit()
    return path


def compared(bank: Path, heads: tuple[str, ...] = ("ncm", "tau:tau=1")) -> Path:
    """Compare heads on a bank; return the folder."""
    out = bank.parent / "out"
    featbank.compare([bank], heads, out, device="cpu", draws=100)
    return out
