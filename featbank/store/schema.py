"""Format 1 of the bank: names, dtypes and chunk rules, stated once."""

from __future__ import annotations

import numpy as np

__all__ = [
    "ATTRIBUTE",
    "AXES",
    "CLASSIFIER_BIAS",
    "CLASSIFIER_WEIGHT",
    "CRC_BYTES",
    "FEATURES",
    "FEATURE_DTYPES",
    "FORMAT",
    "IDS",
    "IMAGE_BYTES",
    "IMAGE_SHA256",
    "JOURNAL",
    "LABELS",
    "MANIFEST",
    "RANK_JOURNAL",
    "SPLIT_NAME",
    "VIEWS",
    "chunk_rows",
    "dimension_names",
]

FORMAT = 1

# The manifest is an attribute of the root group, so a bank is one zarr store with no foreign file
# in it, and until the manifest is there no zarr client takes the folder for a store at all.
MANIFEST, ATTRIBUTE, JOURNAL = "zarr.json", "featbank", "journal.jsonl"
# Of the other processes of a job of several: they append, and appending is safe for one writer.
RANK_JOURNAL = "journal-{}.jsonl"

FEATURES, LABELS, IDS = "features", "labels", "ids"
# (K, N, D): features of K augmented views of each image. A chunk holds rows of one view.
VIEWS = "views"
IMAGE_SHA256, IMAGE_BYTES = "image_sha256", "image_bytes"
CLASSIFIER_WEIGHT, CLASSIFIER_BIAS = "classifier/weight", "classifier/bias"
# By an array's whole name, or by what it is called in every split.
AXES = {
    FEATURES: ["row", "feature"],
    LABELS: ["row"],
    IDS: ["row"],
    VIEWS: ["view", "row", "feature"],
    IMAGE_SHA256: ["row", "byte"],
    IMAGE_BYTES: ["row"],
    CLASSIFIER_WEIGHT: ["class", "feature"],
    CLASSIFIER_BIAS: ["class"],
}
FEATURE_DTYPES = ("float16", "float32")

# A split's name is a folder in the store, so it is kept to what every file system and every
# zarr client takes; "classifier" is the one name that the format itself uses.
SPLIT_NAME = r"(?!classifier$)[A-Za-z0-9][A-Za-z0-9_-]{0,63}"

CRC_BYTES = 4  # zarr's crc32c codec appends the checksum, little-endian

# 16 MiB: large enough that a file's open and seek vanish beside its read, small enough that a
# few of them in flight fit any machine, and that one damaged chunk costs few rows.
CHUNK_BYTES = 16 << 20

# Of a variable-length id: only decides how many ids share a chunk.
TYPICAL_ID_BYTES = 64


def chunk_rows(row_shape: tuple[int, ...], dtype: str, multiple: int = 1) -> int:
    """Return the rows of a full chunk, for rows of this shape and dtype ("string" for ids).

    `multiple` is the number of rows that are computed together: a chunk holds whole batches, so
    that redoing a chunk computes the same batches again, and the same bits.
    """
    item = TYPICAL_ID_BYTES if dtype == "string" else np.dtype(dtype).itemsize
    rows = CHUNK_BYTES // (item * int(np.prod(row_shape, dtype=np.int64)))
    return max(1, rows // multiple) * multiple


def dimension_names(array: str) -> list[str] | None:
    """Return what the axes of an array such as ``train/features`` are called.

    xarray opens no array without names.
    """
    return AXES.get(array) or AXES.get(array.rpartition("/")[2])
