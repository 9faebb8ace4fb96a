"""Checkpoints as training scripts save them: what surrounds the weights, and how they are named."""

import argparse
import collections
import datetime
import enum
import os
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from featbank.backbones.backbones import build_model
from featbank.backbones.foreign import load_plain
from featbank.backbones.weights import LoadReport, load_file, read_weights
from featbank.errors import InputError, MissingFileError

NAME = "test_resnet"


class Settings(dict):
    """A dictionary with attributes, as configuration libraries have them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.__dict__["frozen"] = True


class Options:
    """A script's own class of options."""

    def __init__(self) -> None:
        self.lr, self.where, self.more = 0.1, Path("runs/1"), Settings(a=1)


class Slotted:
    __slots__ = ("lr",)

    def __init__(self) -> None:
        self.lr = 0.1


class Mode(enum.Enum):
    FAST = 1


def network(seed: int = 7) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return timm.create_model(NAME, num_classes=4)


MODEL = network()
STATE = MODEL.state_dict()
OTHER = network(8).state_dict()


def under(prefix: str, tensors: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + name: each for name, each in tensors.items()}


def loaded(file: Path) -> tuple[nn.Module, LoadReport]:
    model = build_model(NAME, 0, 32)
    return model, load_file(model, read_weights(file), NAME, ("fc",))


def whole(file: Path, want: dict[str, Tensor] = STATE) -> str:
    """Load a file, check every tensor but the classifier's, and return the report."""
    model, report = loaded(file)
    for name, each in model.state_dict().items():
        assert torch.equal(each, want[name]), name
    assert len(report.matched) == len(model.state_dict())
    return str(report)


BESIDE = {
    "a namespace": argparse.Namespace(lr=0.1, out=Path("a"), nested=argparse.Namespace()),
    "a class of the script": Options(),
    "a dictionary with attributes": Settings(lr=0.1),
    "a simple namespace": types.SimpleNamespace(lr=0.1),
    "a default dictionary": collections.defaultdict(list, a=[1]),
    "dates": [datetime.datetime.now(), datetime.timedelta(1), datetime.date(2020, 1, 1)],
    "numpy scalars": [np.float64(0.5), np.int64(3), np.float32(1), np.bool_(True), np.uint8(3)],
    "an array": np.arange(5.0),
    "random states": [np.random.RandomState(0).get_state(), torch.get_rng_state()],
    "torch's version": torch.__version__,
    "a tensor": torch.tensor(71.3),
    "a set, a complex, none": [{1, 2}, 1j, None, b"bytes"],
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", BESIDE)
@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_what_scripts_save_beside_the_weights_is_in_nobodys_way(
    tmp_path: Path, kind: str, key: str, zipped: bool
) -> None:
    content = {key: STATE, "epoch": 3, "more": BESIDE[kind], "optimizer": {"state": {0: STATE}}}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)

    assert whole(tmp_path / "w.pth").startswith(f"w.pth (its '{key}'): ")


