"""`featbank compare` as a user runs it: the table, the folder, and what is not done again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from cli.main import main
from tests.banks import write_bank

HEADS = ("joint", "ncm", "tau")
WANTED = [word for head in HEADS for word in ("--head", head)]


def featbank(*args: Any) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)


@pytest.fixture(scope="module")
def banks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("compare")
    return [
        write_bank(folder / f"{name}.zarr", provenance={"checkpoint": name}).path for name in "ab"
    ]


@pytest.fixture(scope="module")
def compared(banks: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, str]:
    out = tmp_path_factory.mktemp("compared") / "out"
    done = featbank("compare", *banks, *WANTED, "--out", out, "--device", "cpu", "--quiet")
    assert done.exit_code == 0
    return out, json.loads((out / "compare.json").read_text()), done.stdout


def test_compare_gives_what_fit_gives(
    banks: list[Path], compared: tuple[Path, Any, str], tmp_path: Path
) -> None:
    fitted = featbank("fit", banks[1], *WANTED, "--out", tmp_path / "h", "--json", "-")
    ours = [entry for entry in compared[1]["results"] if entry["bank_name"] == "b"]
    for want, got in zip(json.loads(fitted.stdout)["results"], ours, strict=True):
        for name in ("bank", "head", "params", "selected_on", "selection", "split", "metrics"):
            assert got[name] == want[name]


def test_every_file_of_the_format_is_there(compared: tuple[Path, Any, str]) -> None:
    out, found, _ = compared
    for entry in found["results"]:
        cell = out / "cells" / entry["cell"]
        with np.load(cell / "evaluation.npz") as file:
            arrays = dict(file)
        right = arrays["labels"] == arrays["predicted"]
        assert right.mean() == pytest.approx(entry["metrics"]["micro"])
        assert arrays["plane_grid"].shape == (64, 64)
        assert arrays["weight_norms"].shape == (5,)
        assert np.isnan(arrays["weight_norms"]).all() == (entry["head"] == "ncm")
        assert (cell / "head.head").is_file()
        assert json.loads((cell / "cell.json").read_text())["metrics"] == entry["metrics"]
        assert entry["calibration"]["nll_scaled"] == pytest.approx(arrays["nll"].mean(), rel=1e-6)
    for bank in found["banks"]:
        folder = out / "banks" / bank["slug"]
        assert json.loads((folder / "bank.json").read_text())["class_counts"][0] == 120
        with np.load(folder / "view.npz") as file:
            assert file["features2d"].shape == (200, 2)
        with np.load(folder / "curve-tau.npz") as file:
            assert file["parameter"].shape == file["test_all"].shape == (201,)
