"""Writing a bank: rows in, chunks out while the next rows are computed, the manifest last."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featbank import _zarr
from featbank._chunks import ChunkRecord, chunk_file, digest_file, write_chunk
from featbank.errors import InputError, OutputExistsError
from featbank.manifest import ArrayRecord, Manifest, commit
from featbank.rows import SplitRows, check_rows
from featbank.schema import (
    CLASSIFIER_BIAS,
    CLASSIFIER_WEIGHT,
    FEATURE_DTYPES,
    FEATURES,
    FORMAT,
    IDS,
    JOURNAL,
    LABELS,
    MANIFEST,
    SPLIT_NAME,
    chunk_rows,
)
from featbank.shots import Shots

__all__ = ["BankWriter"]

# One chunk being filled, one being hashed, one being written.
BUFFERS = 3

# float32 values below this round to at most 65504, the largest float16.
FLOAT16_LIMIT = 65520.0


class BankWriter:
    """Fills a new bank, split by split, in data-set order.

    Leaving the ``with`` block without `commit` leaves an incomplete bank, which nothing opens.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from featbank import Bank, BankWriter
    >>> path = tempfile.mkdtemp() + "/tiny.zarr"
    >>> with BankWriter.create(path, dim=3, class_names=["cat", "dog"]) as writer:
    ...     writer.append("train", ["a", "b"], np.array([0, 1]), np.eye(2, 3))
    ...     writer.commit()
    >>> Bank.open(path)["train"].read(dtype="float32").tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """

    def __init__(
        self,
        path: Path,
        dim: int,
        dtype: str,
        class_names: Sequence[str],
        shots: Shots,
        provenance: Mapping[str, Any],
    ) -> None:
        self.path, self.dim, self.dtype = path, dim, dtype
        self.class_names, self.shots, self.provenance = tuple(class_names), shots, provenance
        self.classifier: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        self.skipped: dict[str, list[str]] = {}
        self.splits: dict[str, _SplitWriter] = {}
        self.pool = ThreadPoolExecutor(BUFFERS - 1)

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        dim: int,
        dtype: str = "float16",
        class_names: Sequence[str],
        shots: Shots | None = None,
        provenance: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> BankWriter:
        """Begin a bank at `path`.

        Parameters
        ----------
        path : str or Path
            Folder to make. An unfinished bank there is begun anew.
        dim : int
            Width D of the features.
        dtype : {"float16", "float32"}
            How features are stored.
        class_names : sequence of C strings
        shots : Shots, optional
            Thresholds that travel with the bank.
        provenance : mapping, optional
            What the features are made from; JSON types.
        overwrite : bool
            Replace a complete bank. Anything that is no bank is never replaced.
        """
        if dtype not in FEATURE_DTYPES:
            message = f"features are stored as {' or '.join(FEATURE_DTYPES)}; got {dtype!r}"
            raise InputError(message)
        if dim < 1:
            message = f"features need at least one column; got {dim}"
            raise InputError(message)
        store = Path(path)
        make_room(store, overwrite=overwrite)
        store.mkdir(parents=True, exist_ok=True)
        begun = {"format": FORMAT, "dim": dim, "dtype": dtype}
        (store / JOURNAL).write_text(json.dumps(begun) + "\n", encoding="utf-8")
        return cls(store, dim, dtype, class_names, shots or Shots(), provenance or {})

    def append(
        self, split: str, ids: Sequence[str], labels: NDArray[np.int64], block: NDArray[Any]
    ) -> None:
        """Add rows to a split: n ids, labels (n,), features (n, D) of float16, 32 or 64.

        Raises
        ------
        InputError
            A value is not finite, or does not fit the stored dtype; the message names the rows.
        """
        if split not in self.splits:
            self.splits[split] = _SplitWriter(self, split)
        self.splits[split].append(ids, labels, block)

    def skip(self, split: str, ids: Sequence[str]) -> None:
        """Record ids whose rows are left out."""
        self.skipped.setdefault(split, []).extend(ids)

    def set_classifier(self, weight: NDArray[Any], bias: NDArray[Any]) -> None:
        """Store stage 1's linear classifier: weight (C, D), bias (C,)."""
        n_classes = len(self.class_names)
        if weight.shape != (n_classes, self.dim) or bias.shape != (n_classes,):
            message = (
                f"the classifier has weight {weight.shape} and bias {bias.shape}; "
                f"{n_classes} classes of width {self.dim} need ({n_classes}, {self.dim}) "
                f"and ({n_classes},)"
            )
            raise InputError(message)
        pair = np.ascontiguousarray(weight, np.float32), np.ascontiguousarray(bias, np.float32)
        if not all(np.isfinite(part).all() for part in pair):
            message = "the classifier has weights that are not finite"
            raise InputError(message)
        self.classifier = pair

    def commit(self) -> None:
        """Write what is left, then the manifest: only now is there a bank.

        Raises
        ------
        InputError
            A label is out of range, a class has no training row, or there is no train split.
        """
        rows = {name: split.rows() for name, split in self.splits.items()}
        counts = check_rows(rows, self.class_names)
        arrays = {k: v for split in self.splits.values() for k, v in split.finish().items()}
        groups = list(self.splits)
        if self.classifier is not None:
            groups.append("classifier")
            for name, values in zip(
                (CLASSIFIER_WEIGHT, CLASSIFIER_BIAS), self.classifier, strict=True
            ):
                arrays[name] = write_array(self.path, name, values)
        for name in groups:
            _zarr.create_group(self.path, name)
        manifest = Manifest(
            arrays=arrays,
            class_names=self.class_names,
            class_counts=[int(count) for count in counts],
            shots=self.shots,
            provenance=self.provenance,
            skipped=self.skipped,
            groups={name: sha256_of(self.path / name / "zarr.json") for name in groups},
        )
        (self.path / JOURNAL).unlink()
        commit(self.path, manifest)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)


