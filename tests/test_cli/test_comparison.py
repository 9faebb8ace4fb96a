"""`featbank.compare` and what it returns."""

import json
from pathlib import Path

import pytest

import featbank
from featbank import Comparison, UsageError
from tests.banks import write_bank


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("comparison") / "out"


@pytest.fixture(scope="module")
def study(out: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("banks")
    banks = [write_bank(folder / f"{n}.zarr", provenance={"checkpoint": n}).path for n in "ab"]
    return featbank.compare(banks, ["joint", "ncm", "tau"], out, draws=100, device="cpu")


def test_a_comparison_is_read_back_as_it_was_written(study: Comparison, out: Path) -> None:
    kept = json.loads((out / "compare.json").read_text())
    del kept["sha256"]
    assert json.dumps(Comparison.load(out).to_json()) == json.dumps(kept)
    assert Comparison.load(out) == study


def test_differences_to_a_baseline_subtract_it(study: Comparison) -> None:
    found = study.differences("ncm")
    assert {each.b.head for each in found} == {"ncm"}
    assert len(found) == 4
    with pytest.raises(UsageError, match="baseline knn is neither head nor bank"):
        study.differences("knn")


def test_a_frame_has_a_row_for_each_result(study: Comparison) -> None:
    frame = study.frame()
    assert len(frame) == 6
    assert frame["all"].max() == study.best.metrics["all"]
    assert (frame["all_low"] <= frame["all"]).all()
