"""Every head on Digits-LT over many seeds: mean and standard deviation by shot group.

    python experiments/digits_seeds.py --seeds 10 --out seeds-out

Each seed draws its own images, initialisation and order; the command is `featbank demo` itself.
A folder that is there already is taken as it is, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

GROUPS = ("many", "medium", "few", "all")


def run(out: Path, seed: int) -> dict[str, dict[str, float]]:
    """Run the demo with one seed; return metrics by head."""
    results = out / f"seed{seed}" / "results.json"
    if not results.is_file():
        command = [sys.executable, "-m", "cli", "demo", "--quiet", "--overwrite"]
        command += ["--seed", str(seed), "--out", str(results.parent), "--device", "cpu"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    entries = json.loads(results.read_text())["results"]
    return {entry["head"]: entry["metrics"] for entry in entries if entry["split"] == "test"}


def table(runs: list[dict[str, dict[str, float]]]) -> str:
    """Return the Markdown table of means and standard deviations, in percent."""
    lines = [f"| head | {' | '.join(GROUPS)} | few over joint |", "|---" * 6 + "|"]
    for head in runs[0]:
        cells = []
        for group in GROUPS:
            values = 100 * np.array([found[head][group] for found in runs])
            cells.append(f"{values.mean():.1f} ± {values.std(ddof=1):.1f}")
        gains = 100 * np.array([found[head]["few"] - found["joint"]["few"] for found in runs])
        error = gains.std(ddof=1) / np.sqrt(len(gains))
        gain = "" if head == "joint" else f"{gains.mean():+.1f} ± {error:.1f}"
        lines.append(f"| {head} | {' | '.join(cells)} | {gain} |")
    return "\n".join(lines)


def main() -> None:
    """Run all seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("seeds-out"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    print(table([run(given.out, seed) for seed in range(given.seeds)]))


if __name__ == "__main__":
    main()
