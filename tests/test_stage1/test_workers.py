"""Processes that load images: whatever becomes of one, the work ends at once and says why."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from featbank.data import workers as module
from featbank.data.workers import Workers
from featbank.errors import DamagedError, FeatbankError, InputError, WorkerError
from featbank.runtime.interruption import Interruption, WaitInterrupted


class UnpicklableError(Exception):
    def __reduce__(self) -> Any:
        message = "not to be sent"
        raise TypeError(message)


def raise_(error: BaseException) -> None:
    raise error


def unpicklable(_job: int) -> Any:
    return lambda: None


BAD = 3

FAILURES: dict[str, tuple[Callable[[], object], str]] = {
    "value": (lambda: raise_(ValueError("two\nlines")), "ValueError: two lines"),
    "key": (lambda: raise_(KeyError("x")), "KeyError: 'x'"),
    "memory": (lambda: raise_(MemoryError("no 4 GB")), "MemoryError: no 4 GB"),
    "torch's memory": (lambda: torch.empty(2**50), "can't allocate memory"),
    "shared memory": (
        lambda: raise_(OSError(28, "No space left on device")),
        r"OSError: \[Errno 28\] No space left on device",
    ),
    "import": (lambda: raise_(ImportError("no codec")), "ImportError: no codec"),
    "stop": (lambda: raise_(StopIteration()), "StopIteration"),
    "recursion": (lambda: raise_(RecursionError("deep")), "RecursionError: deep"),
    "unpicklable error": (lambda: raise_(UnpicklableError("it")), "UnpicklableError: it"),
    "exit": (lambda: os._exit(7), "ended with exit code 7"),
    "no exit code": (lambda: os._exit(0), "ended with exit code 0"),
    "killed": (lambda: os.kill(os.getpid(), signal.SIGKILL), "was killed by SIGKILL, as happens"),
    "bus": (lambda: os.kill(os.getpid(), signal.SIGBUS), "was killed by SIGBUS, as happens"),
    "fault": (lambda: os.kill(os.getpid(), signal.SIGSEGV), "was killed by SIGSEGV; load images"),
}


def tensor_of(job: int) -> tuple[int, torch.Tensor]:
    return job, torch.full((2, 500, 500), float(job))


class Failing:
    def __init__(self, fail: Callable[[], object]) -> None:
        self.fail = fail

    def __call__(self, job: int) -> tuple[Any, torch.Tensor]:
        if job == BAD:
            self.fail()
        return tensor_of(job)


@pytest.fixture
def none_left() -> Iterator[None]:
    before = set(multiprocessing.active_children())
    threads = threading.active_count()
    yield
    for _ in range(50):
        if threading.active_count() <= threads:
            break
        time.sleep(0.1)
    assert set(multiprocessing.active_children()) == before
    assert threading.active_count() <= threads


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.usefixtures("none_left")
def test_what_is_made_comes_in_order_and_again(count: int) -> None:
    team = Workers(tensor_of, count)
    for jobs in ([5, 1, 4], [], [0], list(range(9))):
        found = [(job, made[1, 2, 3].item()) for job, made in team.run(jobs)]
        assert found == [(job, float(job)) for job in jobs]
    team.close()
    assert [job for job, _ in team.run([7])] == [7]
    team.close()


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.usefixtures("none_left")
def test_a_process_that_fails_ends_the_work_with_one_line_and_the_remedy(
    name: str, count: int
) -> None:
    fail, said = FAILURES[name]
    got, began = [], time.monotonic()
    with pytest.raises(WorkerError, match=f"{said}.*--workers 0") as caught:
        got.extend(job for job, _ in Workers(Failing(fail), count).run(range(8)))
    assert got == list(range(BAD))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("kind", [InputError, DamagedError])
@pytest.mark.usefixtures("none_left")
def test_an_error_of_ours_keeps_its_class_and_its_traceback(kind: type[FeatbankError]) -> None:
    with pytest.raises(kind, match="^no such row") as caught:
        list(Workers(Failing(lambda: raise_(kind("no such row"))), 2).run(range(8)))
    assert str(caught.value) == "no such row"
    assert "in __call__" in caught.value.__notes__[0]


@pytest.mark.usefixtures("none_left")
def test_a_record_that_cannot_be_sent_is_told() -> None:
    with pytest.raises(WorkerError, match="local object.*--workers 0"):
        list(Workers(lambda job: (unpicklable(job), torch.zeros(2)), 2).run([1]))


@pytest.mark.usefixtures("none_left")
def test_a_process_that_is_killed_while_it_sends_ends_the_work() -> None:
    team = Workers(lambda job: (job, torch.zeros(5_000_000)), 2)
    running = team.run(range(50))
    next(running)
    team._workers[1].process.kill()
    with pytest.raises(WorkerError, match="killed by SIGKILL"):
        list(running)


@pytest.mark.usefixtures("none_left")
def test_processes_that_cannot_start_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    spawn = multiprocessing.get_context("spawn")
    with monkeypatch.context() as patch:
        patch.setattr(module.multiprocessing, "get_context", lambda: spawn)
        team = Workers(lambda job: tensor_of(job), 2)
        with pytest.raises(WorkerError, match="start process 1 of 2"):
            list(team.run([1]))
    monkeypatch.setattr(
        "multiprocessing.process.BaseProcess.start", lambda _: raise_(BlockingIOError(11, "no"))
    )
    with pytest.raises(WorkerError, match="BlockingIOError.*--workers 0"):
        list(Workers(tensor_of, 2).run([1]))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.usefixtures("none_left")
def test_other_ways_to_start_a_process_give_the_same(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = multiprocessing.get_context(method)
    monkeypatch.setattr(module.multiprocessing, "get_context", lambda: context)
    team = Workers(tensor_of, 2)
    assert [job for job, _ in team.run(range(5))] == list(range(5))
    team.close()


@pytest.mark.usefixtures("none_left")
def test_work_that_is_left_in_the_middle_leaves_no_process() -> None:
    team = Workers(tensor_of, 2)
    running = team.run(range(50))
    assert next(running)[0] == 0
    running.close()
    assert not team._workers
    assert [job for job, _ in team.run([3])] == [3]
    del running, team


def test_a_signal_while_waiting_acts_at_once_and_in_a_team_after_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("featbank.runtime.interruption.PATIENCE", 1)
    before = signal.getsignal(signal.SIGALRM)
    with Interruption() as interruption:
        with pytest.raises(WaitInterrupted), interruption.waiting():
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(WaitInterrupted), interruption.waiting():
            pytest.fail("it has come before")
        with interruption.waiting(patient=True):
            pass  # it comes in time: the step is finished
        with pytest.raises(KeyboardInterrupt), interruption.waiting(patient=True):
            time.sleep(5)
        interruption.came = None
    assert signal.getsignal(signal.SIGALRM) is before


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for split in ("train", "val"):
        for name in "ab":
            (folder / split / name).mkdir(parents=True)
            for i in range(40):
                pixels = np.full((40, 40, 3), i, np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder


def train_command(images: Path, out: Path, epochs: int) -> list[str]:
    words = ["train", "--data", f"imagefolder:root={images}", "--backbone", "tiny-cnn"]
    words += ["--image-size", "32", "--batch-size", "8", "--epochs", str(epochs), "--workers", "2"]
    return [sys.executable, "-m", "cli", *words, "--device", "cpu", "--quiet", "--out", str(out)]


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize(
    ("done", "code", "said"),
    [
        (signal.SIGKILL, 3, "killed by SIGKILL"),
        (signal.SIGSTOP, 143, "add --resume to the same command to go on"),
    ],
)
def test_a_command_whose_workers_are_killed_or_stuck_ends_in_seconds(
    images: Path, tmp_path: Path, done: int, code: int, said: str
) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        train_command(images, out, 5000), stderr=subprocess.PIPE, text=True, env=one_thread()
    )
    for _ in range(600):
        if (out / "last.safetensors").exists():
            break
        time.sleep(0.05)
    children = children_of(process.pid)
    assert len(children) >= 2
    for child in children:
        os.kill(child, done)
    began = time.monotonic()
    if done == signal.SIGSTOP:
        time.sleep(0.3)
        process.terminate()
    _, errors = process.communicate(timeout=60)

    assert process.returncode == code, errors
    assert said in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert time.monotonic() - began < 10
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def test_no_shared_memory_is_needed(images: Path, tmp_path: Path) -> None:
    mount = "mount -t tmpfs -o size=4k tmpfs /dev/shm && head -c 4096 /dev/zero > /dev/shm/full"
    script = ["unshare", "-m", "bash", "-c", f'{mount} || exit 99; exec "$@"', "-"]
    if not shutil.which("unshare") or subprocess.run([*script, "true"], check=False).returncode:
        pytest.skip("a private /dev/shm is not permitted here")
    command = [*script, *train_command(images, tmp_path / "run", 1)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=one_thread())
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "joblib" not in line]
    assert said == []  # scikit-learn's own library warns that it has no shared memory


def one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}
