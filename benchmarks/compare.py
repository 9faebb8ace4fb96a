"""`featbank compare` on synthetic banks: a first run, a second one, and one bank more.

    python benchmarks/compare.py --banks 5 --shape small-512

Times are of the whole command, start of Python included, on the clock and on the processors (which
says more where others use the machine); for the first run also how much of it was fitting (the sum
of `fit_seconds`, by the clock), and the resampling with all comparisons, run alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import features
from featbank import Bank, BankPlan, BankWriter
from featbank.bank.rows import SplitRows
from featbank.comparing.statistics import CellRows, cell_statistics

HEADS = ("joint", "ncm", "tau", "logit-adjust", "crt", "lws")
SHAPES = {
    "small-512": dataclasses.replace(features.SMALL, n_train=10_000, dim=512, n_val=50),
    "places-lt": features.PLACES_LT,
    "tiny": features.TINY,
}


def write(path: Path, shape: features.Shape, seed: int) -> None:
    """Write a bank of synthetic features; all have the same reported rows."""
    problem = features.make(shape, noise=1 + 0.05 * seed)
    plan = BankPlan(
        dim=shape.dim,
        rows={
            name: SplitRows([f"{name}/{row}" for row in range(len(y))], y.numpy())
            for name, (_, y) in problem.splits.items()
        },
        class_names=[f"class {index}" for index in range(shape.n_classes)],
        dtype="float16",
        classifier=tuple(part.numpy() for part in features.stage1(problem)),
        provenance={"checkpoint": str(seed), "recipe": {"sampler": "instance", "seed": seed}},
    )
    with BankWriter.begin(path, plan) as writer:
        for name, start, stop in writer.missing():
            writer.put(name, start, problem.splits[name][0][start:stop].numpy())
        writer.commit()


def processors() -> float:
    """Return the processor seconds of all commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(banks: list[Path], out: Path) -> tuple[float, float]:
    """Run the command; return its seconds by the clock and on the processors."""
    words = [word for head in HEADS for word in ("--head", head)]
    command = [sys.executable, "-m", "cli", "compare", *map(str, banks), *words]
    started, before = time.perf_counter(), processors()
    subprocess.run(
        [*command, "--out", str(out), "--device", "cpu", "--quiet"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - started, processors() - before


def statistics_alone(out: Path) -> tuple[float, float]:
    """Resample and compare what is in a folder, once more; return the seconds as `timed` does."""
    found = json.loads((out / "compare.json").read_text())
    places = []
    for entry in found["results"]:
        bank = Bank.open(entry["bank"])
        with np.load(out / "cells" / entry["cell"] / "evaluation.npz") as file:
            labels, predicted = file["labels"], file["predicted"]
        places.append(
            CellRows(
                bank=entry["bank_name"], head=entry["spec"], samples="the same",
                counts=bank.class_counts.tolist(), **bank.shots.to_json(), labels=labels,
                right=labels == predicted, metrics=entry["metrics"],
            )
        )  # fmt: skip
    started, before = time.perf_counter(), time.process_time()
    again = cell_statistics(places, draws=found["settings"]["bootstrap"], seed=0)
    seconds = time.perf_counter() - started, time.process_time() - before
    assert again.comparisons == found["comparisons"]
    return seconds


def measure(
    n_banks: int, shape: features.Shape, folder: Path
) -> dict[str, tuple[float, float | None]]:
    """Return seconds by the clock and on the processors, by what was run."""
    banks = [folder / f"bank{index}.zarr" for index in range(n_banks + 1)]
    for index, bank in enumerate(banks):
        write(bank, shape, index)
    out = folder / "out"
    first = timed(banks[:-1], out)
    results = json.loads((out / "compare.json").read_text())["results"]
    rest = statistics_alone(out)
    second = timed(banks[:-1], out)
    return {
        "first run": first,
        "of it fitting": (sum(entry["fit_seconds"] for entry in results), None),
        "of it resampling and comparisons": rest,
        "second run": second,
        "one bank more": timed(banks, out),
    }


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--banks", type=int, default=5)
    parser.add_argument("--shape", choices=SHAPES, default="small-512")
    given = parser.parse_args()
    shape = SHAPES[given.shape]
    print(f"{given.banks} banks x {len(HEADS)} heads; {shape}")
    with tempfile.TemporaryDirectory() as folder:
        for name, (clock, used) in measure(given.banks, shape, Path(folder)).items():
            print(f"{name:34} {clock:7.2f} s {'' if used is None else f'{used:7.2f} s'}")


if __name__ == "__main__":
    main()
