"""The folder of the demo: the old one is there until the new one is. Nothing is trained here."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

import heads
from featbank import Bank
from tests.banks import write_bank
from tests.commands import contents, featbank, refused

PARTS = ["balanced.zarr", "comparison", "heads", "instance.zarr", "results.json"]
RUNS = ["run-balanced", "run-instance"]


@pytest.fixture(autouse=True)
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the banks be small ones, of runs that never were."""

    def make_bank(out: Path, name: str, seed: int, *_: Any) -> Path:
        run = out / f"run-{name}"
        run.mkdir()
        (run / "last.safetensors").write_text(name)
        (run / "run.json").write_text(
            '{"config": {}, "data_spec": {}, "class_names": [], "class_counts": []}'
        )
        provenance = {"checkpoint": f"{name} {seed}"}
        return write_bank(out / f"{name}.zarr", provenance=provenance).path

    monkeypatch.setattr("featbank.demo.make_bank", make_bank)


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A demo with a note of the user's in every folder of it."""
    monkeypatch.chdir(tmp_path)
    assert featbank("demo", "--out", "out", "--quiet").exit_code == 0
    for folder in ("", "heads", "comparison/cells", "run-instance", "instance.zarr/train"):
        (tmp_path / "out" / folder / "note").write_text("mine")
    return tmp_path / "out"


def notes(out: Path) -> dict[str, bytes]:
    return {name: raw for name, raw in contents(out).items() if name.endswith("note")}


def whole(out: Path, seed: int) -> None:
    """Look at everything in a demo."""
    assert sorted(set(os.listdir(out)) - {"note"}) == sorted(PARTS + RUNS)
    assert os.listdir(out.parent) == ["out"]
    for name in ("instance", "balanced"):
        assert Bank.open(out / f"{name}.zarr").provenance["checkpoint"] == f"{name} {seed}"
    results = json.loads((out / "results.json").read_text())["results"]
    for entry in results:
        assert entry["bank"] == "out/instance.zarr"
        assert heads.read_metadata(out / entry["file"])["bank"] == entry["bank"]
    compared = json.loads((out / "comparison" / "compare.json").read_text())
    assert [bank["path"] for bank in compared["banks"]] == [
        "out/instance.zarr",
        "out/balanced.zarr",
    ]
    assert not [name for name, raw in contents(out).items() if b".out.new" in raw]
    found = featbank(
        "evaluate", out / "instance.zarr", *sorted(out.glob("heads/*.head")), "--quiet"
    )
    assert found.exit_code == 0
    assert featbank("report", out / "comparison", "--tsne", "--quiet").exit_code == 0


def test_a_demo_replaces_the_one_before_and_keeps_notes(out: Path) -> None:
    before = notes(out)
    assert "exists and is not empty" in refused(3, "demo", "--out", "out")
    assert featbank("demo", "--out", "out", "--overwrite", "--quiet", "--seed", "1").exit_code == 0
    whole(out, 1)
    assert notes(out) == before
    assert len(before) == 5


def test_one_that_fails_leaves_the_old_one(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(out)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("featbank.demo.compare_into", fail)
    words = ("demo", "--out", "out", "--overwrite", "--quiet", "--seed", "1")
    assert "out: No space left on device" in refused(3, *words)
    assert contents(out) == before
    whole(out, 0)


def test_what_a_killed_demo_of_an_earlier_version_left_is_replaced(out: Path) -> None:
    """Heads had no record of their own, and results.json came late."""
    for name in ("heads/results.json", "results.json"):
        (out / name).unlink()
    before = notes(out)
    assert featbank("demo", "--out", "out", "--overwrite", "--quiet", "--seed", "1").exit_code == 0
    whole(out, 1)
    assert notes(out) == before


@pytest.mark.parametrize(
    "name",
    ["results.json", "run-instance/run.json", "instance.zarr/zarr.json", "heads", "comparison"],
)
def test_something_of_the_users_in_the_way_is_said_before_any_work(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    monkeypatch.setattr("featbank.demo.make_all", None)
    assert str(out / name) in refused(3, "demo", "--out", out, "--overwrite")
    assert contents(out) == {name: b"mine"}


def test_a_folder_with_notes_gets_a_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "note").write_text("mine")
    assert featbank("demo", "--out", "out", "--overwrite", "--quiet").exit_code == 0
    whole(tmp_path / "out", 0)
    assert notes(tmp_path / "out") == {"note": b"mine"}
