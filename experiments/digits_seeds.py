"""Every head on Digits-LT over many seeds: mean and standard deviation by shot group.

    python -m experiments.digits_seeds --seeds 10 --out seeds-out

Each seed draws its own images, initialisation and order; the command is `featbank demo` itself.
A folder that is there already is taken as it is, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from experiments.common import GROUPS, gain, spread, table


def run(out: Path, seed: int) -> dict[str, dict[str, float]]:
    """Run the demo with one seed; return metrics by head."""
    results = out / f"seed{seed}" / "results.json"
    if not results.is_file():
        command = [sys.executable, "-m", "cli", "demo", "--quiet", "--overwrite"]
        command += ["--seed", str(seed), "--out", str(results.parent), "--device", "cpu"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    entries = json.loads(results.read_text())["results"]
    return {entry["head"]: entry["metrics"] for entry in entries if entry["split"] == "test"}


def row(head: str, runs: list[dict[str, dict[str, float]]]) -> list[str]:
    """Return a head's row of the table: each group, and the gain over joint on few-shot classes."""
    values = [spread([found[head][group] for found in runs]) for group in GROUPS]
    few, joint = ([found[name]["few"] for found in runs] for name in (head, "joint"))
    return [head, *values, "" if head == "joint" else gain(few, joint)]


def main() -> None:
    """Run all seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("seeds-out"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    runs = [run(given.out, seed) for seed in range(given.seeds)]
    print(table(["head", *GROUPS, "few over joint"], [row(head, runs) for head in runs[0]]))


if __name__ == "__main__":
    main()
