"""A path is a path: whatever its characters mean to a shell, an address or a terminal."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from cli.main import main
from featbank import Bank

NAMES = (
    *("run#3", "lr?0.1", "at-10:30", "a::b", "100%41", "two words ", "-x", "file:", "s3:"),
    *(
        "caf\udce9",
        "zip::memory:",
        "~root",
        "$HOME",
        "ü-Δ-猫",
        "[0-9]*",
        "'one\" two",
        "in#side/x?y::w#0",
    ),
)


def featbank(*words: str | Path) -> Result:
    got = CliRunner().invoke(main, [str(word) for word in words])
    assert got.exit_code == 0, got.output
    return got


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = np.arange(40) % 4
    rows = np.eye(4, 6, dtype="f4")[labels]
    path = tmp_path_factory.mktemp("features") / "f.npz"
    splits = {f"{name}_features": rows for name in ("train", "val", "test")}
    labelled = {f"{name}_labels": labels for name in ("train", "val", "test")}
    np.savez(path, **splits, **labelled)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_a_bank_lies_exactly_where_it_was_asked_for_and_serves_every_command(
    features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    featbank("import", features, "--out", name, "--quiet")
    assert {path.parts[0] for path in (each.relative_to(".") for each in Path().iterdir())} == {
        Path(name).parts[0]
    }
    bank = Bank.open(tmp_path / name)
    assert bank["train"].features[:].tolist() == bank["train"].read().tolist()
    assert len(list(bank["test"].ids)) == 40
    featbank("info", "--", name)
    featbank("verify", "--", name)
    featbank(
        "fit", "--head", "ncm", "--out", f"{name}.fit", "--json", "r.json", "--quiet", "--", name
    )
    assert json.loads(Path("r.json").read_text())["results"][0]["metrics"]["all"] == 1.0
    featbank("evaluate", "--", name, f"{name}.fit/ncm.head")
    featbank("export", "--out", f"{name}.npz", "--", name)
    featbank("import", "--out", "again.zarr", "--", f"{name}.npz")
    featbank("import", features, "--out", name, "--overwrite", "--quiet")
    assert Bank.open(tmp_path / name).digest == bank.digest
