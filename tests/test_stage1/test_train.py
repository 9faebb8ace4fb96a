import csv
import json
import math
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from featbank.backbones.backbones import build_model
from featbank.data import ImageData, ImageSplit, open_data
from featbank.errors import DamagedError, InputError, OutputExistsError, StaleError
from featbank.runs.checkpoint import BEST, LAST, read_checkpoint
from featbank.runs.run_files import CONFIG, EVENTS, METRICS, RUN
from featbank.stage1.config import TrainConfig
from featbank.stage1.optim import learning_rate, make_optimizer
from featbank.stage1.presets import PRESETS
from featbank.stage1.train import train
from tests.test_stage1.images import accuracies, write_data

SPEC = {"name": "digits-lt", "params": {}}
TINY = TrainConfig(backbone="tiny-cnn", epochs=3, batch_size=16, lr=0.05, warmup_epochs=1)


@pytest.fixture(scope="module")
def digits() -> ImageData:
    """A few balanced digits: 70 to train on, 30 to validate."""
    return some_digits(seed=0)


def some_digits(seed: int) -> ImageData:
    whole = open_data("digits-lt", {"seed": seed})

    def first(split: ImageSplit, n: int) -> ImageSplit:
        return replace(split, ids=split.ids[:n], labels=split.labels[:n])

    splits = {"train": first(whole.splits["val"], 70), "val": first(whole.splits["test"], 30)}
    return replace(whole, splits=splits)


def run(data: ImageData, config: TrainConfig, out: Path, **more: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"device": "cpu", "metrics": accuracies, **more}
    return train(data, SPEC, config, out, **options)


def read_metrics(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / METRICS).read_text().splitlines()))


class StopError(Exception):
    """Stands for a kill."""


class StopAfter:
    """A reporter that kills the training right after some epoch is saved."""

    def __init__(self, epoch: int) -> None:
        self.epoch, self.lines = epoch, []

    def say(self, line: str) -> None:
        self.lines.append(line)
        if line.startswith(f"epoch {self.epoch + 1}/"):
            raise StopError

    def track(self, label: str, total: int, unit: str) -> Any:
        from featbank.runtime.progress import SILENT

        return SILENT.track(label, total, unit)


def test_a_run_holds_checkpoints_settings_and_metrics(digits: ImageData, tmp_path: Path) -> None:
    summary = run(digits, TINY, tmp_path / "run")

    files = {file.name for file in (tmp_path / "run").iterdir()}
    names = {name for name in files if not name.startswith(EVENTS)}
    assert names == {BEST, LAST, CONFIG, METRICS, RUN}
    assert len(files - names) == (find_spec("tensorboard") is not None)
    rows = read_metrics(tmp_path / "run")
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    # 70 images in batches of 16 are 5 steps; each epoch records the rate of its last one.
    rates = [learning_rate(TINY, step, 5) for step in (4, 9, 14)]
    assert [float(row["lr"]) for row in rows] == rates
    assert float(rows[2]["train_loss"]) == summary.last["train_loss"]
    best = max(rows, key=lambda row: float(row["val_all"]))
    assert summary.best.epoch == int(best["epoch"])
    record = read_checkpoint(tmp_path / "run" / BEST).record
    assert record["epoch"] == summary.best.epoch
    assert record["best"]["val"]["all"] == float(best["val_all"])
    assert record["layer"] == "classifier"
    settings = json.loads((tmp_path / "run" / RUN).read_text())
    assert settings["config"]["backbone"] == "tiny-cnn"
    assert settings["data_spec"] == SPEC


