"""Trainings that are killed or told to stop, at any step, go on to the same bits."""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featbank.errors import InputError, OutputExistsError
from featbank.runs.checkpoint import BEST, LAST, read_checkpoint
from featbank.runs.run_files import METRICS, RUN
from featbank.runtime.interruption import Interruption
from featbank.stage1.config import SaveEvery, TrainConfig
from featbank.stage1.session import Session
from tests.test_stage1.test_train import run, some_digits

CONFIG = TrainConfig(
    backbone="tiny-cnn", epochs=2, batch_size=8, lr=0.05, warmup_epochs=1, checkpoint_every="1"
)
SAME = (LAST, BEST, METRICS)
STEPS = 9  # 70 images in batches of 8; two epochs


@pytest.fixture(scope="module")
def digits() -> Any:
    return some_digits(seed=0)


@pytest.fixture(scope="module")
def whole(digits: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    run(digits, CONFIG, out)
    return out


def require_same(whole: Path, parts: Path) -> None:
    for name in SAME:
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name


def trap(how: str, step: int) -> None:
    """Send this process a signal in its `step`-th step from now, before or after it saved."""
    sent = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM, "INT": signal.SIGINT}
    original, seen = Session.train_step, [0]

    def train_step(self: Session, *args: Any) -> Any:
        if seen[0] == step:
            os.kill(os.getpid(), sent[how])
        seen[0] += 1
        return original(self, *args)

    Session.train_step = train_step  # type: ignore[method-assign]


def killed(out: Path, config: TrainConfig, digits: Any, step: int) -> int:
    """Train in a process of its own that is killed in its `step`-th step; return its status."""
    pid = os.fork()
    if pid == 0:
        try:
            trap("KILL", step)
            run(digits, config, out, resume=True)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_and_resumed(whole: Path, out: Path, digits: Any, steps: list[int], workers: int) -> None:
    config = replace(CONFIG, workers=workers)
    for step in steps:
        assert killed(out, config, digits, step) == -signal.SIGKILL
    run(digits, config, out, resume=True)
    got = read_checkpoint(out / LAST)
    want = read_checkpoint(whole / LAST)
    assert got.record["history"] == want.record["history"]
    if workers == CONFIG.workers:
        require_same(whole, out)
    for tensors, others in ((got.model, want.model), (got.optimizer, want.optimizer)):
        assert all(np.array_equal(tensors[n].numpy(), others[n].numpy()) for n in others)
    assert not list(out.glob(".*partial"))


@pytest.mark.parametrize(("workers", "steps"), [(0, [3, 8, 0]), (2, [7])])
def test_a_training_killed_at_any_step_resumes_to_the_same_bits(
    whole: Path, tmp_path: Path, digits: Any, workers: int, steps: list[int]
) -> None:
    killed_and_resumed(whole, tmp_path / "run", digits, steps, workers)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_fifty_random_kills_resume_to_the_same_bits(
    whole: Path, tmp_path: Path, digits: Any, workers: int
) -> None:
    """25 trainings for each number of workers, each killed at a random step of what is left."""
    rng = np.random.default_rng(workers)
    for trial in range(25):
        step = int(rng.integers(0, 2 * STEPS))
        killed_and_resumed(whole, tmp_path / str(trial), digits, [step], workers)


class Stop:
    """Stands for one signal that comes when the `at`-th call of a method begins."""

    def __init__(self, number: int, at: int) -> None:
        self.number, self.left = number, at

    def __call__(self, original: Any) -> Any:
        def method(*args: Any, **kwargs: Any) -> Any:
            if self.left == 0:
                signal.raise_signal(self.number)
            self.left -= 1
            return original(*args, **kwargs)

        return method


class TerminatedError(BaseException):
    pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("phase", "at", "place"),
    [
        ("train_step", 0, (0, 1)),
        ("train_step", 4, (0, 5)),
        ("train_step", STEPS - 1, (0, STEPS)),
        ("validate", 0, (0, STEPS)),
        ("train_step", STEPS + 2, (1, 3)),
        ("checkpoint", 0, (0, 1)),
    ],
)
def test_a_signal_in_any_phase_saves_and_leaves_and_resuming_gives_the_same_bits(
    whole: Path,
    tmp_path: Path,
    digits: Any,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    phase: str,
    at: int,
    place: tuple[int, int],
) -> None:
    def terminated(*_: Any) -> None:
        raise TerminatedError

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    config = replace(CONFIG, checkpoint_every="1" if phase == "checkpoint" else "1000")
    signal.signal(signal.SIGTERM, terminated)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Session, phase, Stop(number, at)(getattr(Session, phase)))
            with pytest.raises((KeyboardInterrupt, TerminatedError)) as caught:
                run(digits, config, tmp_path / "run")
        assert caught.type is (KeyboardInterrupt if number == signal.SIGINT else TerminatedError)
        assert signal.getsignal(signal.SIGTERM) is terminated
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    record = read_checkpoint(tmp_path / "run" / LAST).record
    reached = (record["epoch"], record["step"])
    assert reached == place if phase != "checkpoint" else reached in ((0, 1), (0, 2))

    run(digits, CONFIG, tmp_path / "run", resume=True)

    require_same(whole, tmp_path / "run")


