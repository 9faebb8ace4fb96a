"""Reading and writing a bank beside what else could hold the same array.

Reading is compared with np.load, writing with zarr-python in the same chunks and codecs. Files are
in the page cache: this is about the code, not the disk. Whatever reads must give back every value,
and so must what each way of writing left.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr
from safetensors.numpy import load_file, save_file
from zarr.storage import LocalStore

from benchmarks.banks import fill
from benchmarks.common import Row, Work, in_turn, rows_of, run
from featbank import Bank, BankPlan
from featbank.bank.rows import SplitRows

CLASSES = 1000
ROUNDS = 5


@dataclass(frozen=True)
class Size:
    """How many rows of how many features."""

    rows: int
    dim: int


SIZES = {
    "small": (Size(2_000, 256),),
    "usual": (Size(20_000, 2048),),
    "full": (Size(115_846, 2048),),
}


def measure(size: Size, _device: str) -> Iterator[Row]:
    """Time both directions in both precisions."""
    for dtype in ("float16", "float32"):
        X = features(size, dtype)
        with tempfile.TemporaryDirectory() as folder:
            yield from reading(X, Path(folder))
        with tempfile.TemporaryDirectory() as folder:
            yield from writing(X, Path(folder))


def features(size: Size, dtype: str) -> np.ndarray:
    """Return ReLU-like features, (rows, dim)."""
    block = np.random.default_rng(0).standard_normal((4096, size.dim), dtype=np.float32)
    block = np.maximum(block, 0).astype(dtype)
    return np.concatenate([block] * (size.rows // 4096 + 1))[: size.rows]


def reading(X: np.ndarray, folder: Path) -> Iterator[Row]:
    """Time reading the whole array into memory."""
    write_bank(X, folder / "bank")
    write_npy(X, folder / "x.npy")
    write_h5(X, folder / "x.h5")
    write_safetensors(X, folder / "x.safetensors")
    bank = Bank.open(folder / "bank")
    works: dict[str, Work] = {
        "np.load": lambda: np.load(folder / "x.npy"),
        "featbank (crc32c checked)": lambda: bank["train"].read(),
        "zarr-python (crc32c checked)": lambda: bank["train"].features[:],
        "h5py": lambda: read_h5(folder / "x.h5"),
        "safetensors": lambda: read_safetensors(folder / "x.safetensors"),
    }
    seconds, results = in_turn(works, ROUNDS)
    check_values(X, results)
    yield from rows_of(f"read {shape_of(X)}", "np.load", seconds, rates(X, seconds))


def writing(X: np.ndarray, folder: Path) -> Iterator[Row]:
    """Time writing the whole array, a bank with its labels and ids; nothing is overwritten."""
    ways: dict[str, tuple[Callable[[np.ndarray, Path], Any], Callable[[Path], Any]]] = {
        "zarr-python (crc32c)": (write_zarr, lambda path: zarr.open_array(path)[:]),
        "featbank (crc32c, SHA-256)": (write_bank, lambda path: Bank.open(path)["train"].read()),
        "np.save": (write_npy, np.load),
        "h5py": (write_h5, read_h5),
        "safetensors": (write_safetensors, read_safetensors),
    }
    works = {
        name: (lambda name=name, write=write: write(X, folder / f"{name}.npy"))
        for name, (write, _) in ways.items()
    }
    seconds, _ = in_turn(works, ROUNDS, clear=lambda: clear(folder))
    for name, (write, read) in ways.items():
        path = folder / f"{name}.npy"
        write(X, path)
        check_values(X, {f"what {name} wrote": read(path)})
        clear(folder)
    yield from rows_of(f"write {shape_of(X)}", next(iter(works)), seconds, rates(X, seconds))


def write_bank(X: np.ndarray, path: Path) -> None:
    """Write a bank of one split."""
    ids = [str(row) for row in range(len(X))]
    rows = {"train": SplitRows(ids, np.arange(len(X)) % CLASSES)}
    names = [str(label) for label in range(CLASSES)]
    plan = BankPlan(X.shape[1], rows, names, dtype=str(X.dtype))
    fill(path, plan, {"train": X})


def write_zarr(X: np.ndarray, path: Path) -> None:
    """Write by zarr-python, in the chunks and with the codec of a bank."""
    step = min(len(X), 16 * 2**20 // (X.shape[1] * X.itemsize))
    array = zarr.create_array(
        LocalStore(path), shape=X.shape, dtype=X.dtype, chunks=(step, X.shape[1]), zarr_format=3,
        compressors=[zarr.codecs.Crc32cCodec()], config={"write_empty_chunks": True},
    )  # fmt: skip
    array[:] = X


def write_npy(X: np.ndarray, path: Path) -> None:
    """Write numpy's own format."""
    np.save(path, X)


def write_h5(X: np.ndarray, path: Path) -> None:
    """Write one contiguous data set."""
    with h5py.File(path, "w") as file:
        file["x"] = X


def read_h5(path: Path) -> np.ndarray:
    """Read what `write_h5` wrote."""
    with h5py.File(path) as file:
        return file["x"][:]


def write_safetensors(X: np.ndarray, path: Path) -> None:
    """Write one tensor."""
    save_file({"x": X}, path)


def read_safetensors(path: Path) -> np.ndarray:
    """Read what `write_safetensors` wrote."""
    return load_file(path)["x"]


def clear(folder: Path) -> None:
    """Remove what a way of writing left."""
    shutil.rmtree(folder)
    folder.mkdir()


def check_values(X: np.ndarray, found: Mapping[str, np.ndarray]) -> None:
    """Assert that all are the array that was written, bit by bit."""
    for name, values in found.items():
        assert values.dtype == X.dtype, f"{name}: {values.dtype}"
        np.testing.assert_array_equal(values, X, err_msg=name)


def shape_of(X: np.ndarray) -> str:
    """Return rows x features and precision, as the table has it."""
    return f"{len(X)} x {X.shape[1]} {X.dtype}"


def rates(X: np.ndarray, seconds: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """Return gigabytes a second of each way."""
    gigabytes = X.nbytes / 1e9
    return {name: f"{gigabytes / np.median(each):.2f} GB/s" for name, each in seconds.items()}


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    run(__doc__, measure, SIZES, words)


if __name__ == "__main__":
    main()