def test_a_run_may_lie_at_a_path_that_is_no_utf8(digits: ImageData, tmp_path: Path) -> None:
    out = tmp_path / "caf\udce9"
    with pytest.raises(StopError):
        run(digits, replace(TINY, epochs=2), out, reporter=StopAfter(1))
    run(digits, replace(TINY, epochs=2), out, resume=True)
    assert read_checkpoint(out / LAST).record["epoch"] == 2
    assert list(out.glob("events.*"))


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        replace(TINY, optimizer="adamw", lr=1e-3, weight_decay=0.01, schedule="epoch"),
        replace(TINY, sampler="class-aware", warmup_epochs=0),
    ],
    ids=["sgd", "adamw", "class-aware"],
)
@pytest.mark.parametrize("stop", [1, 2])
def test_a_resumed_training_has_the_bits_of_an_uninterrupted_one(
    digits: ImageData, tmp_path: Path, config: TrainConfig, stop: int
) -> None:
    run(digits, config, tmp_path / "whole")
    killer = StopAfter(stop)
    with pytest.raises(StopError):
        run(digits, config, tmp_path / "parts", reporter=killer)
    assert read_checkpoint(tmp_path / "parts" / LAST).record["epoch"] == stop

    torch.rand(5)
    run(digits, config, tmp_path / "parts", resume=True)

    for name in (LAST, BEST, METRICS):
        whole, parts = (tmp_path / folder / name for folder in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes(), name


def test_the_same_seed_gives_the_same_bits_whatever_the_workers(
    digits: ImageData, tmp_path: Path
) -> None:
    config = replace(TINY, epochs=2)
    before = torch.get_rng_state()
    run(digits, config, tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), before)
    run(digits, replace(config, workers=1), tmp_path / "b")
    run(digits, replace(config, seed=1), tmp_path / "c")

    a, b, c = (read_checkpoint(tmp_path / name / LAST) for name in "abc")
    assert all(torch.equal(a.model[name], b.model[name]) for name in a.model)
    assert a.record["history"] == b.record["history"] != c.record["history"]


