"""What float16 storage costs: every head on the same features, as float32 and rounded to float16.

    python -m experiments.half_precision                      # synthetic features
    python -m experiments.half_precision --run RUN --out BANK  # and a run's, extracted as float32

Both times the heads compute in float32 and are evaluated on test features of the same storage.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import features
from featbank.runtime.spec import parse_spec
from heads import specs
from heads.curves.rules import choose_on_curve
from heads.metrics import evaluate

HEADS = ("joint", "ncm", "ncm:transform=un", "tau", "logit-adjust", "lws", "crt",
         "crt:solver=sgd", "balanced-softmax")  # fmt: skip
Splits = dict[str, tuple[Any, Any]]


def curve_of(name: str) -> Any:
    """Return the exact curve of tau or of logit adjustment, as a function of W and b."""
    from heads.curves.curve import exact_adjust_curve, exact_tau_curve

    if name == "tau":
        return lambda W, b, *rest: exact_tau_curve(W, *rest)
    return exact_adjust_curve


def accuracy(text: str, splits: Splits, linear: tuple[Any, Any], counts: Any) -> tuple[float, Any]:
    """Fit and choose on val as the command line does; return test `all` and the labels."""
    spec = parse_spec(text)
    W, b = linear if specs.needs_stage1(spec.name, spec.params) else (None, None)
    head = specs.build(spec.name, spec.params, weight=W, bias=b)
    if spec.name in ("tau", "logit-adjust"):
        curve = curve_of(spec.name)(W, b, *splits["val"], counts)
        head.set_params(tau=choose_on_curve(curve).best)
    if specs.has_path(head):
        head.fit_path(*splits["train"], *splits["val"], counts)
    else:
        head.fit(*splits["train"])
    X, y = splits["test"]
    predicted = np.asarray(head.predict(X))
    return 100 * float(evaluate(np.asarray(y), predicted, counts)["all"] or 0), predicted


def compare(name: str, splits: Splits, linear: tuple[Any, Any], counts: Any) -> None:
    """Print a row for each head: test `all` by storage, and how many labels differ."""
    rounded = {
        split: (torch.as_tensor(X).half().float().numpy(), np.asarray(y))
        for split, (X, y) in splits.items()
    }
    full = {split: (np.asarray(X), np.asarray(y)) for split, (X, y) in splits.items()}
    for text in HEADS:
        (exact, one), (half, other) = (
            accuracy(text, part, linear, counts) for part in (full, rounded)
        )
        moved = 100 * float((one != other).mean())
        row = f"| {name} | {text} | {exact:.2f} | {half:.2f} | {half - exact:+.2f} | {moved:.2f} |"
        print(row, flush=True)


def synthetic() -> tuple[Splits, tuple[Any, Any], Any]:
    """Return features like a trained network's, 10,847 x 256 of 100 classes."""
    problem = features.make(dataclasses.replace(features.SMALL, spread=0.75))
    W, b = features.stage1(problem)
    return dict(problem.splits), (W.numpy(), b.numpy()), problem.counts


def extracted(run: Path, out: Path) -> tuple[Splits, tuple[Any, Any], Any]:
    """Extract a run's features as float32; half of test, in turn, takes val's place."""
    from featbank import Bank

    if not out.exists():
        command = [sys.executable, "-m", "cli", "extract", str(run), "--out", str(out)]
        subprocess.run([*command, "--dtype", "float32", "--quiet"], check=True)
    bank = Bank.open(out)
    splits: Splits = {name: (bank[name].read("float32"), bank[name].labels) for name in bank}
    if "val" not in splits:
        X, y = splits["test"]
        order = np.argsort(y, kind="stable")
        splits |= {"val": (X[order[::2]], y[order[::2]]), "test": (X[order[1::2]], y[order[1::2]])}
    linear = bank.classifier
    if linear is None:
        message = f"{run} has no classifier"
        raise SystemExit(message)
    return splits, linear, bank.class_counts


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("float32.zarr"))
    given = parser.parse_args()
    print("| features | head | float32 | float16 | difference | labels that differ, % |")
    print("|---|---|---|---|---|---|")
    compare("synthetic", *synthetic())
    if given.run:
        compare(given.run.name, *extracted(given.run, given.out))


if __name__ == "__main__":
    main()
