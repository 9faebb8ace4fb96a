"""Everything about a bank but its features, known and checked before the first is computed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featbank.bank.bank import Bank
from featbank.bank.rows import SplitRows, check_rows, rows_digest
from featbank.errors import InputError
from featbank.store.schema import (
    CRC_BYTES,
    FEATURE_DTYPES,
    FEATURES,
    FORMAT,
    IMAGE_BYTES,
    IMAGE_SHA256,
    SPLIT_NAME,
    VIEWS,
    chunk_rows,
)
from heads.metrics.shots import Shots

__all__ = ["BankPlan", "Span", "identity_of"]


class Span(NamedTuple):
    """The rows [start, stop) of a split that one chunk of each of its columns holds."""

    split: str
    start: int
    stop: int


@dataclass(frozen=True)
class BankPlan:
    """Everything about a bank but its features, known before the first is computed.

    Parameters
    ----------
    dim : int
        Width D of the features.
    rows : mapping of split name to SplitRows
        Ids and labels in data-set order; train is required.
    class_names : sequence of C strings
    dtype : {"float16", "float32"}
        How features are stored.
    classifier : pair of arrays, optional
        Stage 1's weight (C, D) and bias (C,).
    shots : Shots
        Thresholds that travel with the bank.
    provenance : mapping
        What the features are made from; JSON types.
    skipped : mapping of split name to ids
        Rows that were left out.
    batch : int
        Rows that are computed together; chunks hold whole batches.
    images : bool
        Whether every row comes with the digest and size of the image that it was made from.
    views : int
        Augmented views of every row of train that are banked beside it.
    """

    dim: int
    rows: Mapping[str, SplitRows]
    class_names: Sequence[str]
    dtype: str = "float16"
    classifier: tuple[NDArray[Any], NDArray[Any]] | None = None
    shots: Shots = field(default_factory=Shots)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    skipped: Mapping[str, Sequence[str]] = field(default_factory=dict)
    batch: int = 1
    images: bool = False
    views: int = 0

    def __post_init__(self) -> None:
        if self.dtype not in FEATURE_DTYPES:
            message = f"features are stored as {' or '.join(FEATURE_DTYPES)}; got {self.dtype!r}"
            raise InputError(message)
        if self.views < 0:
            message = f"the number of views must be 0 or more; got {self.views}"
            raise InputError(message)
        if self.dim < 1:
            message = f"features need at least one column; got {self.dim}"
            raise InputError(message)
        for name in self.rows:
            if not re.fullmatch(SPLIT_NAME, name):
                message = f"split name {name!r}: use letters, digits, - and _, not 'classifier'"
                raise InputError(message)
        check_rows(self.rows, self.class_names)
        if self.classifier is not None:
            check_classifier(*self.classifier, len(self.class_names), self.dim)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Training rows of each class, (C,)."""
        return np.bincount(self.rows["train"].labels, minlength=len(self.class_names))

    @cached_property
    def digests(self) -> dict[str, str]:
        """Return the digest of every split's ids and labels."""
        return {name: rows_digest(rows) for name, rows in self.rows.items()}

    def columns(self, split: str) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return shape of a row and dtype of all of a split that is written chunk by chunk.

        Views go by their number: ``views/0``, ``views/1``, ….
        """
        columns: dict[str, tuple[tuple[int, ...], str]] = {FEATURES: ((self.dim,), self.dtype)}
        if self.images:
            columns |= {IMAGE_SHA256: ((32,), "uint8"), IMAGE_BYTES: ((), "int64")}
        views = {f"{VIEWS}/{k}": columns[FEATURES] for k in range(self.n_views(split))}
        return columns | views

    def n_views(self, split: str) -> int:
        """Return how many views a split's rows have: those of train, and no others."""
        return self.views if split == "train" else 0

    def step(self, split: str) -> int:
        """Return the rows of a full chunk of a split's features."""
        full = chunk_rows((self.dim,), self.dtype, self.batch)
        return min(full, len(self.rows[split]))

    def spans(self) -> Iterator[Span]:
        """Yield the rows of every chunk that is to be, split by split."""
        for split, rows in self.rows.items():
            step = self.step(split)
            for start in range(0, len(rows), step):
                yield Span(split, start, min(start + step, len(rows)))

    def chunk(self, split: str, start: int) -> tuple[str, int]:
        """Return the split and the number of the chunk that begins at row `start` of it."""
        return split, start // self.step(split)

    def n_bytes(self) -> int:
        """Return the bytes that the bank takes on disk, each file in whole blocks."""
        return sum(map(on_disk, self.file_sizes()))

    def file_sizes(self) -> Iterator[int]:
        """Yield the bytes of the files; labels and ids, which take few chunks, as one file each."""
        for name, rows in self.rows.items():
            n_chunks = -(-len(rows) // self.step(name))
            for shape, dtype in self.columns(name).values():
                chunk = self.step(name) * math.prod(shape) * np.dtype(dtype).itemsize + CRC_BYTES
                yield from repeat(chunk, n_chunks)
            yield rows.labels.nbytes + CRC_BYTES
            yield sum(len(each.encode(errors="surrogatepass")) + 4 for each in rows.ids)
        if self.classifier is not None:
            yield 4 * len(self.class_names) * (self.dim + 1)

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for an unfinished bank to be continued."""
        return {
            "format": FORMAT,
            "dim": self.dim,
            "dtype": self.dtype,
            "batch": self.batch,
            "images": self.images,
            **({"views": self.views} if self.views else {}),
            "n_chunks": sum(-(-len(rows) // self.step(name)) for name, rows in self.rows.items()),
            "rows": self.digests,
            "class_names": list(self.class_names),
            "provenance": dict(self.provenance),
        }


def on_disk(n_bytes: int, block: int = 1 << 12) -> int:
    """Return the bytes of the blocks that a file takes."""
    return -(-n_bytes // block) * block


def identity_of(bank: Bank) -> dict[str, Any]:
    """Return a complete bank's part of what `BankPlan.identity` says of a plan."""
    arrays = bank.manifest.arrays
    return {
        "format": FORMAT,
        "dim": bank.dim,
        "dtype": bank.dtype,
        "batch": bank.manifest.batch,
        "images": f"train/{IMAGE_BYTES}" in arrays,
        **({"views": bank["train"].n_views} if bank["train"].n_views else {}),
        "n_chunks": sum(len(arrays[f"{name}/{FEATURES}"].chunks) for name in bank.splits),
        "rows": dict(bank.manifest.rows),
        "class_names": list(bank.class_names),
        "provenance": dict(bank.provenance),
    }


def check_classifier(weight: NDArray[Any], bias: NDArray[Any], n_classes: int, dim: int) -> None:
    """Refuse a classifier of another shape, or one that float32 cannot hold.

    Parameters
    ----------
    weight : ndarray of shape (n_classes, dim)
    bias : ndarray of shape (n_classes,)
    n_classes, dim : int
        The number of classes and the features' width.

    Raises
    ------
    InputError
        The message says what is wrong, and what to do.
    """
    if weight.shape != (n_classes, dim) or bias.shape != (n_classes,):
        message = (
            f"the classifier has weight {weight.shape} and bias {bias.shape}; "
            f"{n_classes} classes of width {dim} need ({n_classes}, {dim}) and ({n_classes},)"
        )
        raise InputError(message)
    with np.errstate(over="ignore"):
        stored = [np.asarray(each, dtype=np.float32) for each in (weight, bias)]
    for given, kept in zip((weight, bias), stored, strict=True):
        if not np.isfinite(kept).all():
            fault = "beyond float32" if np.isfinite(given).all() else "that are not finite"
            message = f"the classifier has weights {fault}; mend the file, or leave it out"
            raise InputError(message)
    if weight.dtype.itemsize > stored[0].itemsize:
        check_kept(weight, stored[0])


def check_kept(weight: NDArray[Any], stored: NDArray[np.float32]) -> None:
    """Refuse weights (C, D) that float32 makes zero, or of which it makes different rows equal."""
    largest = np.abs(weight).max(axis=1)
    lost = np.abs(weight - stored).max(axis=1) > largest / 8
    alike = len(np.unique(weight, axis=0)) > len(np.unique(stored, axis=0))
    if lost.any() or alike:
        what = f"the weights of class {int(lost.argmax())}" if lost.any() else "differing weights"
        message = (
            f"the classifier loses {what} in float32, as banks store them; multiply weight and "
            "bias by one constant, or take an offset out"
        )
        raise InputError(message)