class Drawing(nn.Module):
    """A network that draws in its forward pass, as dropout does, and notes what."""

    drawn: ClassVar[list[float]] = []

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(3 * 64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.drawn.append(torch.rand(1).item())
        return self.classifier(images.flatten(1))


def test_draws_in_the_network_follow_seed_and_epoch(
    digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featbank.stage1.network.build_model", lambda *_, **__: Drawing())
    Drawing.drawn.clear()
    with pytest.raises(StopError):
        run(digits, TINY, tmp_path / "run", reporter=StopAfter(1))
    first = Drawing.drawn[:5]
    Drawing.drawn.clear()
    torch.rand(3)
    run(digits, TINY, tmp_path / "run", resume=True)
    resumed = list(Drawing.drawn)
    Drawing.drawn.clear()
    run(digits, TINY, tmp_path / "whole")

    assert first + resumed == Drawing.drawn
    assert len(set(Drawing.drawn)) == 15


def test_adamw_decays_matrices_and_kernels_only() -> None:
    model = build_model("tiny-cnn", 3, 8)
    before = {name: value.clone() for name, value in model.named_parameters()}
    for each in model.parameters():
        each.grad = torch.zeros_like(each)

    make_optimizer(model, TrainConfig(optimizer="adamw", lr=0.1, weight_decay=0.5)).step()

    for name, value in model.named_parameters():
        factor = 0.95 if value.ndim > 1 else 1.0
        torch.testing.assert_close(value, before[name] * factor)


def test_one_epoch_of_sgd_is_the_textbook_update(tmp_path: Path, digits: ImageData) -> None:
    """Replay the first epoch by hand from the images that the loader makes."""
    config = replace(TINY, epochs=2, warmup_epochs=0, sampler="class")
    with pytest.raises(StopError):
        run(digits, config, tmp_path / "run", reporter=StopAfter(1))
    got = read_checkpoint(tmp_path / "run" / LAST).model

    from featbank.backbones.backbones import input_spec
    from featbank.data.loader import BatchPlan, image_loader, train_batches
    from featbank.data.sampling import epoch_indices
    from featbank.data.transforms import train_transform

    split = digits.splits["train"]
    spec = input_spec("tiny-cnn", None, 8)
    plan = BatchPlan(train_batches(epoch_indices(split.labels, "class", 0, 0), 0, 16))
    model = build_model("tiny-cnn", 10, 8, seed=0)
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    loader = image_loader(split, train_transform(spec, photographs=False), 8, plan)
    for step, batch in enumerate(loader):
        labels = torch.from_numpy(split.labels[batch.rows])
        loss = -model(batch.images).log_softmax(1)[torch.arange(len(labels)), labels].mean()
        grads = torch.autograd.grad(loss, list(model.parameters()))
        lr = 0.05 * (1 + math.cos(math.pi * step / (2 * len(plan)))) / 2
        with torch.no_grad():
            for p, g, v in zip(model.parameters(), grads, velocity, strict=True):
                v.mul_(0.9).add_(g + 5e-4 * p)
                p.sub_(lr * v)

    for name, value in model.state_dict().items():
        torch.testing.assert_close(got[name], value, rtol=1e-3, atol=1e-4)


def test_the_rate_warms_up_to_the_full_one_and_falls_along_a_cosine() -> None:
    config = TrainConfig(epochs=6, warmup_epochs=2, lr=0.4)
    rates = [learning_rate(config, step, 5) for step in range(30)]

    np.testing.assert_allclose(rates[:10], 0.4 * np.arange(1, 11) / 10)
    np.testing.assert_allclose(rates[10:], 0.2 * (1 + np.cos(np.pi * np.arange(20) / 20)))
    by_epoch = replace(config, schedule="epoch")
    np.testing.assert_allclose(
        [learning_rate(by_epoch, step, 5) for step in range(10, 30)], np.repeat(rates[10::5], 5)
    )


def test_an_output_that_exists_is_refused_and_overwriting_keeps_foreign_files(
    digits: ImageData, tmp_path: Path
) -> None:
    config = replace(TINY, epochs=1, warmup_epochs=0)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="holds no training; .* beside the files"):
        run(digits, config, tmp_path)
    with pytest.raises(OutputExistsError, match="is no folder"):
        run(digits, config, tmp_path / "notes.txt", overwrite=True)

    run(digits, config, tmp_path, overwrite=True)
    run(digits, replace(config, seed=1), tmp_path, overwrite=True)

    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert read_checkpoint(tmp_path / LAST).record["config"]["seed"] == 1


def test_resuming_starts_afresh_where_nothing_is_and_ends_at_once_where_all_is(
    digits: ImageData, tmp_path: Path
) -> None:
    config = replace(TINY, epochs=1, warmup_epochs=0)
    run(digits, config, tmp_path / "run", resume=True)
    before = (tmp_path / "run" / LAST).read_bytes()

    summary = run(digits, config, tmp_path / "run", resume=True)

    assert summary.epochs == 1
    assert (tmp_path / "run" / LAST).read_bytes() == before


def test_resuming_writes_the_numbers_that_a_kill_left_out(
    digits: ImageData, tmp_path: Path
) -> None:
    """Killed between the last checkpoint and the table of epochs, a training is still whole."""
    run(digits, TINY, tmp_path / "a")
    whole = (tmp_path / "a" / METRICS).read_text()
    shorter = "".join(whole.splitlines(keepends=True)[:-1])
    for left in (shorter, None):
        (tmp_path / "a" / METRICS).unlink()
        if left is not None:
            (tmp_path / "a" / METRICS).write_text(left)
        run(digits, TINY, tmp_path / "a", resume=True)
        assert (tmp_path / "a" / METRICS).read_text() == whole


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"lr": 0.01}, "config.lr was 0.05 and is now 0.01"),
        ({"sampler": "class"}, 'config.sampler was "instance" and is now "class"'),
        ({"epochs": 4}, "config.epochs was 3 and is now 4"),
    ],
)
def test_resuming_with_another_setting_is_refused_by_name(
    digits: ImageData, tmp_path: Path, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(StopError):
        run(digits, TINY, tmp_path / "run", reporter=StopAfter(1))

    with pytest.raises(StaleError, match=field):
        run(digits, replace(TINY, **change), tmp_path / "run", resume=True)
    with pytest.raises(StaleError, match=r"data\.lists\.train was"):
        run(some_digits(seed=1), TINY, tmp_path / "run", resume=True)
    run(digits, replace(TINY, workers=1), tmp_path / "run", resume=True)


def test_a_damaged_checkpoint_is_not_resumed(digits: ImageData, tmp_path: Path) -> None:
    config = replace(TINY, epochs=1, warmup_epochs=0)
    run(digits, config, tmp_path / "run")
    file = tmp_path / "run" / LAST
    flipped = bytearray(file.read_bytes())
    flipped[-1] ^= 1
    file.write_bytes(flipped)

    with pytest.raises(DamagedError, match="digest"):
        run(digits, config, tmp_path / "run", resume=True)


def test_divergence_stops_with_a_clear_word_and_keeps_the_last_good_checkpoint(
    digits: ImageData, tmp_path: Path
) -> None:
    config = replace(TINY, warmup_epochs=0, lr=1e30)
    with pytest.raises(InputError, match=r"diverged in epoch 1, by step \d+: .* lower --lr"):
        run(digits, config, tmp_path / "run")

    assert not (tmp_path / "run" / LAST).exists()
    run(digits, config=replace(TINY, epochs=2), out=tmp_path / "run", resume=True)


def test_without_val_the_last_checkpoint_is_all_there_is(tmp_path: Path) -> None:
    params = write_data(tmp_path / "data", {"train": [4, 3, 2]})
    data = open_data("imagelist", params)

    summary = run(data, replace(TINY, epochs=1, warmup_epochs=0, batch_size=4), tmp_path / "run")

    assert summary.best is None
    assert summary.checkpoint.endswith(LAST)
    assert not (tmp_path / "run" / BEST).exists()


def test_an_image_that_cannot_be_read_stops_training_by_name(tmp_path: Path) -> None:
    params = write_data(tmp_path / "data", {"train": [4, 3, 2]})
    (tmp_path / "data/train set/c1_1.jpg").write_text("no image")
    data = open_data("imagelist", params)

    with pytest.raises(InputError, match=r"cannot read image '.*c1_1\.jpg'.*; mend it"):
        run(data, replace(TINY, epochs=1, warmup_epochs=0), tmp_path / "run")


def test_a_group_without_classes_stays_empty_in_the_metrics(
    digits: ImageData, tmp_path: Path
) -> None:
    def metrics(*_: Any) -> dict[str, float | None]:
        return {"all": 0.5, "many": None}

    run(digits, replace(TINY, epochs=2), tmp_path / "run", metrics=metrics)

    rows = read_metrics(tmp_path / "run")
    assert [row["val_many"] for row in rows] == ["", ""]
    assert read_checkpoint(tmp_path / "run" / LAST).record["best"]["epoch"] == 1  # ties: the first


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"epochs": 0}, "epochs must be at least 1; got 0"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"lr": math.nan}, "lr must be a finite number above 0; got nan"),
        ({"momentum": 1.0}, "momentum must be in"),
        ({"weight_decay": -1.0}, "weight_decay must be 0 or more"),
        ({"warmup_epochs": 90}, "warmup_epochs must be less than epochs"),
        ({"optimizer": "adam"}, "unknown optimizer 'adam'; did you mean adamw"),
        ({"schedule": "steps"}, "did you mean step"),
        ({"sampler": "balanced"}, "unknown sampler 'balanced'"),
        ({"image_size": 4}, "image_size must be at least 8; got 4"),
        ({"workers": -1}, "workers must be 0 or more"),
        ({"seed": -1}, "seed must be 0 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(bad: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        TrainConfig(**bad)


def test_settings_survive_json_and_later_ones_are_named() -> None:
    config = PRESETS["digits-lt"]

    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(InputError, match="unknown training setting 'momemtum'; did you mean mom"):
        TrainConfig.from_json({"momemtum": 1})


@pytest.mark.slow
def test_the_preset_learns_digits_lt_and_the_tail_lags_behind(tmp_path: Path) -> None:
    summary = run(open_data(**SPEC), PRESETS["digits-lt"], tmp_path / "run")

    val = summary.best.val
    assert 0.8 < val["all"] < 0.97
    assert val["few"] < val["all"] - 0.02
