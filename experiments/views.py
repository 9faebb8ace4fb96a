"""What augmented views and a BatchNorm refresh are worth, beside training on fresh images.

    python -m experiments.views --seeds 5 --views 10 --out views-out

Real images: scikit-learn's digits, long-tailed. Each seed draws its own images, initialisation and
order. Heads by sgd take 200 steps of 64, the classifier that is trained on fresh augmented images
through the frozen backbone 170. A folder that is there already is taken as
it is, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from experiments.common import GROUPS, gain, spread, table

PLAIN = "crt, sgd"  # the row that the others are compared with
SGD = "solver=sgd,batch=64"
# 276 images in batches of 64, the last one smaller: 170 steps in 34 epochs; the heads take 200.
FRESH = ("--retrain", "classifier", "--batch-size", "64", "--epochs", "34", "--lr", "0.2")
FRESH += ("--weight-decay", "5e-4", "--warmup-epochs", "0")


def run(*words: object) -> None:
    """Run a featbank command."""
    command = [sys.executable, "-m", "cli", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def heads(views: int) -> dict[str, str]:
    """Return the rows of the table and the specification of each, for a bank."""
    return {
        "joint": "joint",
        "ncm": "ncm",
        "tau": "tau",
        "crt, exact": "crt",
        f"crt, exact, {views} views": f"crt:views={views}",
        PLAIN: f"crt:{SGD},views=0",
        f"crt, sgd, {views} views": f"crt:{SGD}",
        "lws, sgd": f"lws:{SGD},views=0",
        f"lws, sgd, {views} views": f"lws:{SGD}",
    }


def metrics(bank: Path, rows: dict[str, str], out: Path) -> dict[str, dict[str, float]]:
    """Fit heads on a bank; return the test metrics of each."""
    if not (out / "results.json").is_file():
        wanted = [word for spec in rows.values() for word in ("--head", spec)]
        run("fit", bank, *wanted, "--out", out, "--overwrite", "--json", out.with_suffix(".json"))
    entries = json.loads((out / "results.json").read_text())["results"]
    on_test = [entry["metrics"] for entry in entries if entry["split"] == "test"]
    return dict(zip(rows, on_test, strict=True))


def one(out: Path, seed: int, data: str, views: int) -> dict[str, dict[str, float]]:
    """Run everything with one seed; return metrics by row of the table."""
    folder = out / f"seed{seed}"
    spec, common = f"{data},seed={seed}", ("--quiet", "--device", "cpu")
    start = ("train", "--data", spec, "--seed", seed, "--resume", *common, "--out")
    run(*start, folder / "run")
    found: dict[str, dict[str, float]] = {}
    for name, refresh in (("", "none"), ("BN refreshed: ", "class-balanced")):
        bank = folder / f"bank-{refresh}"
        run("extract", folder / "run", "--views", views, "--bn-refresh", refresh, "--seed", seed,
            *common, "--out", bank)  # fmt: skip
        rows = {name + row: head for row, head in heads(views).items()}
        found |= metrics(bank, rows, folder / f"heads-{refresh}")
    for name, shift in (("BN still", "--no-shift-bn"), ("BN moving", "--shift-bn")):
        again = folder / f"fresh{shift}"
        run(*start, again, "--init", folder / "run", *FRESH, shift)
        run("extract", again, "--which", "last", *common, "--out", f"{again}-bank")
        rows = {f"classifier on fresh images, {name}": "joint"}
        found |= metrics(Path(f"{again}-bank"), rows, Path(f"{again}-heads"))
    return found


def row(name: str, runs: list[dict[str, dict[str, float]]]) -> list[str]:
    """Return a row of the table: each group, and the gain of `all` over the plain `crt, sgd`."""
    values = [spread([found[name][group] for found in runs]) for group in GROUPS]
    own, plain = ([found[each]["all"] for found in runs] for each in (name, PLAIN))
    return [name, *values, "" if name == PLAIN else gain(own, plain)]


def main() -> None:
    """Run all seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--views", type=int, default=10)
    parser.add_argument("--data", default="digits-lt:imbalance=50")
    parser.add_argument("--out", type=Path, default=Path("views-out"))
    given: Any = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    runs = [one(given.out, seed, given.data, given.views) for seed in range(given.seeds)]
    print(table(["head", *GROUPS, f"all over {PLAIN}"], [row(name, runs) for name in runs[0]]))


if __name__ == "__main__":
    main()