@pytest.mark.parametrize(
    ("phase", "at"),
    [
        *(("stage1.train.RunFolder", 0), ("stage1.train.initial_network", 0)),
        *(("runs.run_folder.remove_leftovers", 0), ("runs.run_folder.remove_leftovers", 3)),
        *(("runs.run_files.replace_text", 0), ("runs.run_files.replace_text", 1)),
        ("stage1.train.events", 0),
        *(("runs.run_files.write_checkpoint", 1), ("stage1.train._trained", 0)),
    ],
)
def test_a_signal_outside_the_steps_leaves_a_run_that_resumes_to_the_same_bits(
    whole: Path,
    tmp_path: Path,
    digits: Any,
    monkeypatch: pytest.MonkeyPatch,
    phase: str,
    at: int,
) -> None:
    module, _, name = phase.rpartition(".")
    target = importlib.import_module(f"featbank.{module}")
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(target, name, Stop(signal.SIGINT, at)(getattr(target, name)))
        with contextlib.suppress(KeyboardInterrupt):
            run(digits, CONFIG, out, resume=True)

    run(digits, CONFIG, out, resume=True)

    require_same(whole, out)
    assert not list(out.glob(".*partial"))


def test_a_start_that_was_killed_while_it_wrote_its_first_file_is_begun_again(
    whole: Path, tmp_path: Path, digits: Any
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.run.json.0123456789abcdef.partial").write_text("{")
    run(digits, CONFIG, tmp_path / "run", resume=True)
    require_same(whole, tmp_path / "run")
    (tmp_path / "run" / LAST).unlink()
    (tmp_path / "run" / RUN).unlink()
    with pytest.raises(OutputExistsError, match="add --overwrite or --resume"):
        run(digits, CONFIG, tmp_path / "run", resume=True)  # a best one is not thrown away


def test_a_second_signal_does_not_wait() -> None:
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.came == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        interruption.came = None


def test_a_signal_that_nobody_polled_is_passed_on_and_an_ignored_one_stays_ignored() -> None:
    with pytest.raises(KeyboardInterrupt), Interruption():
        signal.raise_signal(signal.SIGINT)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGTERM)
            assert interruption.came is None
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_cluster_that_terminates_the_whole_group_leaves_a_resumable_run(tmp_path: Path) -> None:
    """The command itself, with worker processes, and a signal to all of them."""
    command = [sys.executable, "-m", "cli", "train", "--data", "digits-lt", "--epochs", "500"]
    command += ["--workers", "2", "--device", "cpu", "--out", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    until = time.monotonic() + 60
    while not (tmp_path / "run" / LAST).exists() and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(started.pid, signal.SIGTERM)
    _, said = started.communicate(timeout=60)

    assert started.returncode == 143, said
    assert "; --resume goes on from it" in said
    assert "add --resume to the same command to go on" in said
    assert "Traceback" not in said
    assert read_checkpoint(tmp_path / "run" / LAST).record["epoch"] >= 1


def test_draws_in_the_network_do_not_repeat_and_survive_a_kill_within_an_epoch(
    digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.test_stage1.test_train import Drawing

    monkeypatch.setattr("featbank.stage1.network.build_model", lambda *_, **__: Drawing())
    Drawing.drawn.clear()
    run(digits, CONFIG, tmp_path / "whole")
    want = list(Drawing.drawn)
    assert len(set(want)) == 2 * STEPS
    Drawing.drawn.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Session, "train_step", Stop(signal.SIGINT, 5)(Session.train_step))
        with pytest.raises(KeyboardInterrupt):
            run(digits, CONFIG, tmp_path / "parts")
    assert len(Drawing.drawn) == 6

    run(digits, CONFIG, tmp_path / "parts", resume=True)

    assert Drawing.drawn == want


def test_saving_within_an_epoch_is_by_steps_or_minutes() -> None:
    assert [step for step in range(1, 13) if SaveEvery.parse("5").due(step, 1e9)] == [5, 10]
    minutes = SaveEvery.parse("1.5m")
    assert not minutes.due(7, 89)
    assert minutes.due(7, 90)
    for bad in ("0", "x", "1.5", "-3", "5h", "0m"):
        with pytest.raises(InputError, match="steps as 500, or minutes as 10m"):
            TrainConfig(checkpoint_every=bad)
