"""Reading a bank."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from featbank.errors import (
    DamagedError,
    IncompleteBankError,
    InputError,
    MissingFileError,
    NotABankError,
    StaleError,
)
from featbank.files.plain_files import read_plain
from featbank.store import zarr_arrays as _zarr
from featbank.store.format_checks import check_metadata
from featbank.store.journal import begun_plan, read_journal
from featbank.store.manifest import Manifest
from featbank.store.reader import (
    cast,
    check_files,
    check_sizes,
    gather,
    iterate,
    read_into,
    read_whole,
)
from featbank.store.schema import (
    CLASSIFIER_BIAS,
    CLASSIFIER_WEIGHT,
    FEATURES,
    IDS,
    IMAGE_BYTES,
    IMAGE_SHA256,
    LABELS,
    MANIFEST,
    VIEWS,
)
from heads.metrics.shots import Shots

__all__ = ["Bank", "Split"]

Place = tuple[int, int, int, int]

# Of one array or group; zarr writes less than a kilobyte.
METADATA_BYTES = 1 << 16


class Bank:
    """A complete bank, opened for reading.

    Build one with `Bank.open`. ``bank["train"]`` is a split. Where another bank takes the place of
    this one meanwhile, reading raises StaleError: rows of two banks are never mixed.
    """

    def __init__(self, path: Path, manifest: Manifest, place: Place | None = None) -> None:
        self.path = path
        self.manifest = manifest
        self.place = place

    @classmethod
    def open(cls, path: str | Path) -> Bank:
        """Open a bank, or say why it is none.

        Raises
        ------
        MissingFileError
            There is nothing at `path`.
        NotABankError
            What is there is no bank, or one of an unknown format.
        IncompleteBankError
            The bank was never finished.
        DamagedError
            The manifest or an array's metadata is not what was written.
        """
        store = Path(path)
        if not store.exists():
            message = f"no bank at {store}: the path does not exist"
            raise MissingFileError(message)
        if not os.path.lexists(store / MANIFEST):
            raise not_complete(store)
        place = place_of(store)
        bank = cls(store, Manifest.read(store), place)
        with bank.reading():
            bank.check_metadata()
        return bank

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Tell damage that is met while this is entered from a bank that was replaced."""
        try:
            yield
        except Exception as error:
            self.refuse_replaced(error)
            raise

    def refuse_replaced(self, error: BaseException | None = None) -> None:
        """Refuse to go on where another bank, or none, stands where this one was opened.

        Raises
        ------
        StaleError
            It does.
        """
        if self.place is None or place_of(self.path) == self.place:
            return
        try:
            same = Manifest.read(self.path).digest == self.digest
        except DamagedError as now:
            message = f"{self.path} was taken away while it was read; run again when it is back"
            raise StaleError(message) from error or now
        if not same:
            message = f"{self.path} was replaced while it was read; run again"
            raise StaleError(message) from error

    def check_metadata(self) -> None:
        """Compare what zarr would read of each array with what the manifest recorded."""
        arrays = self.manifest.arrays
        expected = dict(self.manifest.groups)
        expected |= {name: record.metadata_sha256 for name, record in arrays.items()}
        for name, digest in expected.items():
            file = self.path / name / "zarr.json"
            try:
                raw = read_plain(self.path, file, METADATA_BYTES)
                same = hashlib.sha256(raw).hexdigest() == digest
                if same and name in arrays:
                    check_metadata(raw, name, arrays[name])
            except FileNotFoundError as error:
                message = f"{file} is missing: the bank is damaged; extract or import again"
                raise DamagedError(message) from error
            except OSError as error:
                message = f"{file} cannot be read: {error.strerror}"
                raise DamagedError(message) from error
            except (ValueError, RecursionError) as error:
                message = f"{file} is no array of a bank: {error!s:.100}"
                raise DamagedError(message) from error
            if not same:
                message = f"{file} is not what was written: the bank is damaged"
                raise DamagedError(message)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return self.manifest.splits

    def __contains__(self, split: str) -> bool:
        return split in self.splits

    def __iter__(self) -> Iterator[str]:
        return iter(self.splits)

    def __getitem__(self, split: str) -> Split:
        if split not in self.splits:
            message = f"{self.path} has no split {split!r}; it has {', '.join(self.splits)}"
            raise InputError(message)
        return Split(self, split)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the C classes."""
        return tuple(self.manifest.class_names)

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """Training rows of each class, (C,)."""
        return np.asarray(self.manifest.class_counts, dtype=np.int64)

    @property
    def shots(self) -> Shots:
        """The thresholds of many, medium and few."""
        return self.manifest.shots

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What the features were made from."""
        return self.manifest.provenance

    @property
    def digest(self) -> str:
        """SHA-256 over everything in the bank: equal digests mean equal banks."""
        return self.manifest.digest

    @property
    def dim(self) -> int:
        """Width D of the features."""
        return self.manifest.arrays[f"{self.splits[0]}/{FEATURES}"].shape[1]

    @property
    def dtype(self) -> str:
        """Stored dtype of the features."""
        return self.manifest.arrays[f"{self.splits[0]}/{FEATURES}"].dtype

    @cached_property
    def classifier(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Stage 1's weight (C, D) and bias (C,), or None where the bank has none."""
        if CLASSIFIER_WEIGHT not in self.manifest.arrays:
            return None
        return self.read_array(CLASSIFIER_WEIGHT), self.read_array(CLASSIFIER_BIAS)

    def read_array(self, name: str, dtype: DTypeLike | None = None) -> NDArray[Any]:
        """Read one numeric array whole, every chunk checked against the manifest."""
        with self.reading():
            return read_whole(self.path / name, self.manifest.arrays[name], dtype)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(self[name])}" for name in self.splits)
        return f"<Bank {self.path}: {sizes}; D = {self.dim}, C = {len(self.class_names)}>"


