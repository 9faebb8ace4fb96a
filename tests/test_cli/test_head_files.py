"""Heads that do not belong to a bank are refused by `evaluate`, whatever they say of themselves."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import heads
from cli.main import main
from featbank.bank.provenance_diff import feature_identity
from tests.banks import splits, write_bank

X, y = splits()["train"]
NAMES = np.array(list("abcde"))


CASES: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "names for labels": (X, NAMES[y], {}, "gives labels as"),
    "other numbers": (X, y + 3, {}, "gives labels as"),
    "narrow": (X[:, :5], y, {}, "takes features of width 5"),
    "no features": (X, y, {"features": 3}, "does not say on which features"),
    "no class names": (X, y, {"class_names": None}, "does not say on which features"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_head_of_something_else_is_refused_by_its_path(tmp_path: Path, case: str) -> None:
    features, labels, changes, said = CASES[case]
    bank = write_bank(tmp_path / "bank")
    good = {
        "features": feature_identity(bank.provenance),
        "class_names": list(bank.class_names),
    }
    file = tmp_path / "x.head"
    heads.NearestClassMean().fit(features, labels).save(file, good | changes)
    done = CliRunner().invoke(main, ["evaluate", str(bank.path), str(file)])
    assert done.exit_code == 5
    assert str(file) in done.stderr
    assert said in done.stderr


def test_a_pipe_for_a_head_is_refused_by_its_path(tmp_path: Path) -> None:
    bank = write_bank(tmp_path / "bank")
    os.mkfifo(tmp_path / "x.head")
    done = CliRunner().invoke(main, ["evaluate", str(bank.path), str(tmp_path / "x.head")])
    assert done.exit_code == 4
    assert f"{tmp_path / 'x.head'}: not a head file" in done.stderr
