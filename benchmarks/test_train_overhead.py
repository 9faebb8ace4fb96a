"""The overhead benchmark runs, small."""

import json
import runpy
from pathlib import Path

import pytest


def test_the_overhead_benchmark_compares_the_same_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = "--images 16 --batch-size 10 --epochs 1 --rounds 1 --file-side 32 --image-size 16"
    out = tmp_path / "result.json"
    line = f"train_overhead --backbone tiny-cnn --device cpu {size} --json {out}"
    monkeypatch.setattr("sys.argv", line.split())

    runpy.run_path(str(Path(__file__).with_name("train_overhead.py")), run_name="__main__")

    result = json.loads(out.read_text())
    assert [row["what"] for row in result["rows"]] == ["train", "extract"]
    assert all(row["featbank / bare time"] > 0 for row in result["rows"])
    assert result["class-balanced indices/s"] > 0
