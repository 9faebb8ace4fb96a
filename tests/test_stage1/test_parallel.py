"""One training by several processes is that of one process on the same batches."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from featbank.backbones.backbones import build_model
from featbank.data.loader import Key
from featbank.errors import InputError, LostRankError
from featbank.runs.checkpoint import LAST, read_checkpoint
from featbank.runtime import ranks
from featbank.stage1.config import TrainConfig
from featbank.stage1.ddp import shares, synchronised
from featbank.stage1.session import Session
from tests.faults.kills import fork
from tests.faults.lost_ranks import ends, free_port
from tests.test_stage1.test_train import run, some_digits

CONFIG = TrainConfig(backbone="tiny-cnn", epochs=2, batch_size=16, lr=0.05, warmup_epochs=1)
LOST = 7


class Flat(nn.Module):
    """A network without BatchNorm, whose images do not see each other."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(3 * 64, 32)
        self.classifier = nn.Linear(32, 10)
        draws = torch.Generator().manual_seed(0)
        for each in self.parameters():
            each.data = 0.1 * torch.randn(each.shape, generator=draws)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.tanh(self.hidden(images.flatten(1))))


@pytest.fixture
def flat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featbank.stage1.network.build_model", lambda *_, **__: Flat())


@pytest.fixture(scope="module")
def digits() -> Any:
    return some_digits(seed=0)


def together(size: int, work: Callable[[int], object]) -> list[int]:
    """Do some work in the processes of one job; return how each ended."""
    port = free_port()

    def one(rank: int) -> None:
        found = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in found.items()})
        os.environ["MASTER_ADDR"] = "127.0.0.1"
        ranks.BEAT, ranks.SILENCE, ranks.GRACE, ranks.START = 0.2, 5.0, 2.0, 20.0
        try:
            work(rank)
        except LostRankError:
            os._exit(LOST)

    return ends([fork(lambda r=rank: one(r)) for rank in range(size)])


def require_equal(one: Path, other: Path, tolerance: float) -> None:
    want, got = read_checkpoint(one / LAST), read_checkpoint(other / LAST)
    for name, value in want.model.items():
        torch.testing.assert_close(got.model[name], value, rtol=0, atol=tolerance)
    pairs = zip(want.record["history"], got.record["history"], strict=True)
    for entry, same in pairs:
        assert entry["train_loss"] == pytest.approx(same["train_loss"], rel=1e-5)
        assert entry["val"] == same["val"]


@pytest.mark.parametrize(
    ("size", "accumulate", "in_step", "length"),
    [(1, 1, 1, 9), (2, 1, 1, 9), (3, 2, 1, 13), (2, 2, 2, 10), (4, 1, 1, 3), (2, 1, 1, 2)],
)
def test_the_parts_of_a_step_are_the_step(
    size: int, accumulate: int, in_step: int, length: int
) -> None:
    batch = [Key(row, 0, row) for row in range(in_step * length)]
    parts = [
        part for rank in range(size) for part in shares(batch, in_step, rank, size, accumulate)
    ]
    assert len(parts) == size * accumulate
    weight = np.zeros(len(batch))
    for keys, of_step in parts:
        assert len(keys) >= 2 * in_step or length < 2
        half = len(keys) // in_step
        rows = [key.row for key in keys]
        assert [row - rows[i % half] for i, row in enumerate(rows)] == [
            length * (i // half) for i in range(len(rows))
        ]
        for row in rows:
            weight[row] += of_step / half
    np.testing.assert_allclose(weight, np.full(len(batch), 1 / length))


@pytest.mark.usefixtures("flat")
def test_accumulating_changes_no_more_than_the_rounding(digits: Any, tmp_path: Path) -> None:
    run(digits, CONFIG, tmp_path / "whole")
    run(digits, replace(CONFIG, accumulate=3), tmp_path / "parts")
    require_equal(tmp_path / "whole", tmp_path / "parts", 2e-6)


@pytest.mark.usefixtures("flat")
def test_two_and_three_processes_train_the_network_of_one(digits: Any, tmp_path: Path) -> None:
    """70 images in batches of 16: the last step, of 6, is shared out too."""
    run(digits, CONFIG, tmp_path / "one")
    assert together(2, lambda _: run(digits, CONFIG, tmp_path / "two")) == [0, 0]
    three = replace(CONFIG, accumulate=2)
    assert together(3, lambda _: run(digits, three, tmp_path / "three")) == [0, 0, 0]
    for name in ("two", "three"):
        require_equal(tmp_path / "one", tmp_path / name, 2e-6)


@pytest.mark.usefixtures("flat")
def test_a_lost_process_ends_a_training_and_one_goes_on(digits: Any, tmp_path: Path) -> None:
    config = replace(CONFIG, checkpoint_every="1")
    run(digits, config, tmp_path / "one")
    original, left = Session.train_step, [7]

    def work(rank: int) -> None:
        def train_step(self: Session, *args: Any) -> Any:
            left[0] -= 1
            if rank == 1 and left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self, *args)

        Session.train_step = train_step  # type: ignore[method-assign]
        run(digits, config, tmp_path / "run")

    began = time.monotonic()
    assert together(2, work) == [LOST, -signal.SIGKILL]
    assert time.monotonic() - began < 60
    record = read_checkpoint(tmp_path / "run" / LAST).record
    assert (record["epoch"], record["step"]) == (1, 1)

    run(digits, config, tmp_path / "run", resume=True)

    require_equal(tmp_path / "one", tmp_path / "run", 2e-6)