@pytest.mark.parametrize(
    ("beside", "named"),
    [
        (Slotted(), f"objects of {__name__}.Slotted;"),
        (Mode.FAST, f"calls {__name__}.Mode;"),
        (np.random.default_rng(0), "calls numpy.random._pickle"),
        (types.SimpleNamespace(a=Mode.FAST, b=Options()), f"calls {__name__}.Mode;"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_cannot_be_passed_over_is_named(
    tmp_path: Path, beside: object, named: str, zipped: bool
) -> None:
    content = {"state_dict": STATE, "args": beside}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)

    with pytest.raises(InputError, match="was not run: it ") as caught:
        read_weights(tmp_path / "w.pth")

    assert named in str(caught.value)
    assert str(caught.value).isprintable()
    assert "weights_only" not in str(caught.value)


class Run:
    """Pickles as a call that makes a file."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.parts = (function, args)

    def __reduce__(self) -> Any:
        return self.parts


@pytest.mark.parametrize("zipped", [True, False])
def test_no_call_beside_weights_is_run(tmp_path: Path, zipped: bool) -> None:
    ran = tmp_path / "ran"
    calls = (
        Run(os.system, f"touch {ran}"), Run(open, str(ran), "w"), Run(Path.touch, ran),
        Run(exec, f"open({str(ran)!r}, 'w')"), argparse.Namespace(x=Run(os.mkdir, str(ran))),
    )  # fmt: skip
    for call in calls:
        content = {"state_dict": STATE, "args": call}
        torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
        with pytest.raises(InputError, match="holds more than tensors and was not run: it"):
            read_weights(tmp_path / "w.pth")
        assert not ran.exists()


def test_classes_of_a_file_are_not_imported_nor_made(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "args": Options()}, tmp_path / "w.pth")
    raw = (tmp_path / "w.pth").read_bytes()
    gone = raw.replace(b"test_layouts\nOptions", b"test_layoutz\nOptionz")
    assert gone != raw
    import zipfile

    with (
        zipfile.ZipFile(tmp_path / "w.pth") as old,
        zipfile.ZipFile(tmp_path / "x.pth", "w") as new,
    ):
        for entry in old.infolist():
            body = old.read(entry).replace(b"test_layouts\nOptions", b"test_layoutz\nOptionz")
            new.writestr(entry.filename, body)

    assert load_plain(tmp_path / "x.pth", objects=True)["args"] == {}
    with pytest.raises(InputError, match=r"objects of .*test_layoutz\.Optionz"):
        load_plain(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "prefix",
    [
        "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "backbone.",
        "encoder.", "net.", "my own network.", "a.b.c.d.", "модель.",
    ],
)  # fmt: skip
def test_a_prefix_that_all_names_share_is_dropped_and_said(tmp_path: Path, prefix: str) -> None:
    torch.save(under(prefix), tmp_path / "w.pth")
    save_file(under(prefix), tmp_path / "w.safetensors")

    assert f"w.pth (names without '{prefix}'): " in whole(tmp_path / "w.pth")
    assert whole(tmp_path / "w.safetensors")


def averaged(model: nn.Module) -> dict[str, Tensor]:
    """What torchvision's references save as model_ema: prefixed, and with a counter."""
    return AveragedModel(model).state_dict()


PARTS: dict[str, tuple[Any, str]] = {
    "MoCo": (
        {"state_dict": under("module.encoder_q.") | under("module.encoder_k.", OTHER)
         | {"module.queue": torch.zeros(4, 8)}},
        "names without 'module.encoder_q.'",
    ),
    "BYOL": (under("target_network.", OTHER) | under("online_network."), "'online_network.'"),
    "momentum": (under("backbone.") | under("backbone_momentum.", OTHER), "'backbone.'"),
    "Lightning with a loss": (
        {"state_dict": under("model.") | {"criterion.weight": torch.ones(4)},
         "hyper_parameters": {"lr": 0.1}, "callbacks": {"x": {}}},
        "its 'state_dict'; names without 'model.'",
    ),
    "a head outside": (under("backbone.") | {"fc.weight": torch.ones(2, 2)}, "'backbone.'"),
    "DINO": (
        {"student": under("module.backbone.", OTHER), "teacher": under("backbone."),
         "args": argparse.Namespace()},
        "its 'teacher', not 'student'; names without 'backbone.'",
    ),
    "DINO without a teacher": ({"student": STATE}, "its 'student'"),
    "timm's averaged": ({"state_dict": OTHER, "state_dict_ema": STATE},
                        "its 'state_dict_ema', not 'state_dict'"),
    "torchvision's averaged": ({"model": OTHER, "model_ema": averaged(MODEL)},
                               "its 'model_ema', not 'model'; names without 'module.'"),
    "nothing averaged yet": ({"state_dict": STATE, "state_dict_ema": None}, "its 'state_dict'"),
    "a rate of averaging": ({"model": STATE, "ema": {"decay": torch.tensor(0.9)}}, "its 'model'"),
    "nested": ({"net": {"model": {"state_dict": under("m.")}}}, "its 'net.model.state_dict'"),
    "a key of one's own": ({"epoch": 1, "student_v2": STATE}, "names without 'student_v2.'"),
    "parts": ({"encoder": STATE, "head": {"weight": torch.ones(3)}}, "names without 'encoder.'"),
    "averaged by name": (
        under("model.", OTHER) | under("model_ema.module."), "'model_ema.module.'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", PARTS)
def test_the_network_is_found_among_other_parts_and_the_report_says_which(
    tmp_path: Path, kind: str
) -> None:
    content, said = PARTS[kind]
    torch.save(content, tmp_path / "w.pth")

    assert said in whole(tmp_path / "w.pth")


def test_what_lies_beside_the_network_is_counted(tmp_path: Path) -> None:
    torch.save(PARTS["MoCo"][0], tmp_path / "w.pth")

    report = loaded(tmp_path / "w.pth")[1]

    assert f"{len(STATE) + 1} of other parts left out (module.encoder_k." in str(report)
    assert len(report.to_json()["other_parts_left_out"]) == len(STATE) + 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (under("a.") | under("b.", OTHER), r"several networks that fit, .* 'a\.', 'b\.'; save"),
        ({"x": STATE, "y": OTHER}, r"several networks that fit, .* 'x\.', 'y\.'; save the one"),
        ({**under("model."), "model.new": torch.ones(2)}, r"'model\.'\): \d+ .*1 extra \(new\)"),
        (dict(list(under("net.").items())[5:]), r"\d+ tensors matched, 5 missing \("),
        ({"epoch": 3, "lr": 0.1}, r"no named tensors of a network, but 'epoch' \(int\), 'lr' \(fl"),
        ({"model": {}, "b": None}, r"but 'model' \(dict\), 'b' \(NoneType\)"),
        ({"model": MODEL}, r"'model' \(timm\..*ResNet\); an object is more than tensors and was n"),
        (MODEL, r"but timm\..*ResNet; an object is more than tensors and was not run"),
        ({"state_dict": {n: t.numpy() for n, t in STATE.items()}}, r"no named tensors"),
        ([STATE], "but a list without names"),
        (torch.ones(3), "but a Tensor without names"),
        ({"state_dict": {"fc.weight": torch.tensor(1.0)}}, "no named tensors"),
        ({n: t.to("meta") for n, t in STATE.items()}, "has tensors that cannot be copied: "),
    ],
)
def test_what_does_not_fit_says_what_is_in_the_way(
    tmp_path: Path, content: Any, message: str
) -> None:
    torch.save(content, tmp_path / "w.pth")

    with pytest.raises(InputError, match=message) as caught:
        loaded(tmp_path / "w.pth")

    assert str(caught.value).isprintable()


def test_names_out_of_a_file_do_not_steer_a_terminal(tmp_path: Path) -> None:
    for content in (
        {"\x1b[2Jx": 3},
        {"\x1b[2J" + name: each for name, each in STATE.items()},
        under("\x1b]0;title\x07.") | {"\x1b]0;title\x07.new": torch.ones(2)},
    ):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(InputError, match=r"x1b") as caught:
            loaded(tmp_path / "w.pth")
        assert str(caught.value).isprintable()
    torch.save(under("\x1b[31m."), tmp_path / "w.pth")
    assert str(loaded(tmp_path / "w.pth")[1]).isprintable()


def test_a_dictionary_within_itself_ends(tmp_path: Path) -> None:
    content: dict[str, Any] = {"epoch": 1}
    content["model"] = content
    torch.save(content, tmp_path / "w.pth")

    with pytest.raises(InputError, match="no named tensors"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.save:FutureWarning")
def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    for path, message in (
        (tmp_path / "pipe.pth", r"pipe\.pth is a named pipe"),
        (tmp_path, "is a folder"),
        (Path("/dev/zero"), "is a device"),
    ):
        with pytest.raises(InputError, match=message):
            read_weights(path)
    (tmp_path / "gone.pth").symlink_to("nowhere")
    with pytest.raises(MissingFileError, match="no weights"):
        read_weights(tmp_path / "gone.pth")
    traced = torch.jit.script(nn.Linear(2, 2))
    traced.save(str(tmp_path / "script.pt"))
    with pytest.raises(InputError, match=r"script\.pt is a TorchScript program"):
        read_weights(tmp_path / "script.pt")
    torch.save({"model": STATE, "args": Options()}, tmp_path / "four.pth", pickle_protocol=4)
    with pytest.raises(InputError, match="more than tensors and was not run") as caught:
        read_weights(tmp_path / "four.pth")
    assert str(caught.value).isprintable()