class Split:
    """One split of a bank: N rows of features with labels and ids."""

    def __init__(self, bank: Bank, name: str, view: int | None = None) -> None:
        self.bank = bank
        self.name = name
        self.kind = FEATURES if view is None else VIEWS
        record = bank.manifest.arrays[f"{name}/{self.kind}"]
        self.record = record if view is None else record.of_view(view)

    def __len__(self) -> int:
        return self.record.shape[0]

    @property
    def features(self) -> Any:
        """The features as a zarr array (N, D), for slicing; `read` is the checked, fast way."""
        self.bank.refuse_replaced()
        return _zarr.open_array(self.bank.path, f"{self.name}/{FEATURES}")

    @property
    def n_views(self) -> int:
        """Augmented views of each row that are banked beside it; 0 where there are none."""
        record = self.bank.manifest.arrays.get(f"{self.name}/{VIEWS}")
        return 0 if record is None else record.n_views

    @property
    def views(self) -> Any | None:
        """All views as a zarr array (K, N, D); `view` is the checked, fast way to one."""
        self.bank.refuse_replaced()
        return _zarr.open_array(self.bank.path, f"{self.name}/{VIEWS}") if self.n_views else None

    def view(self, k: int) -> Split:
        """Return the same rows with the features of their view k, from 0 to `n_views` - 1.

        Raises
        ------
        InputError
            There is no such view.
        """
        if not 0 <= k < self.n_views:
            message = (
                f"split {self.name!r} of {self.bank.path} has {self.n_views} views; asked for {k}"
            )
            raise InputError(message)
        return Split(self.bank, self.name, k)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class index of each row, (N,)."""
        return self.bank.read_array(f"{self.name}/{LABELS}")

    @cached_property
    def ids(self) -> NDArray[np.object_]:
        """Name of each row, (N,) of strings: the image list's path where there was one."""
        name = f"{self.name}/{IDS}"
        with self.bank.reading():
            check_files(self.bank.path / name, self.bank.manifest.arrays[name])
            found = _zarr.read_strings(self.bank.path, name)
        self.bank.refuse_replaced()  # zarr has read the files again after they were checked
        return found

    @cached_property
    def image_sha256(self) -> NDArray[np.uint8] | None:
        """SHA-256 of the image that each row was made from, (N, 32), where it was recorded."""
        return self.optional(IMAGE_SHA256)

    @cached_property
    def image_bytes(self) -> NDArray[np.int64] | None:
        """Size in bytes of the image that each row was made from, (N,), where recorded."""
        return self.optional(IMAGE_BYTES)

    def optional(self, array: str) -> NDArray[Any] | None:
        """Read an array that not every bank has."""
        name = f"{self.name}/{array}"
        return self.bank.read_array(name) if name in self.bank.manifest.arrays else None

    def read(self, dtype: DTypeLike | None = None) -> NDArray[Any]:
        """Read all features, (N, D), in the stored dtype or the one asked for.

        Raises
        ------
        DamagedError
            A chunk is missing, or is not the one that was written; the message names its rows.
        StaleError
            The bank was replaced since it was opened.
        """
        with self.bank.reading():
            return read_whole(self.array, self.record, dtype)

    def to_torch(self, device: str = "cpu", dtype: Any = None) -> Any:
        """Read all features as a tensor (N, D) on a device, through pinned memory for CUDA."""
        import torch

        pinned = str(device).startswith("cuda")
        stored = getattr(torch, self.record.dtype)
        with self.bank.reading():
            check_sizes(self.array, self.record)
            host = torch.empty(self.record.shape, dtype=stored, pin_memory=pinned)
            read_into(self.array, self.record, host.numpy())
        return host.to(device=device, dtype=dtype or stored, non_blocking=False)

    def take(self, indices: Any, dtype: DTypeLike | None = None) -> NDArray[Any]:
        """Read some rows, in the order of `indices` (n,), repeats allowed: (n, D)."""
        rows = np.asarray(indices, dtype=np.int64).reshape(-1)
        if rows.size and not (rows.min() >= 0 and rows.max() < len(self)):
            message = (
                f"{self!r} has rows 0 to {len(self) - 1}; asked for {rows.min()} to {rows.max()}"
            )
            raise InputError(message)
        out = np.empty((len(rows), *self.record.shape[1:]), dtype=self.record.dtype)
        with self.bank.reading():
            gather(self.array, self.record, rows, out)
        return out if dtype is None else cast(out, dtype)

    def blocks(self, dtype: DTypeLike | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield (first row, features (n, D)) chunk by chunk, the next read meanwhile."""
        blocks = iterate(self.array, self.record)
        while True:
            with self.bank.reading():
                block = next(blocks, None)
            if block is None:
                return
            yield block[0], block[1] if dtype is None else cast(block[1], dtype)

    @property
    def array(self) -> Path:
        """Folder of the features in the store."""
        return self.bank.path / self.name / self.kind

    def __repr__(self) -> str:
        return f"<Split {self.name!r} of {self.bank.path}: {self.record.shape}>"


def place_of(store: Path) -> Place | None:
    """Return what tells one manifest file from a later one of the same name."""
    try:
        found = os.lstat(store / MANIFEST)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def not_complete(store: Path) -> IncompleteBankError | NotABankError:
    """Tell a bank that was never finished from something else."""
    if begun_plan(store) is not None:
        plan, claims = read_journal(store)
        done = sum(name.endswith(f"/{FEATURES}") for name, _ in claims)
        message = (
            f"{store} is an unfinished bank, {done} of {plan['n_chunks']} chunks of features "
            "written; run the command that began it again to go on"
        )
        return IncompleteBankError(message)
    message = f"{store} is not a bank: it has no {MANIFEST} with a featbank manifest"
    return NotABankError(message)