@pytest.mark.usefixtures("flat")
def test_a_signal_to_one_process_saves_and_ends_all(digits: Any, tmp_path: Path) -> None:
    run(digits, CONFIG, tmp_path / "one")
    original, left = Session.train_step, [4]

    def work(rank: int) -> None:
        def train_step(self: Session, *args: Any) -> Any:
            left[0] -= 1
            if rank == 1 and left[0] == 0:
                signal.raise_signal(signal.SIGINT)
            return original(self, *args)

        Session.train_step = train_step  # type: ignore[method-assign]
        try:
            run(digits, CONFIG, tmp_path / "run")
        except KeyboardInterrupt:
            os._exit(3)

    assert together(2, work) == [3, 3]
    assert read_checkpoint(tmp_path / "run" / LAST).record["step"] == 4
    resumed = together(2, lambda _: run(digits, CONFIG, tmp_path / "run", resume=True))
    assert resumed == [0, 0]
    require_equal(tmp_path / "one", tmp_path / "run", 2e-6)


def test_running_statistics_are_the_mean_of_the_processes(digits: Any, tmp_path: Path) -> None:
    """After one step of 35 + 35 images the first layer's mean is that of all 70."""
    config = replace(CONFIG, epochs=1, warmup_epochs=0, batch_size=70)
    assert together(2, lambda _: run(digits, config, tmp_path / "two")) == [0, 0]
    run(digits, config, tmp_path / "one")
    one, two = (read_checkpoint(tmp_path / name / LAST).model for name in ("one", "two"))
    name = "stem.1.running_mean"
    torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-6)
    assert not torch.equal(two["stem.1.running_var"], one["stem.1.running_var"])


def test_synchronised_batchnorm_wants_gpus(digits: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--sync-bn wants GPUs"):
        run(digits, replace(CONFIG, sync_bn=True), tmp_path / "run")


@pytest.mark.gpu
def test_synchronised_batchnorm_keeps_the_names_of_tensors() -> None:
    model = build_model("tiny-cnn", 3, 32)
    names = [*model.state_dict()]
    assert [*synchronised(model.cuda(), torch.device("cuda")).state_dict()] == names


@pytest.mark.slow
def test_torchrun_trains_by_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "cli"]
    command += ["train", "--data", "digits-lt", "--epochs", "3", "--accumulate", "2"]
    command += ["--device", "cpu", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("best on val in epoch") == 1
    assert done.stderr.count("epoch 3/3  loss") == 1
    assert json.loads((tmp_path / "run/run.json").read_text())["processes"] == 2
