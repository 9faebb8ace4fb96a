"""Stage 1, bank and heads of many seeds on Digits-LT, in one process; what is on disk is kept."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import featbank
from featbank.extraction.extract import extract
from featbank.runtime.spec import Spec
from featbank.stage1.recipe import train_by_name

__all__ = ["GROUPS", "arguments", "gain", "measured", "spread", "table", "trained"]

GROUPS = ("many", "medium", "few", "all")


def arguments(doc: str | None) -> argparse.Namespace:
    """Read --seeds, --epochs and --out; experiments with one --out share their trainings."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=40, help="of stage 1")
    parser.add_argument("--out", type=Path, default=Path("recipes-out"))
    return parser.parse_args()


def trained(run: Path, seed: int, settings: Mapping[str, Any], init: Path | None = None) -> Path:
    """Train on Digits-LT with the command's own defaults and `settings`; go on where it stopped.

    A run that is there by other settings is refused.
    """
    given = {"seed": seed, "init": init, **settings}
    train_by_name(Spec("digits-lt", {"seed": seed}), run, given, device="cpu", resume=True)
    return run


def measured(run: Path, name: str, heads: Sequence[str], seed: int) -> list[dict[str, float]]:
    """Bank a training's features, fit heads chosen on val; return their metrics on test."""
    results = run / f"{name}.json"
    if not results.is_file():
        extract(run, run / "bank.zarr", device="cpu")
        fits = featbank.fit(run / "bank.zarr", list(heads), select="val", report="test", seed=seed)
        results.write_text(json.dumps([fit.metrics for fit in fits]))
    found: list[dict[str, float]] = json.loads(results.read_text())
    return found


def spread(values: Sequence[float]) -> str:
    """Write the mean and the standard deviation over seeds, in percent."""
    percent = 100 * np.array(values)
    deviation = f" ± {percent.std(ddof=1):.1f}" if len(percent) > 1 else ""
    return f"{percent.mean():.1f}{deviation}"


def gain(ones: Sequence[float], others: Sequence[float]) -> str:
    """Write the mean difference over paired seeds and its standard error, in points."""
    points = 100 * (np.array(ones) - np.array(others))
    error = f" ± {points.std(ddof=1) / np.sqrt(len(points)):.1f}" if len(points) > 1 else ""
    return f"{points.mean():+.1f}{error}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows))
