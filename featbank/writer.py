"""Writing a bank: known rows, chunks in any order, the manifest last; a killed job goes on."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featbank import _zarr
from featbank._chunks import ChunkRecord, chunk_file, digest_file, write_chunk
from featbank._lock import FolderLock
from featbank._plain import require_no_links
from featbank.bank import Bank
from featbank.errors import InputError, OutputExistsError, StaleError, StorageError
from featbank.identity import differences
from featbank.journal import Journal, read_journal
from featbank.manifest import ArrayRecord, Manifest, commit
from featbank.rows import SplitRows, check_rows, rows_digest
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
from featbank.verify import matches, verify

__all__ = ["BankPlan", "BankWriter"]

# One chunk being filled, one being hashed, one being written.
IN_FLIGHT = 3

# float32 values below this round to at most 65504, the largest float16.
FLOAT16_LIMIT = 65520.0


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

    def __post_init__(self) -> None:
        if self.dtype not in FEATURE_DTYPES:
            message = f"features are stored as {' or '.join(FEATURE_DTYPES)}; got {self.dtype!r}"
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

    def step(self, split: str) -> int:
        """Return the rows of a full chunk of a split's features."""
        full = chunk_rows((self.dim,), self.dtype, self.batch)
        return min(full, len(self.rows[split]))

    def n_bytes(self) -> int:
        """Return the bytes that the features take on disk."""
        padded = (
            -(-len(rows) // self.step(name)) * self.step(name) for name, rows in self.rows.items()
        )
        return sum(padded) * self.dim * np.dtype(self.dtype).itemsize

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for an unfinished bank to be continued."""
        return {
            "format": FORMAT,
            "dim": self.dim,
            "dtype": self.dtype,
            "batch": self.batch,
            "rows": {name: rows_digest(rows) for name, rows in self.rows.items()},
            "class_names": list(self.class_names),
            "provenance": dict(self.provenance),
        }


def identity_of(bank: Bank) -> dict[str, Any]:
    """Return a complete bank's part of what `BankPlan.identity` says of a plan."""
    return {
        "format": FORMAT,
        "dim": bank.dim,
        "dtype": bank.dtype,
        "batch": bank.manifest.batch,
        "rows": dict(bank.manifest.rows),
        "class_names": list(bank.class_names),
        "provenance": dict(bank.provenance),
    }


class BankWriter:
    """Fills a bank, chunk by chunk, in any order.

    Leaving the ``with`` block without `commit` leaves an unfinished bank, which nothing opens and
    which the same plan continues.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from featbank import Bank, BankPlan, BankWriter
    >>> from featbank.rows import SplitRows
    >>> rows = {"train": SplitRows(["a", "b"], np.array([0, 1]))}
    >>> path = tempfile.mkdtemp() + "/tiny.zarr"
    >>> with BankWriter.begin(path, BankPlan(3, rows, ["cat", "dog"])) as writer:
    ...     for split, start, stop in writer.missing():
    ...         writer.put(split, start, np.eye(2, 3)[start:stop])
    ...     writer.commit()
    >>> Bank.open(path)["train"].read(dtype="float32").tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """

    def __init__(self, store: Path, plan: BankPlan, lock: FolderLock) -> None:
        self.store, self.plan, self.lock = store, plan, lock
        self.journal = Journal(store)
        self.up_to_date = False
        self.done: dict[tuple[str, int], ChunkRecord] = {}
        self.pending: list[tuple[str, int, Future[ChunkRecord]]] = []
        self.pool = ThreadPoolExecutor(IN_FLIGHT - 1)

    @classmethod
    def begin(
        cls, path: str | Path, plan: BankPlan, *, overwrite: bool = False, update: bool = False
    ) -> BankWriter:
        """Begin a bank at `path`, or continue the unfinished one that is there.

        Parameters
        ----------
        overwrite : bool
            Make a complete or unfinished bank anew. What is no bank is never replaced.
        update : bool
            Take a complete bank of the same plan as it is, every byte checked: nothing is missing
            then but the rows that are damaged.

        Raises
        ------
        OutputExistsError
            A complete bank is there and neither is set, or something that is no bank.
        StaleError
            The bank there was made from something else; the message names the fields.
        StorageError
            The disk has too little room, or cannot be written.
        LockedError
            Another process is writing there.
        """
        store = Path(path)
        refuse_foreign(store)
        try:
            store.mkdir(parents=True, exist_ok=True)
            lock = FolderLock(store)
        except OSError as error:
            message = f"cannot write {store}: {error.strerror}"
            raise StorageError(message) from error
        try:
            writer = cls(store, plan, lock)
            writer.settle(overwrite=overwrite, update=update)
        except BaseException:
            lock.release()
            raise
        return writer

    def settle(self, *, overwrite: bool, update: bool) -> None:
        """Clear the folder, or take over what its records claim and its files confirm."""
        if overwrite:
            clear(self.store)
        if (self.store / MANIFEST).is_file():
            if not update:
                message = f"{self.store} exists; choose another path for --out, or add --overwrite"
                raise OutputExistsError(message)
            self.adopt()
        elif (self.store / JOURNAL).is_file():
            self.resume()
        else:
            check_room(self.store, self.plan.n_bytes())
            self.journal.begin(self.plan.identity())

    def adopt(self) -> None:
        """Keep a complete bank of the same plan; where it is damaged, reopen it without that."""
        refuse_links(self.store)
        bank = Bank.open(self.store)
        self.require_same(identity_of(bank))
        damage = verify(bank).damage
        bad = {(place.array, place.index) for place in damage}
        for split in self.plan.rows:
            name = f"{split}/{FEATURES}"
            for index, record in enumerate(bank.manifest.arrays[name].chunks):
                if (name, index) not in bad:
                    self.done[split, index] = record
        self.up_to_date = not damage
        if damage:
            self.journal.begin(self.plan.identity())
            for (split, index), record in self.done.items():
                self.journal.record(split, index, record)
            (self.store / MANIFEST).unlink()

    def require_same(self, identity: Mapping[str, Any]) -> None:
        """Refuse to go on with a bank that was made from something else."""
        differing = differences(identity, self.plan.identity())
        if differing:
            message = (
                f"{self.store} was made from something else, by {', '.join(differing)}; "
                "choose another path for --out, or add --overwrite to make it anew"
            )
            raise StaleError(message)

    def resume(self) -> None:
        """Keep the chunks whose files match the journal's claims."""
        refuse_links(self.store)
        begun, claims = read_journal(self.store)
        self.require_same(begun)
        due = {(split, start): stop for split, start, stop in self.missing()}
        for (split, index), record in claims.items():
            known = split in self.plan.rows
            planned = known and due.get((split, index * self.plan.step(split))) == record.stop
            if planned and matches(self.file(split, index), record):
                self.done[split, index] = record

    def file(self, split: str, index: int) -> Path:
        """Return the path of one chunk of a split's features."""
        return chunk_file(self.store / split / FEATURES, index, 2)

    def missing(self) -> Iterator[tuple[str, int, int]]:
        """Yield (split, start, stop) of every chunk of rows that is not there yet."""
        for split, rows in self.plan.rows.items():
            step = self.plan.step(split)
            for index, start in enumerate(range(0, len(rows), step)):
                if (split, index) not in self.done:
                    yield split, start, min(start + step, len(rows))

    def put(self, split: str, start: int, block: NDArray[Any]) -> None:
        """Hand over one chunk of rows, (stop - start, D) of any float dtype.

        Returns at once; a few chunks are hashed and written in the background.

        Raises
        ------
        InputError
            A value is not finite, or does not fit the stored dtype; the message names the rows.
        StorageError
            An earlier chunk could not be written.
        """
        step, rows = self.plan.step(split), self.plan.rows[split]
        stop = min(start + step, len(rows))
        if start % step or block.shape != (stop - start, self.plan.dim):
            message = (
                f"split {split!r}: a block of shape {block.shape} at row {start}, where "
                f"({stop - start}, {self.plan.dim}) is due"
            )
            raise InputError(message)
        block = np.require(block, requirements=["C", "W"])  # what torch shares without a copy
        check_values(block, self.plan.dtype, split, rows.ids[start:stop])
        index = start // step
        chunk = np.empty((step, self.plan.dim), dtype=self.plan.dtype)
        copy_rows(block, chunk[: stop - start])
        chunk[stop - start :] = np.nan
        job = self.pool.submit(write_chunk, self.file(split, index), chunk, start, stop)
        self.pending.append((split, index, job))
        self.collect(IN_FLIGHT - 1)

    def collect(self, most: int) -> None:
        """Journal finished chunks until at most `most` are under way."""
        while len(self.pending) > most:
            split, index, job = self.pending.pop(0)
            self.done[split, index] = job.result()
            self.journal.record(split, index, self.done[split, index])

    def commit(self) -> None:
        """Write labels, ids and classifier, then the manifest: only now is there a bank."""
        if self.up_to_date:
            return
        self.collect(0)
        left = next(self.missing(), None)
        if left is not None:
            message = f"{self.store} still misses rows {left[1]} to {left[2] - 1} of {left[0]}"
            raise InputError(message)
        clear_small(self.store, self.plan)
        arrays: dict[str, ArrayRecord] = {}
        for split in self.plan.rows:
            arrays |= self.split_records(split)
        groups = [*self.plan.rows]
        if self.plan.classifier is not None:
            groups.append("classifier")
            for name, values in zip(
                (CLASSIFIER_WEIGHT, CLASSIFIER_BIAS), self.plan.classifier, strict=True
            ):
                values = np.ascontiguousarray(values, dtype=np.float32)
                arrays[name] = write_array(self.store, name, values)
        for name in groups:
            _zarr.create_group(self.store, name)
        commit(self.store, self.manifest(arrays, groups))

    def manifest(self, arrays: Mapping[str, ArrayRecord], groups: Sequence[str]) -> Manifest:
        """Return the manifest of what was written."""
        return Manifest(
            arrays=arrays,
            class_names=self.plan.class_names,
            class_counts=self.plan.counts.tolist(),
            shots=self.plan.shots,
            provenance=self.plan.provenance,
            skipped={name: ids for name, ids in self.plan.skipped.items() if ids},
            groups={name: sha256_of(self.store / name / "zarr.json") for name in groups},
            rows={name: rows_digest(rows) for name, rows in self.plan.rows.items()},
            batch=self.plan.batch,
        )

    def split_records(self, split: str) -> dict[str, ArrayRecord]:
        """Write a split's labels, ids and metadata; return its records."""
        rows, name = self.plan.rows[split], f"{split}/{FEATURES}"
        shape, step = (len(rows), self.plan.dim), self.plan.step(split)
        _zarr.create_array(self.store, name, shape, self.plan.dtype, step)
        chunks = tuple(self.done[split, index] for index in range(-(-len(rows) // step)))
        metadata = sha256_of(self.store / name / "zarr.json")
        return {
            name: ArrayRecord(shape, self.plan.dtype, step, metadata, chunks),
            f"{split}/{LABELS}": write_array(self.store, f"{split}/{LABELS}", rows.labels),
            f"{split}/{IDS}": write_ids(self.store, f"{split}/{IDS}", rows.ids),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.lock.release()


def refuse_foreign(store: Path) -> None:
    """Refuse a path that holds something else than a bank: it is never cleared."""
    if store.is_symlink() or (store.exists() and not store.is_dir()):
        message = f"{store} exists and is no folder; choose another path for --out"
        raise OutputExistsError(message)
    if not store.is_dir() or not any(store.iterdir()):
        return
    if (store / JOURNAL).is_file():
        return
    if not (store / MANIFEST).is_file() or b'"featbank"' not in (store / MANIFEST).read_bytes():
        message = f"{store} exists and is not a bank; choose another path for --out"
        raise OutputExistsError(message)


def refuse_links(store: Path) -> None:
    """Refuse to go on in a folder with symbolic links: a chunk could land anywhere."""
    try:
        require_no_links(store)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}; take it out of the bank"
        raise InputError(message) from error


def clear(store: Path) -> None:
    """Empty a bank's folder, the manifest first, so that at no moment a part looks whole."""
    (store / MANIFEST).unlink(missing_ok=True)
    for path in store.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def clear_small(store: Path, plan: BankPlan) -> None:
    """Take out labels, ids, classifier and metadata that a killed commit may have left."""
    for split in plan.rows:
        for name in (LABELS, IDS):
            shutil.rmtree(store / split / name, ignore_errors=True)
        (store / split / FEATURES / "zarr.json").unlink(missing_ok=True)
        (store / split / "zarr.json").unlink(missing_ok=True)
    shutil.rmtree(store / "classifier", ignore_errors=True)


def check_room(store: Path, n_bytes: int) -> None:
    """Refuse before any work where the disk cannot hold the features."""
    free = shutil.disk_usage(store).free
    if n_bytes > free:
        message = (
            f"{store} needs {n_bytes / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB free; "
            "make room, or choose another disk for --out"
        )
        raise StorageError(message)


def check_classifier(weight: NDArray[Any], bias: NDArray[Any], n_classes: int, dim: int) -> None:
    """Refuse a classifier of another shape, or one that is not finite."""
    if weight.shape != (n_classes, dim) or bias.shape != (n_classes,):
        message = (
            f"the classifier has weight {weight.shape} and bias {bias.shape}; "
            f"{n_classes} classes of width {dim} need ({n_classes}, {dim}) and ({n_classes},)"
        )
        raise InputError(message)
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        message = "the classifier has weights that are not finite"
        raise InputError(message)


def check_values(block: NDArray[Any], dtype: str, split: str, ids: Sequence[str]) -> None:
    """Refuse values that are not finite in the stored dtype, naming rows and ids."""
    limit = FLOAT16_LIMIT if dtype == "float16" else float(np.finfo(np.float32).max)
    low, high = extremes(block)
    if -limit < low and high < limit:
        return
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

    low, high = torch.aminmax(torch.from_numpy(block))
    return float(low), float(high)


def copy_rows(source: NDArray[Any], target: NDArray[Any]) -> None:
    """Copy into the stored dtype; by torch, whose half-precision conversion is vectorised."""
    import torch

    torch.from_numpy(target).copy_(torch.from_numpy(source))


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
