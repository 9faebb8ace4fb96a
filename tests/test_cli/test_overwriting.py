"""`--overwrite` and `--replace-in-place` on the command line."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cli.main import main
from featbank import Bank
from tests.banks import splits, write_bank, write_npz
from tests.faults.world import contents


def featbank(*words: object) -> Any:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.mark.parametrize("command", ["import", "extract", "train", "export"])
def test_replacing_in_place_without_overwriting_is_a_usage_error(command: str) -> None:
    what = {"train": ["--data", "digits-lt"]}.get(command, ["there"])
    for words in (["--out", "x", "--replace-in-place"], ["--replace-in-place", "--out", "x"]):
        done = featbank(command, *what, *words)
        assert done.exit_code == 2
        assert "--replace-in-place says how to overwrite: add --overwrite" in done.output
    assert "--replace-in-place" in featbank(command, "--help").output


def test_a_refused_import_leaves_the_bank_as_it_was(tmp_path: Path) -> None:
    rows = splits()["train"][0].copy()
    rows[7, 0] = -np.inf
    good, bad = write_npz(tmp_path / "a.npz"), write_npz(tmp_path / "b.npz", train_features=rows)
    bank = tmp_path / "out" / "bank"
    assert featbank("import", good, "--out", bank).exit_code == 0
    (bank / "mine").write_text("mine")
    before = contents(bank)
    for more in ([], ["--dtype", "float16"]):
        done = featbank("import", bad, "--out", bank, "--overwrite", *more)
        assert done.exit_code == 3
        assert contents(bank) == before
    assert featbank("verify", bank).exit_code == 0
    done = featbank("import", good, "--out", bank, "--overwrite", "--dtype", "float16")
    assert done.exit_code == 0, done.output
    assert (Bank.open(bank).dtype, (bank / "mine").read_text()) == ("float16", "mine")
    done = featbank("import", good, "--out", bank, "--overwrite", "--replace-in-place")
    assert done.exit_code == 0, done.output
    assert (Bank.open(bank).dtype, (bank / "mine").read_text()) == ("float32", "mine")
    assert os.listdir(bank.parent) == ["bank"]


def test_export_replaces_its_own_files_only(tmp_path: Path) -> None:
    bank, out = write_bank(tmp_path / "bank").path, tmp_path / "out.npz"
    assert featbank("export", bank, "--out", out).exit_code == 0
    assert featbank("export", bank, "--out", out).exit_code == 3
    for more in ([], ["--replace-in-place"]):
        assert featbank("export", bank, "--out", out, "--overwrite", *more).exit_code == 0
    write_npz(out)
    done = featbank("export", bank, "--out", out, "--overwrite")
    assert done.exit_code == 3
    assert "was not written by featbank, so it is not replaced" in done.output
