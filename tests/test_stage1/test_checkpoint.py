from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from featbank.errors import DamagedError, InputError, MissingFileError
from featbank.runs.checkpoint import (
    BEST,
    LAST,
    Checkpoint,
    find_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from featbank.stage1.training_record import require_record

SHARED = torch.arange(6.0)
CHECKPOINT = Checkpoint(
    record={"epoch": 3, "history": [{"loss": 0.1 + 0.2, "val": None}], "names": ["Ü", "<b>"]},
    model={
        "w": SHARED.reshape(2, 3).T,
        "same memory": SHARED,
        "n": torch.tensor(7),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "layout": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "empty": torch.zeros(0, 4),
    },
    optimizer={"0.exp_avg": torch.full((2, 3), 0.5), "0.step": torch.tensor(4.0)},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / LAST, CHECKPOINT)
    return tmp_path / LAST


def test_what_is_written_is_read_back(path: Path) -> None:
    got = read_checkpoint(path)

    assert {**CHECKPOINT.record, "format": 1} == got.record
    for part in ("model", "optimizer"):
        want, have = getattr(CHECKPOINT, part), getattr(got, part)
        assert want.keys() == have.keys()
        assert all(torch.equal(want[k], have[k]) and want[k].dtype == have[k].dtype for k in want)


def test_no_partial_file_is_left_and_the_same_state_gives_the_same_bytes(path: Path) -> None:
    before = path.read_bytes()
    write_checkpoint(path, CHECKPOINT)

    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [LAST]


def test_a_failed_write_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(part: Path, content: bytes) -> None:
        with part.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(Path, "write_bytes", full)

    with pytest.raises(OSError, match=f"No space left on device: '.*{LAST}'"):
        write_checkpoint(path, CHECKPOINT)

    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [LAST]


def test_every_flipped_byte_is_refused(path: Path) -> None:
    good = path.read_bytes()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        path.write_bytes(bad)
        with pytest.raises(DamagedError, match=LAST):
            read_checkpoint(path)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda good: good[:-5],
    "cut in the header": lambda good: good[:40],
    "longer": lambda good: good + b"x",
    "pickle": lambda _: b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "huge header": lambda good: b"\xff" * 8 + good[8:],
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_other_damage_is_refused_in_one_line(path: Path, kind: str) -> None:
    path.write_bytes(DAMAGE[kind](path.read_bytes()))

    with pytest.raises(DamagedError, match="is no safetensors file, or is damaged") as caught:
        read_checkpoint(path)

    assert "\n" not in str(caught.value)


def test_somebody_elses_safetensors_is_no_checkpoint(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "a.safetensors")

    with pytest.raises(DamagedError, match="is no featbank checkpoint"):
        read_checkpoint(tmp_path / "a.safetensors")


def test_a_later_format_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featbank.runs.checkpoint.FORMAT", 2)
    write_checkpoint(tmp_path / LAST, CHECKPOINT)
    monkeypatch.undo()

    with pytest.raises(InputError, match="format 2; this featbank reads 1"):
        read_checkpoint(tmp_path / LAST)


def test_a_run_means_its_best_or_its_last_checkpoint(path: Path) -> None:
    run = path.parent
    assert find_checkpoint(run) == path  # without a val split there is no best one

    write_checkpoint(run / BEST, CHECKPOINT)

    assert find_checkpoint(run) == run / BEST
    assert find_checkpoint(run, "last") == path
    assert find_checkpoint(path) == path


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"holds no best\.safetensors or last"):
        find_checkpoint(tmp_path)
    with pytest.raises(MissingFileError, match="no checkpoint 'nowhere'"):
        read_checkpoint(Path("nowhere"))
    with pytest.raises(InputError, match="unknown checkpoint 'bset'; did you mean best"):
        find_checkpoint(tmp_path, "bset")


RECORD: dict[str, Any] = {
    "config": {"backbone": "tiny-cnn"},
    "input": {"size": 8, "mean": [0, 0, 0], "std": [1, 1, 1]},
    "class_names": ["a", "b"],
    "data": {"lists": {}},
    "data_spec": {},
    "epoch": 1,
}
WRONG_INPUTS: dict[str, list[Any]] = {
    "size": [0, "a", 1 << 20, [8], [8, 8, 8], None, 8.5],
    "mean": [[1], None],
    "std": [[0, 0, 0], [1, 1]],
    "crop": [0, -1, float("inf"), "x"],
    "crop_mode": ["x", None, 3],
    "interpolation": ["x", None],
}


@pytest.mark.parametrize("key", RECORD)
@pytest.mark.parametrize("value", [None, 3.5, ["a", 1], {"x": 1}, "text"])
def test_a_record_of_anybodys_making_is_refused(key: str, value: object) -> None:
    require_record(Checkpoint(RECORD, {}), "c")
    fine = key == "data_spec" and isinstance(value, dict)
    for record in ({**RECORD, key: value}, {k: v for k, v in RECORD.items() if k != key}):
        if fine and key in record:
            continue
        with pytest.raises((DamagedError, InputError)) as caught:
            require_record(Checkpoint(record, {}), "c")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", WRONG_INPUTS)
def test_an_input_that_no_network_has_is_refused(key: str) -> None:
    for value in WRONG_INPUTS[key]:
        wrong = {**RECORD, "input": {**RECORD["input"], key: value}}
        with pytest.raises((DamagedError, InputError), match=f"input's {key}|no record of a train"):
            require_record(Checkpoint(wrong, {}), "c")