class _SplitWriter:
    """Cuts a split's rows into chunks and hands full ones to the pool."""

    def __init__(self, bank: BankWriter, name: str) -> None:
        if not re.fullmatch(SPLIT_NAME, name):
            message = f"split name {name!r}: use letters, digits, - and _, and not 'classifier'"
            raise InputError(message)
        self.bank, self.name = bank, name
        self.array = bank.path / name / FEATURES
        self.step = chunk_rows((bank.dim,), bank.dtype)
        self.ids: list[str] = []
        self.labels: list[NDArray[np.int64]] = []
        self.buffer = self.new_buffer(self.step)
        self.filled = 0
        self.pending: list[Future[ChunkRecord]] = []
        self.done: list[ChunkRecord] = []

    def new_buffer(self, rows: int) -> NDArray[Any]:
        return np.empty((rows, self.bank.dim), dtype=self.bank.dtype)

    def append(self, ids: Sequence[str], labels: NDArray[np.int64], block: NDArray[Any]) -> None:
        if block.ndim != 2 or block.shape != (len(ids), self.bank.dim):
            message = (
                f"split {self.name!r}: features of shape {block.shape} for {len(ids)} rows "
                f"of width {self.bank.dim}"
            )
            raise InputError(message)
        check_values(block, self.bank.dtype, self.name, ids)
        self.ids.extend(ids)
        self.labels.append(np.asarray(labels, dtype=np.int64))
        taken = 0
        while taken < len(block):
            count = min(self.step - self.filled, len(block) - taken)
            copy_rows(block[taken : taken + count], self.buffer[self.filled : self.filled + count])
            taken, self.filled = taken + count, self.filled + count
            if self.filled == self.step:
                self.flush()

    def flush(self) -> None:
        """Hand the buffer over as the next chunk, and wait where too many are under way."""
        index = len(self.done) + len(self.pending)
        start = index * self.step
        file = chunk_file(self.array, index, 2)
        stop = start + self.filled
        self.pending.append(self.bank.pool.submit(write_chunk, file, self.buffer, start, stop))
        while len(self.pending) >= BUFFERS:
            self.done.append(self.pending.pop(0).result())
        self.buffer, self.filled = self.new_buffer(self.step), 0

    def rows(self) -> SplitRows:
        labels = np.concatenate(self.labels) if self.labels else np.empty(0, np.int64)
        return SplitRows(self.ids, labels)

    def finish(self) -> dict[str, ArrayRecord]:
        """Write the last chunk, labels, ids and metadata; return the records."""
        rows = self.rows()
        if self.filled:
            self.close_last_chunk()
        chunks = (*self.done, *(future.result() for future in self.pending))
        store, shape = self.bank.path, (len(rows), self.bank.dim)
        _zarr.create_array(store, f"{self.name}/{FEATURES}", shape, self.bank.dtype, self.step)
        features = ArrayRecord(
            shape, self.bank.dtype, self.step, sha256_of(self.array / "zarr.json"), chunks
        )
        return {
            f"{self.name}/{FEATURES}": features,
            f"{self.name}/{LABELS}": write_array(store, f"{self.name}/{LABELS}", rows.labels),
            f"{self.name}/{IDS}": write_ids(store, f"{self.name}/{IDS}", self.ids),
        }

    def close_last_chunk(self) -> None:
        """Fill the rest with NaN; a split of one chunk gets a chunk of just its rows."""
        if not self.pending and not self.done:
            self.buffer, self.step = self.buffer[: self.filled], self.filled
        self.buffer[self.filled :] = np.nan
        self.flush()


