"""The whole job, as a new user runs it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def demo(folder: Path) -> str:
    """Run the demo in a folder; return what it printed."""
    folder.mkdir()
    command = [sys.executable, "-m", "cli", "demo", "--quiet", "--device", "cpu"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    done = subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True, text=True)
    return done.stdout


def without_times(value: Any) -> Any:
    """Take every `fit_seconds` out of a JSON value, and the digests over it."""
    if isinstance(value, dict):
        timed = ("fit_seconds", "sha256")
        return {key: without_times(v) for key, v in value.items() if key not in timed}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def comparison(text: str) -> list[str]:
    """Return the printed comparison, from its title to its last difference."""
    lines = [line.rstrip() for line in text.splitlines()]
    start = lines.index("accuracy, mean over classes (`all`), in %")
    return lines[start : next(i for i, line in enumerate(lines) if "--tests shows" in line)]


def table(text: str) -> dict[str, list[str]]:
    """Return the rows of the printed table by head, without the seconds."""
    heads = ("joint", "ncm", "tau", "crt", "lws")
    rows = (re.split(r"\s{2,}", line.strip()) for line in text.splitlines())
    return {row[0]: row[1:-1] for row in rows if row[0] in heads and len(row) == 9}


@pytest.mark.slow
def test_the_demo_is_the_same_twice_and_what_the_readme_shows(tmp_path: Path) -> None:
    printed = [demo(tmp_path / name) for name in "ab"]
    found = [
        {
            str(file.relative_to(tmp_path / name / "demo-out")): file.read_bytes()
            for file in (tmp_path / name / "demo-out").rglob("*")
            if file.is_file() and "tfevents" not in file.name  # TensorBoard's, of the time
        }
        for name in "ab"
    ]
    assert found[0].keys() == found[1].keys()
    assert {
        "results.json", "run-balanced/best.safetensors", "instance.zarr/zarr.json",
        "comparison/compare.json", "comparison/report.html",
    } <= found[0].keys()  # fmt: skip
    for name, raw in found[0].items():
        if name == "comparison/report.html":
            continue  # it shows how long fitting took
        if name.endswith(("results.json", "compare.json", "cell.json")):
            assert without_times(json.loads(raw)) == without_times(json.loads(found[1][name]))
        else:
            assert raw == found[1][name], name
    assert len(table(printed[0])) == 5
    assert table(printed[0]) == table(printed[1]) == table(README)
    assert comparison(printed[0]) == comparison(printed[1]) == comparison(README)
