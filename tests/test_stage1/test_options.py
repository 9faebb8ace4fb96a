"""The options of `featbank train` beyond the training itself: recipes, configuration, records."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from cli.main import main
from featbank.backbones.backbones import input_spec
from featbank.data.provenance import git
from featbank.data.transforms import train_transform
from featbank.errors import InputError
from featbank.runs.checkpoint import LAST, read_checkpoint
from featbank.runs.run_files import spec_text
from featbank.runs.tensorboard import scalars
from featbank.runtime.spec import Spec, parse_spec
from featbank.stage1.config import TrainConfig
from featbank.stage1.optim import learning_rate
from featbank.stage1.presets import RECIPES
from featbank.stage1.recipe import recipe
from tests.test_stage1.images import write_data


def featbank(*args: Any) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)


def test_a_run_is_run_again_exactly_from_its_own_configuration(tmp_path: Path) -> None:
    first = [
        *("train", "--data", "digits-lt:imbalance=10", "--epochs", 3, "--batch-size", 64),
        *("--lr", 0.02, "--mean", "0.4,0.5,0.6", "--seed", 3, "--device", "cpu"),
    ]
    assert featbank(*first, "--out", tmp_path / "a").exit_code == 0

    config = tmp_path / "a/run.yaml"
    again = ("train", "--config", config, "--device", "cpu")
    assert featbank(*again, "--out", tmp_path / "b").exit_code == 0
    assert featbank(*again, "--out", tmp_path / "c", "--lr", 0.03).exit_code == 0

    assert (tmp_path / "a" / LAST).read_bytes() == (tmp_path / "b" / LAST).read_bytes()
    assert config.read_bytes() == (tmp_path / "b/run.yaml").read_bytes()
    record = read_checkpoint(tmp_path / "c" / LAST).record["config"]
    assert (record["lr"], record["seed"], record["mean"]) == (0.03, 3, [0.4, 0.5, 0.6])
    written = yaml.safe_load(config.read_text())
    assert written["data"] == "digits-lt:imbalance=10"
    options = {name for param in main.get_command(None, "train").params for name in [param.name]}
    assert set(written) <= options  # every setting is an option of the command line


def test_every_setting_is_an_option() -> None:
    options = {param.name for param in main.get_command(None, "train").params}
    assert set(TrainConfig().to_json()) <= options


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- 1", "must be a mapping of options"),
        ("a: [", "cannot read --config"),
        ("epoks: 3", "train has no option 'epoks'"),
        ("mean: 3", "--mean wants three numbers"),
        ("milestones: soon", "--milestones wants whole numbers"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(content)
    done = featbank("train", "--config", file, "--data", "digits-lt", "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


def test_a_spec_survives_being_written(tmp_path: Path) -> None:
    spec = {"root": "/a b,c:d", "train": "x.txt", "seed": "1", "classes": "it's,so"}
    assert parse_spec(spec_text("imagelist", spec)) == Spec("imagelist", spec)
    assert spec_text("digits-lt", {}) == "digits-lt"


def test_recipes_are_the_published_ones() -> None:
    kang = recipe("imagelist", {}, preset="imagenet-lt-resnext50")
    assert (kang.backbone, kang.epochs, kang.batch_size) == ("resnext50_32x4d", 90, 512)
    assert (kang.lr, kang.momentum, kang.weight_decay, kang.schedule) == (0.2, 0.9, 5e-4, "epoch")
    assert recipe("x", {"epochs": 3}, preset="imagenet-lt-resnext50").epochs == 3
    with pytest.raises(InputError, match="unknown preset 'imagenet'"):
        recipe("x", {}, preset="imagenet")
    # adjust_learning_rate in cifar_train.py of Cao et al.: epochs counted from 1.
    cao = RECIPES["cifar100-lt-resnet32"]
    rates = [
        learning_rate(cao, epoch * 85 + 84, 85) for epoch in (0, 4, 5, 159, 160, 179, 180, 199)
    ]
    want = [0.02, 0.1, 0.1, 0.1, 0.001, 0.001, 0.00001, 0.00001]
    assert rates == pytest.approx(want, rel=1e-12)
    assert (cao.batch_size, cao.weight_decay, cao.epochs) == (128, 2e-4, 200)


def test_a_retraining_inherits_the_data_and_rate_but_not_what_was_retrained_before() -> None:
    before = TrainConfig(
        lr=0.3, loss="ldam", init="a", retrain="classifier", shift_bn=True, sampler="sqrt"
    )
    started = {"config": before.to_json()}

    again = recipe("x", {"init": "b", "retrain": "all"}, started=started)

    assert (again.lr, again.loss, again.sampler, again.shift_bn) == (0.3, "ce", "class", False)
    with pytest.raises(InputError, match="--init needs --retrain"):
        recipe("x", {"init": "b"}, started=started)


def test_small_photographs_are_padded_and_cropped() -> None:
    spec = input_spec("cifar-resnet32", None, 32)
    assert spec.mean == (0.4914, 0.4822, 0.4465)
    words = repr(train_transform(spec, pad_crop=True))
    assert "RandomCrop(size=(32, 32), padding=[4, 4, 4, 4]" in " ".join(words.split())
    assert "RandomHorizontalFlip" in words
    assert "ColorJitter" not in words


def test_run_json_names_the_commit_and_whether_files_differ(tmp_path: Path) -> None:
    import subprocess

    assert git(tmp_path) is None
    command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("1")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*command, *words], check=True)
    state = git(tmp_path)
    assert state is not None
    assert len(state["commit"]) == 40
    assert not state["dirty"]
    (tmp_path / "file").write_text("2")
    assert git(tmp_path)["dirty"]

    featbank(
        "train", "--data", "digits-lt", "--epochs", 3, "--device", "cpu", "--out", tmp_path / "r"
    )
    settings = json.loads((tmp_path / "r/run.json").read_text())
    assert settings["data"]["settings"] == {"imbalance": 20.0, "seed": 0}
    assert set(settings) >= {"git", "versions", "config", "device", "input"}


class Writer:
    """Stands for TensorBoard's writer."""

    def __init__(self, folder: str, filename_suffix: str) -> None:
        self.file = Path(folder) / f"events.out.tfevents.1{filename_suffix}"

    def add_scalar(self, name: str, value: float, step: int) -> None:
        with self.file.open("a") as file:
            file.write(f"{step} {name} {value}\n")

    def flush(self) -> None: ...

    def close(self) -> None: ...


