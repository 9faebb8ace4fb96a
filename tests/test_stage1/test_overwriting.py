"""A training is replaced when the new one is whole; only featbank's own files are removed."""

import json
import os
import signal
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from featbank.errors import (
    DamagedError,
    InputError,
    LockedError,
    OutputExistsError,
    StaleError,
    StorageError,
)
from featbank.files.marks import work_path
from featbank.runs.checkpoint import BEST, LAST, read_checkpoint
from featbank.runs.run_files import CONFIG, EVENTS, METRICS, RUN
from featbank.stage1.config import TrainConfig
from featbank.stage1.session import Session
from tests.test_stage1.test_parallel import together
from tests.test_stage1.test_train import StopAfter, StopError, run, some_digits

CONFIG_OLD = TrainConfig(backbone="tiny-cnn", epochs=2, batch_size=16, lr=0.05, warmup_epochs=1)
NEW = replace(CONFIG_OLD, seed=1)


@pytest.fixture(scope="module")
def digits() -> Any:
    return some_digits(seed=0)


@pytest.fixture(scope="module")
def made(digits: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the new training writes where nothing was."""
    out = tmp_path_factory.mktemp("new") / "run"
    run(digits, NEW, out)
    return files(out)


@pytest.fixture
def old(digits: Any, tmp_path: Path) -> Path:
    """A training, with notes of the user's in its folder."""
    out = tmp_path / "work" / "run"
    run(digits, CONFIG_OLD, out)
    (out / "plots").mkdir()
    (out / "plots" / "mine.txt").write_text("mine")
    (out / f"{EVENTS}17.elsewhere").write_text("mine")
    return out


NOTES = {"plots/mine.txt": b"mine", f"{EVENTS}17.elsewhere": b"mine"}


def files(out: Path) -> dict[str, bytes]:
    """All files but the training's own events, whose names tell the time."""
    return {
        str(file.relative_to(out)): file.read_bytes()
        for file in out.rglob("*")
        if file.is_file() and ".featbank-" not in file.name
    }


def event_files(out: Path) -> list[Path]:
    return sorted(out.glob(f"{EVENTS}*.featbank-*"))


def test_the_new_training_takes_the_place_and_a_users_files_stay(
    digits: Any, old: Path, made: dict[str, bytes]
) -> None:
    before = event_files(old)
    seen: list[str] = []

    class Watcher(StopAfter):
        def say(self, line: str) -> None:
            seen.append(line)
            assert files(old) == was

    was = files(old)
    summary = run(digits, NEW, old, overwrite=True, reporter=Watcher(99))
    assert files(old) == made | NOTES
    assert os.listdir(old.parent) == ["run"]
    assert summary.run == str(old)
    assert summary.checkpoint in {str(old / BEST), str(old / LAST)}
    assert (
        f"{old} stays until this training is whole, which is in {work_path(old)} till then" in seen
    )
    if find_spec("tensorboard") is not None:
        assert len(before) == len(event_files(old)) == 1
        assert before != event_files(old)


def diverge_in(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    step = Session.train_step

    def train_step(self: Session, parts: Any, now: int, number: int) -> torch.Tensor:
        loss = step(self, parts, now, number)
        return loss * torch.nan if now == epoch else loss

    monkeypatch.setattr(Session, "train_step", train_step)


def test_what_diverges_at_once_leaves_the_old_training_and_nothing_else(
    digits: Any, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(old)
    diverge_in(monkeypatch, 0)
    with pytest.raises(InputError, match=r"warm-up epochs; \S+run is as it was$"):
        run(digits, NEW, old, overwrite=True)
    assert files(old) == before
    assert os.listdir(old.parent) == ["run"]


def test_what_diverges_later_says_where_the_epochs_before_it_are(
    digits: Any, old: Path, made: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(old)
    with monkeypatch.context() as patch:
        diverge_in(patch, 1)
        with pytest.raises(InputError, match=r"\.run\.new/last.safetensors keeps .*run is as it w"):
            run(digits, NEW, old, overwrite=True)
    assert files(old) == before
    assert read_checkpoint(work_path(old) / LAST).record["epoch"] == 1
    run(digits, NEW, old, overwrite=True)
    assert files(old) == made | NOTES
    assert os.listdir(old.parent) == ["run"]


@pytest.mark.parametrize(("epoch", "kept"), [(0, False), (1, True)])
def test_in_a_fresh_folder_only_what_is_kept_is_said_to_be(
    digits: Any, tmp_path: Path, epoch: int, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverge_in(monkeypatch, epoch)
    with pytest.raises(InputError, match="training diverged") as caught:
        run(digits, NEW, tmp_path / "run")
    assert (f"{tmp_path / 'run' / LAST} keeps the state" in str(caught.value)) == kept
    assert "as it was" not in str(caught.value)
    assert (tmp_path / "run" / LAST).exists() == kept


def test_an_image_that_cannot_be_read_costs_nothing(
    digits: Any, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(old)

    def bad(*_: Any) -> None:
        message = "cannot read image 'x.jpg'"
        raise InputError(message)

    monkeypatch.setattr("featbank.stage1.session._refuse_bad", bad)
    with pytest.raises(InputError, match="cannot read"):
        run(digits, NEW, old, overwrite=True)
    assert files(old) == before
    assert os.listdir(old.parent) == ["run"]


def test_an_interrupted_one_is_gone_on_with_beside_the_old_one(
    digits: Any, old: Path, made: dict[str, bytes]
) -> None:
    before = files(old)
    with pytest.raises(StopError):
        run(digits, NEW, old, overwrite=True, reporter=StopAfter(1))
    assert files(old) == before
    said = StopAfter(99)
    run(digits, NEW, old, overwrite=True, resume=True, reporter=said)
    assert any(f"resuming {work_path(old)} after epoch 1 of 2" in line for line in said.lines)
    assert files(old) == made | NOTES
    assert os.listdir(old.parent) == ["run"]


def test_one_that_was_whole_before_the_swap_is_only_swapped(
    digits: Any, old: Path, made: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("featbank.files.replacing.exchange", fail)
        with pytest.raises(KeyboardInterrupt):
            run(digits, NEW, old, overwrite=True)
    with monkeypatch.context() as patch:
        patch.setattr(Session, "train_step", fail)
        run(digits, NEW, old, overwrite=True, resume=True)
    assert files(old) == made | NOTES


def test_with_nothing_beside_the_training_itself_is_resumed(digits: Any, tmp_path: Path) -> None:
    with pytest.raises(StopError):
        run(digits, CONFIG_OLD, tmp_path / "run", reporter=StopAfter(1))
    run(digits, CONFIG_OLD, tmp_path / "run", overwrite=True, resume=True)
    assert read_checkpoint(tmp_path / "run" / LAST).record["epoch"] == 2
    assert os.listdir(tmp_path) == ["run"]


def test_what_waits_beside_with_other_settings_is_not_gone_on_with(digits: Any, old: Path) -> None:
    with pytest.raises(StopError):
        run(digits, NEW, old, overwrite=True, reporter=StopAfter(1))
    run(digits, CONFIG_OLD, old, overwrite=True, resume=True)  # the old one, which is whole
    with pytest.raises(StaleError, match="cannot resume .*run: config.seed was 0 and is now 2"):
        run(digits, replace(NEW, seed=2), old, overwrite=True, resume=True)
    (old / LAST).unlink()
    with pytest.raises(StaleError, match=r"cannot resume .*\.run\.new: config.seed was 1"):
        run(digits, replace(NEW, seed=2), old, overwrite=True, resume=True)
    assert (work_path(old) / LAST).exists()


def test_a_damaged_one_beside_is_named(digits: Any, old: Path) -> None:
    before = files(old)
    with pytest.raises(StopError):
        run(digits, NEW, old, overwrite=True, reporter=StopAfter(1))
    last = work_path(old) / LAST
    last.write_bytes(last.read_bytes()[:-1] + b"?")
    with pytest.raises(DamagedError, match=r"\.run\.new/last.safetensors is damaged"):
        run(digits, NEW, old, overwrite=True, resume=True)
    assert files(old) == before


def test_a_damaged_training_can_be_replaced(digits: Any, old: Path, made: dict[str, bytes]) -> None:
    (old / LAST).write_bytes(b"torn")
    (old / METRICS).unlink()
    run(digits, NEW, old, overwrite=True)
    assert files(old) == made | NOTES


def test_a_checkpoint_alone_is_a_training(digits: Any, old: Path, made: dict[str, bytes]) -> None:
    for name in (RUN, CONFIG, METRICS, BEST):
        (old / name).unlink()
    run(digits, NEW, old, overwrite=True)
    assert files(old) == made | NOTES
    assert len(event_files(old)) == (find_spec("tensorboard") is not None)


@pytest.mark.parametrize("name", [RUN, CONFIG, METRICS, LAST, BEST])
@pytest.mark.parametrize(
    "how", [{"overwrite": True}, {"overwrite": True, "replace_in_place": True}]
)
def test_a_users_file_of_a_name_that_is_needed_is_refused_before_the_work(
    digits: Any, tmp_path: Path, name: str, how: dict[str, bool]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text('{"mine": [1]}')
    with pytest.raises(OutputExistsError, match="holds no training") as caught:
        run(digits, NEW, tmp_path / "run")
    with pytest.raises(OutputExistsError, match=f"{name} was not made by featbank"):
        run(digits, NEW, tmp_path / "run", **how)
    assert files(tmp_path / "run") == {name: b'{"mine": [1]}'}
    assert "--resume" not in str(caught.value)


def test_beside_a_users_files_a_training_goes_when_asked(
    digits: Any, tmp_path: Path, made: dict[str, bytes]
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "notes").write_text("mine")
    run(digits, NEW, out, overwrite=True)
    assert files(out) == made | {"notes": b"mine"}


@pytest.mark.parametrize("make", ["link", "pipe", "file"])
def test_what_is_no_folder_is_refused_at_once(digits: Any, tmp_path: Path, make: str) -> None:
    out = tmp_path / "run"
    {"link": lambda: out.symlink_to(tmp_path / "x"), "pipe": lambda: os.mkfifo(out),
     "file": lambda: out.write_text("mine")}[make]()  # fmt: skip
    before = out.lstat()
    with pytest.raises(OutputExistsError, match="run exists and is"):
        run(digits, NEW, out, overwrite=True)
    assert os.path.samestat(out.lstat(), before)


def test_too_little_room_is_said_before_anything_is_touched(
    digits: Any, old: Path, made: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(old)
    needs = 2 * len(made[LAST]) + len(made[BEST])
    with monkeypatch.context() as patch:
        usage = type("Usage", (), {"free": int(needs * 0.8)})
        patch.setattr("shutil.disk_usage", lambda _path: usage)
        with pytest.raises(StorageError, match="until the new one is whole.*--replace-in-place"):
            run(digits, NEW, old, overwrite=True)
        assert files(old) == before
        assert os.listdir(old.parent) == ["run"]
        run(digits, NEW, old, overwrite=True, replace_in_place=True)
    assert files(old) == made | NOTES


def test_in_place_too_little_room_is_said_before_the_old_one_is_removed(
    digits: Any, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(old)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 0}))
    with pytest.raises(StorageError, match="once the old training is removed"):
        run(digits, replace(NEW, optimizer="adamw"), old, overwrite=True, replace_in_place=True)
    assert files(old) == before
    with pytest.raises(InputError, match="--replace-in-place says how to overwrite"):
        run(digits, NEW, old, replace_in_place=True)


def test_two_trainings_of_one_folder_do_not_meet(digits: Any, old: Path, tmp_path: Path) -> None:
    class Second(StopAfter):
        def __init__(self, out: Path, **how: bool) -> None:
            super().__init__(99)
            self.out, self.how, self.met = out, how, 0

        def say(self, line: str) -> None:
            if line.startswith("epoch "):
                self.met += 1
                with pytest.raises(LockedError, match="is being written by another process"):
                    run(digits, NEW, self.out, **self.how)

    for out, how in ((old, {"overwrite": True}), (tmp_path / "fresh", {"resume": True})):
        second = Second(out, **how)
        run(digits, NEW, out, reporter=second, **how)
        assert second.met == 2


def test_several_processes_replace_a_training_and_go_on_beside_it(digits: Any, old: Path) -> None:
    before = files(old)

    def cut(rank: int) -> None:
        step = Session.train_step

        def train_step(self: Session, parts: Any, epoch: int, number: int) -> torch.Tensor:
            if epoch == 1 and rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(self, parts, epoch, number)

        Session.train_step = train_step  # type: ignore[method-assign]
        run(digits, NEW, old, overwrite=True)

    assert together(2, cut)[1] == -signal.SIGKILL
    assert files(old) == before
    assert read_checkpoint(work_path(old) / LAST).record["epoch"] == 1
    go_on = {"overwrite": True, "resume": True}
    assert together(2, lambda _rank: run(digits, NEW, old, **go_on)) == [0, 0]
    assert read_checkpoint(old / LAST).record["config"]["seed"] == 1
    assert json.loads((old / RUN).read_text())["processes"] == 2
    assert files(old).items() >= NOTES.items()
    assert os.listdir(old.parent) == ["run"]
