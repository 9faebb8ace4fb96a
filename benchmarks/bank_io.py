"""Reading and writing a bank beside what else could hold the same array, in one run.

    python benchmarks/bank_io.py --rows 115846 --dim 2048 --rounds 5

Every round times each way once, in turn, so that a drift of the machine meets all of them; the
table gives medians, and the ratio to `np.load` (reading) and to zarr-python (writing) round by
round. Files are in the page cache: this is about the code, not the disk.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from featbank import Bank, BankPlan, BankWriter
from featbank.bank.rows import SplitRows

CLASSES = 1000


def features(rows: int, dim: int, dtype: str) -> Any:
    """Return ReLU-like features, (rows, dim)."""
    block = np.random.default_rng(0).standard_normal((4096, dim), dtype=np.float32)
    block = np.maximum(block, 0).astype(dtype)
    return np.concatenate([block] * (rows // 4096 + 1))[:rows]


def plan_for(X: Any) -> BankPlan:
    """Plan a bank of one split."""
    labels = np.arange(len(X)) % CLASSES
    rows = {"train": SplitRows([str(row) for row in range(len(X))], labels)}
    names = [str(c) for c in range(CLASSES)]
    return BankPlan(X.shape[1], rows, names, dtype=str(X.dtype))


def write_bank(X: Any, plan: BankPlan, path: Path) -> None:
    """Write all features, crc32c and SHA-256 taken, to page cache."""
    with BankWriter.begin(path, plan) as writer:
        for split, start, stop in writer.missing():
            writer.put(split, start, X[start:stop])
        writer.collect(0)


def write_zarr(X: Any, path: Path) -> None:
    """Write the same array by zarr-python, in the same chunks and codecs."""
    import zarr
    from zarr.storage import LocalStore

    step = 16 * 2**20 // (X.shape[1] * X.itemsize)
    array = zarr.create_array(
        LocalStore(path), shape=X.shape, dtype=X.dtype, chunks=(step, X.shape[1]), zarr_format=3,
        compressors=[zarr.codecs.Crc32cCodec()], config={"write_empty_chunks": True},
    )  # fmt: skip
    array[:] = X


def ways(X: Any, folder: Path) -> tuple[dict[str, Callable[[], Any]], dict[str, Callable[[], Any]]]:
    """Return the ways of writing and of reading."""
    plan = plan_for(X)
    with BankWriter.begin(folder / "bank", plan, overwrite=True) as writer:
        for split, start, stop in writer.missing():
            writer.put(split, start, X[start:stop])
        writer.commit()
    bank = Bank.open(folder / "bank")
    np.save(folder / "x.npy", X)
    writing = {
        "featbank (crc32c, SHA-256)": lambda: write_bank(X, plan, folder / "written"),
        "zarr-python (crc32c)": lambda: write_zarr(X, folder / "zarr"),
        "np.save": lambda: np.save(folder / "y.npy", X),
    }
    reading = {
        "featbank (crc32c checked)": lambda: bank["train"].read(),
        "np.load": lambda: np.load(folder / "x.npy"),
        "zarr-python (crc32c checked)": lambda: bank["train"].features[:],
    }
    for name, add in (("h5py", add_h5py), ("safetensors", add_safetensors)):
        if importlib.util.find_spec(name):
            add(X, folder, writing, reading)
    return writing, reading


def add_h5py(X: Any, folder: Path, writing: dict[str, Any], reading: dict[str, Any]) -> None:
    """Add h5py, one contiguous data set."""
    import h5py

    def write(name: str = "y.h5") -> None:
        with h5py.File(folder / name, "w") as file:
            file["x"] = X

    def read() -> Any:
        with h5py.File(folder / "x.h5") as file:
            return file["x"][:]

    write("x.h5")
    writing["h5py"], reading["h5py"] = write, read


def add_safetensors(X: Any, folder: Path, writing: dict[str, Any], reading: dict[str, Any]) -> None:
    """Add safetensors."""
    from safetensors.numpy import load_file, save_file

    save_file({"x": X}, folder / "x.safetensors")
    writing["safetensors"] = lambda: save_file({"x": X}, folder / "y.safetensors")
    reading["safetensors"] = lambda: load_file(folder / "x.safetensors")["x"]


def clear_written(folder: Path) -> None:
    """Remove what the ways of writing left."""
    for name in ("written", "zarr"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("y.npy", "y.h5", "y.safetensors"):
        (folder / name).unlink(missing_ok=True)


def measure(
    ways: dict[str, Callable[[], Any]], rounds: int, clear: Callable[[], None] = lambda: None
) -> dict[str, list[float]]:
    """Time every way once a round, in turn, after one round that does not count.

    `clear` takes away what was written, and is not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            started = time.perf_counter()
            run()
            if number:
                seconds[name].append(time.perf_counter() - started)
            clear()
    return seconds


def table(title: str, seconds: dict[str, list[float]], baseline: str, n_bytes: int) -> str:
    """Return a Markdown table; the ratio is speed over the baseline's, its median over rounds."""
    lines = [f"| {title} | GB/s | x {baseline} (min to max) |", "|---|---|---|"]
    for name, each in seconds.items():
        ratios = [base / own for base, own in zip(seconds[baseline], each, strict=True)]
        rate = n_bytes / 1e9 / statistics.median(each)
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {name} | {rate:.2f} | {spread} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=115_846)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(f"{given.rows} x {given.dim}, {platform.machine()}, Python {platform.python_version()}\n")
    for dtype in ("float16", "float32"):
        X = features(given.rows, given.dim, dtype)
        with tempfile.TemporaryDirectory() as folder:
            writing, reading = ways(X, Path(folder))
            np.testing.assert_array_equal(reading["featbank (crc32c checked)"](), X)
            print(table(f"reading {dtype}", measure(reading, given.rounds), "np.load", X.nbytes))
            print()
            found = measure(writing, given.rounds, lambda: clear_written(Path(folder)))
            print(table(f"writing {dtype}", found, "zarr-python (crc32c)", X.nbytes))
            print()


if __name__ == "__main__":
    main()