def make_room(store: Path, *, overwrite: bool) -> None:
    """Clear `store` of what may be replaced, or refuse."""
    if not store.exists() or (store.is_dir() and not any(store.iterdir())):
        return
    complete = (store / MANIFEST).is_file()
    if not complete and not (store / JOURNAL).is_file():
        message = f"{store} exists and is not a bank; choose another path for --out"
        raise OutputExistsError(message)
    if complete and not overwrite:
        message = f"{store} exists; choose another path for --out, or add --overwrite"
        raise OutputExistsError(message)
    (store / MANIFEST).unlink(missing_ok=True)  # from here on it cannot be taken for complete
    shutil.rmtree(store)


def check_values(block: NDArray[Any], dtype: str, split: str, ids: Sequence[str]) -> None:
    """Refuse values that are not finite in the stored dtype, naming rows and ids."""
    limit = FLOAT16_LIMIT if dtype == "float16" else float(np.finfo(np.float32).max)
    low, high = extremes(block)
    if -limit < low and high < limit:
        return
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~(np.abs(block.astype(np.float64)) < limit).all(axis=1))
    finite = np.isfinite(block[bad]).all()
    what = f"features beyond the range of {dtype}" if finite else "features that are not finite"
    remedy = "store them with --dtype float32" if finite else "mend the model or the file"
    shown = ", ".join(ids[int(row)] for row in bad[:3]) + (", …" if bad.size > 3 else "")
    message = f"split {split!r}: {bad.size} rows have {what} ({shown}); {remedy}"
    raise InputError(message)


def extremes(block: NDArray[Any]) -> tuple[float, float]:
    """Return the smallest and largest value (NaN where there is one), in one pass."""
    import torch

    low, high = torch.aminmax(torch.from_numpy(np.ascontiguousarray(block)))
    return float(low), float(high)


def copy_rows(source: NDArray[Any], target: NDArray[Any]) -> None:
    """Copy into the stored dtype; by torch, whose half-precision conversion is vectorised."""
    import torch

    torch.from_numpy(target).copy_(torch.from_numpy(np.ascontiguousarray(source)))


def write_array(store: Path, name: str, values: NDArray[Any]) -> ArrayRecord:
    """Write a small numeric array, (n, ...), in whole-row chunks."""
    n_rows, dtype = len(values), str(values.dtype)
    step = min(n_rows, chunk_rows(values.shape[1:], dtype))
    _zarr.create_array(store, name, values.shape, dtype, step)
    fill = np.nan if values.dtype.kind == "f" else -1
    chunks = []
    for index, start in enumerate(range(0, n_rows, step)):
        stop = min(start + step, n_rows)
        rows = np.full((step, *values.shape[1:]), fill, dtype=values.dtype)
        rows[: stop - start] = values[start:stop]
        file = chunk_file(store / name, index, values.ndim)
        chunks.append(write_chunk(file, rows, start, stop))
    digest = sha256_of(store / name / "zarr.json")
    return ArrayRecord(values.shape, dtype, step, digest, tuple(chunks))


def write_ids(store: Path, name: str, ids: Sequence[str]) -> ArrayRecord:
    """Write the ids, (N,) strings."""
    step = min(len(ids), chunk_rows((), "string"))
    _zarr.write_strings(store, name, ids, step)
    chunks = []
    for index, start in enumerate(range(0, len(ids), step)):
        file = chunk_file(store / name, index, 1)
        chunks.append(digest_file(file, start, min(start + step, len(ids))))
    digest = sha256_of(store / name / "zarr.json")
    return ArrayRecord((len(ids),), "string", step, digest, tuple(chunks))


def sha256_of(file: Path) -> str:
    """SHA-256 of a small file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
