"""Features of networks that were trained elsewhere, and weights of other code."""

import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import nn

import heads
from cli.main import main
from featbank import Bank
from featbank.backbones.backbones import build_model
from featbank.backbones.weights import load_file, read_weights
from featbank.data import ImageData, open_data
from featbank.data.provenance import tensors_digest
from featbank.data.transforms import eval_transform
from featbank.errors import InputError, MissingFileError, StaleError
from featbank.extraction.extract import extract
from featbank.extraction.network import Foundation
from featbank.runs.checkpoint import LAST, read_checkpoint
from featbank.stage1.config import TrainConfig
from featbank.stage1.train import train
from tests.test_stage1.images import accuracies, write_data

COUNTS = {"train": [6, 4, 2], "val": [2, 2, 2], "test": [3, 3, 3]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("foundation")
    write_data(root, COUNTS)
    return root


@pytest.fixture(scope="module")
def data(folder: Path) -> ImageData:
    lists = {split: f"{split}.txt" for split in COUNTS}
    return open_data("imagelist", {"root": str(folder), **lists})


def network(name: str, n_classes: int, seed: int = 7) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return timm.create_model(name, num_classes=n_classes)


def spec_of(folder: Path) -> str:
    return f"imagelist:root={folder},train=train.txt,val=val.txt,test=test.txt"


def test_a_timm_model_with_weights_from_a_file_is_banked_with_no_stage_1(
    folder: Path, data: ImageData, tmp_path: Path
) -> None:
    model = network("test_resnet", 1000)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    args = ["extract", "--backbone", "test_resnet", "--weights", str(tmp_path / "w.safetensors")]
    args += ["--image-size", "32", "--data", spec_of(folder), "--dtype", "float32", "--out"]

    done = CliRunner().invoke(main, [*args, str(tmp_path / "bank")], catch_exceptions=False)

    assert done.exit_code == 0, done.output
    assert "w.safetensors: " in done.stderr
    assert "0 missing, 0 extra, 0 of another shape, 2 of a classifier left out" in done.stderr
    assert "no stage-1 classifier" in done.stdout
    bank = Bank.open(tmp_path / "bank")
    assert bank.classifier is None
    model.reset_classifier(0)
    assert bank.provenance["checkpoint"] == tensors_digest(model.state_dict())
    assert "CenterCrop(size=(32, 32))" in bank.provenance["transform"]["spec"]
    from featbank.backbones.backbones import input_spec

    transform = eval_transform(input_spec("test_resnet", 32, None))
    split = data.splits["test"]
    images = torch.stack([transform(split.load(i)) for i in range(len(split))])
    with torch.inference_mode():
        want = model.eval()(images).numpy()
    np.testing.assert_allclose(bank["test"].read(), want, rtol=1e-4, atol=1e-4)
    again = CliRunner().invoke(main, [*args, str(tmp_path / "bank")], catch_exceptions=False)
    assert "is up to date" in again.stdout

    fitted = CliRunner().invoke(
        main,
        ["fit", str(tmp_path / "bank"), "--head", "tau", "--out", str(tmp_path / "heads")],
        catch_exceptions=False,
    )
    assert fitted.exit_code == 0
    assert "has no stage-1 classifier: fitting a linear one first" in fitted.stderr
    heads.load(tmp_path / "heads/tau.head")


def test_other_weights_are_another_bank(data: ImageData, tmp_path: Path) -> None:
    for seed in (1, 2):
        save_file(network("test_vit", 0, seed).state_dict(), tmp_path / f"{seed}.safetensors")

    def bank(seed: int) -> None:
        source = Foundation("test_vit", tmp_path / f"{seed}.safetensors", image_size=32)
        extract(source, tmp_path / "bank", data=data, device="cpu")

    bank(1)
    with pytest.raises(StaleError, match=r"provenance\.checkpoint"):
        bank(2)


def test_mean_and_std_are_the_models_own_unless_given(data: ImageData, tmp_path: Path) -> None:
    torch.save({"model": network("test_resnet", 3).state_dict()}, tmp_path / "w.pth")
    given = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    for name, more in (("own", {}), ("given", given)):
        source = Foundation("test_resnet", tmp_path / "w.pth", image_size=32, **more)
        extract(source, tmp_path / name, data=data, device="cpu")

    own, other = (Bank.open(tmp_path / n).provenance["transform"]["spec"] for n in ("own", "given"))
    assert "mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5]" in own
    assert "mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6]" in other


def paper_checkpoint(backbone: nn.Module, n_classes: int, dim: int) -> dict[str, Any]:
    """Return what torch.save gets in the code of Kang et al.: run_networks.py, save_model."""
    network = {f"module.{n}": t for n, t in backbone.state_dict().items() if not n.startswith("fc")}
    classifier = {
        "module.fc.weight": torch.arange(n_classes * dim).reshape(n_classes, dim) / 100,
        "module.fc.bias": torch.arange(n_classes) / 10,
    }
    both = {"feat_model": network, "classifier": classifier}
    return {
        "state_dict_best": both,
        "best_acc": np.float64(0.5),
        "state_dict": {},
        "epoch": 89,
    }


def test_the_paper_codes_checkpoint_gives_network_and_classifier(
    data: ImageData, tmp_path: Path
) -> None:
    model = network("resnet18", 3)
    file = tmp_path / "final_model_checkpoint.pth"
    torch.save(paper_checkpoint(model, 3, 512), file)

    source = Foundation("resnet18", file, image_size=32)
    summary = extract(source, tmp_path / "bank", data=data, device="cpu", dtype="float32")

    bank = Bank.open(tmp_path / "bank")
    assert summary.source.loaded.to_json() == {
        "matched": 120, "missing": [], "extra": [], "classifier_left_out": [],
    }  # fmt: skip
    weight, bias = bank.classifier
    np.testing.assert_array_equal(weight, np.arange(1536).reshape(3, 512).astype("f4") / 100)
    np.testing.assert_array_equal(bias, np.float32([0, 0.1, 0.2]))
    model.fc = nn.Identity()
    assert bank.provenance["checkpoint"] == tensors_digest(model.state_dict())

    torch.save(paper_checkpoint(model, 5, 512), file)
    with pytest.raises(InputError, match="classifier of 5 classes .* the data has 3 classes"):
        extract(source, tmp_path / "other", data=data, device="cpu")


def test_training_starts_from_the_paper_codes_checkpoint(data: ImageData, tmp_path: Path) -> None:
    model = network("resnet18", 3)
    torch.save(paper_checkpoint(model, 3, 512), tmp_path / "w.pth")
    started = build_model("resnet18", 3, 32)

    report = load_file(started, read_weights(tmp_path / "w.pth"), "resnet18", ("fc",))

    assert len(report.matched) == 122
    assert torch.equal(started.fc.bias, torch.arange(3) / 10)
    assert torch.equal(started.layer4[1].conv2.weight, model.layer4[1].conv2.weight)
    config = TrainConfig(
        backbone="resnet18", image_size=32, epochs=1, batch_size=8, lr=1e-12, weight_decay=0.0,
        weights=str(tmp_path / "w.pth"),
    )  # fmt: skip
    train(data, {}, config, tmp_path / "run", device="cpu", metrics=accuracies)
    got = read_checkpoint(tmp_path / "run" / LAST).model["layer1.0.conv1.weight"]
    torch.testing.assert_close(got, model.layer1[0].conv1.weight.detach())
    assert len(read_weights(tmp_path / "run" / LAST).tensors) == 122


@pytest.mark.parametrize(
    ("of", "into", "message"),
    [
        ("resnet18", "resnet34", r"122 tensors matched, \d+ missing \(layer1\.2\.conv1"),
        ("resnet34", "resnet18", r"0 missing, 96 extra \(layer1\.2\.bn1"),
        ("resnet50", "resnet26", "0 missing, .* extra"),
        ("resnext50_32x4d", "resnet50", r"of another shape \(layer1\.0\.conv1"),
        ("test_vit", "resnet18", "^weights do not fit backbone 'resnet18': w.safetensors: 0 tens"),
    ],
)
def test_weights_of_another_backbone_are_refused_with_what_does_not_match(
    tmp_path: Path, of: str, into: str, message: str
) -> None:
    save_file(network(of, 3).state_dict(), tmp_path / "w.safetensors")
    model = build_model(into, 3, 32)
    before = tensors_digest(model.state_dict())

    with pytest.raises(InputError, match=message):
        load_file(model, read_weights(tmp_path / "w.safetensors"), into, ("fc",))

    assert tensors_digest(model.state_dict()) == before


def test_files_that_hold_no_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no weights 'nowhere.pth'; --weights wants"):
        read_weights("nowhere.pth")
    (tmp_path / "a.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="is no safetensors file, or is damaged"):
        read_weights(tmp_path / "a.safetensors")
    torch.save({"epoch": 3}, tmp_path / "b.pth")
    with pytest.raises(InputError, match="holds no named tensors"):
        read_weights(tmp_path / "b.pth")
    torch.save({"model": nn.Linear(2, 2)}, tmp_path / "c.pth")
    with pytest.raises(InputError, match="more than tensors and was not run"):
        read_weights(tmp_path / "c.pth")
    with pytest.raises(InputError, match="needs its weights from one place: --pretrained"):
        Foundation("resnet18")


def test_weights_that_cannot_be_fetched_say_at_once_how_to_give_a_file(
    data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(*_: object, **__: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", dead)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    source = Foundation("test_vit", pretrained=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    began = time.monotonic()
    with pytest.raises(InputError, match=r"does not answer: .*model\.safetensors of https://hugg"):
        extract(source, tmp_path / "bank", data=data, device="cpu")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="offline mode is set, .* give the file with --weights"):
        extract(source, tmp_path / "bank", data=data, device="cpu")
    assert time.monotonic() - began < 5
    with pytest.raises(InputError, match="'resnet10' has no published weights; give a file"):
        extract(Foundation("resnet10", pretrained=True), tmp_path / "bank", data=data)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "give RUN, or --backbone NAME"),
        (["run", "--backbone", "resnet18"], "give RUN or --backbone, not both"),
        (["run", "--image-size", "32"], "--image-size goes with --backbone"),
        (["--backbone", "resnet18", "--mean", "1,2"], "--mean wants three numbers"),
    ],
)
def test_options_that_contradict_each_other_are_refused(args: list[str], message: str) -> None:
    done = CliRunner().invoke(main, ["extract", *args, "--out", "bank"], catch_exceptions=False)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