def test_tensorboard_gets_the_numbers_of_every_epoch_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr("featbank.runs.tensorboard.find_spec", lambda _name: True)
    for _ in range(2):
        featbank(
            *("train", "--data", "digits-lt", "--epochs", 3, "--device", "cpu", "--overwrite"),
            *("--out", tmp_path / "run"),
        )
    record = read_checkpoint(tmp_path / "run" / LAST).record
    (file,) = (tmp_path / "run").glob("events.out.tfevents.1.featbank-*")
    lines = file.read_text().splitlines()
    want = [
        f"{entry['epoch']} {name} {value}"
        for entry in record["history"]
        for name, value in scalars(entry).items()
    ]
    assert sorted(lines) == sorted(want)
    assert any(" val/all " in line for line in lines)


def test_tensorboard_itself_reads_what_a_run_writes(tmp_path: Path) -> None:
    """Interrupted and resumed: what it shows of each epoch is what the history says."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    start = ("train", "--data", "digits-lt", "--epochs", 3, "--device", "cpu", "--resume")
    for _ in range(2):
        assert featbank(*start, "--out", tmp_path / "run").exit_code == 0

    events = reader.EventAccumulator(str(tmp_path / "run")).Reload()

    history = read_checkpoint(tmp_path / "run" / LAST).record["history"]
    assert set(events.Tags()["scalars"]) == set(scalars(history[0]))
    for name in scalars(history[0]):
        shown = [(event.step, event.value) for event in events.Scalars(name)]
        want = [(entry["epoch"], scalars(entry)[name]) for entry in history]
        assert [step for step, _ in shown] == [step for step, _ in want]
        np.testing.assert_allclose([v for _, v in shown], [v for _, v in want], rtol=1e-6)


def test_a_run_is_resumed_extracted_and_run_again_from_another_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_data(tmp_path / "a/images", {"train": [4, 3, 2], "val": [1, 1, 1]})
    (tmp_path / "a/images/train.txt").rename(tmp_path / "a/mine.txt")
    monkeypatch.chdir(tmp_path / "a")
    spec = "imagelist:root=images,train=mine.txt,val=val.txt"
    start = ("train", "--backbone", "tiny-cnn", "--image-size", 16, "--batch-size", 4)
    start = (*start, "--epochs", 1, "--device", "cpu")
    assert featbank(*start, "--data", spec, "--out", "run").exit_code == 0
    monkeypatch.chdir(tmp_path)

    moved = f"imagelist:root={tmp_path}/a/images,train=a/mine.txt,val=val.txt"
    lines = (
        ("extract", "a/run", "--device", "cpu", "--out", "bank"),
        (*start, "--data", moved, "--out", "a/run", "--resume"),
        ("train", "--config", "a/run/run.yaml", "--device", "cpu", "--out", "again"),
    )
    for line in lines:
        done = featbank(*line)
        assert done.exit_code == 0, done.output
    one, two = (read_checkpoint(Path(run) / LAST) for run in ("a/run", "again"))
    assert one.record["data_spec"] == two.record["data_spec"]
    assert one.record["data_spec"]["params"] == {
        "root": str(tmp_path / "a/images"),
        "train": str(tmp_path / "a/mine.txt"),
        "val": "val.txt",
    }


def test_progress_shows_loss_and_rate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("cli._progress.LINE_EVERY", 0.0)
    monkeypatch.setattr("featbank.stage1.session._STEPS_PER_CHECK", 1)
    done = featbank(
        *("train", "--data", "digits-lt", "--epochs", 3, "--device", "cpu"),
        *("--out", tmp_path / "run"),
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("epoch 1/3: ")]
    assert "images, " in lines[0]
    assert " s left, loss " in lines[0]
    assert ", lr 0." in lines[0]


@pytest.mark.slow
def test_a_compiled_network_trains_and_saves_under_its_own_names(tmp_path: Path) -> None:
    done = featbank(
        *("train", "--data", "digits-lt", "--epochs", 3, "--device", "cpu", "--compile"),
        *("--out", tmp_path / "run"),
    )
    assert done.exit_code == 0, done.output
    assert "stem.0.weight" in read_checkpoint(tmp_path / "run" / LAST).model
