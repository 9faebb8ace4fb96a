"""What an exported model does without featbank, and what its folder says."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from timm.data import create_transform, resolve_data_config, resolve_model_data_config

import heads
from featbank import Model
from featbank.data.transforms import InputSpec, eval_transform, pixel_transform
from featbank.serving.layers import Normalise
from featbank.serving.programs import load_program
from featbank.serving.record import ModelRecord
from featbank.serving.selftest import pictures
from featbank.serving.timm_folder import timm_config
from tests.commands import contents, featbank, refused
from tests.test_serving.served import NAMES, Kit
from tests.test_serving.test_scores import close

FORMS = ("timm", "onnx", "pt2")
FILES = {"README.md", "config.json", "head.head", "self_test.npz"}
FILES |= {f"self_test_{number}.png" for number in range(3)}

# Runs a program on pixels from a file, where the packages named first cannot be imported.
ALONE = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
import numpy as np
pixels = np.load(sys.argv[3])
found = []
"""
ONNX_ALONE = (
    ALONE
    + """
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[2])
for size in (1, 5):
    found.append(session.run(None, {"pixels": pixels[:size]}))
metadata = session.get_modelmeta().custom_metadata_map
text = metadata["names"] + metadata["featbank"]
np.savez(sys.argv[4], text=text, *[each for some in found for each in some])
"""
)
PT2_ALONE = (
    ALONE
    + """
import torch
extra = {"featbank.json": ""}
program = torch.export.load(sys.argv[2], extra_files=extra).module()
for size in (1, 5):
    found.append([each.numpy() for each in program(torch.from_numpy(pixels[:size]))])
np.savez(sys.argv[4], text=extra["featbank.json"], *[each for some in found for each in some])
"""
)


def run_alone(code: str, missing: str, program: Path, pixels: np.ndarray, folder: Path) -> dict:
    """Run a program in a process of its own; return its arrays."""
    np.save(folder / "pixels.npy", pixels)
    files = [str(program), str(folder / "pixels.npy"), str(folder / "found.npz")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-c", code, missing, *files], check=True, cwd=folder, env=environment
    )
    with np.load(folder / "found.npz") as found:
        return dict(found)


@pytest.mark.parametrize(
    ("form", "code", "missing"),
    [
        ("onnx", ONNX_ALONE, "featbank,heads,cli,torch,timm,torchvision,onnx,PIL"),
        ("pt2", PT2_ALONE, "featbank,heads,cli,timm,torchvision,PIL"),
    ],
)
def test_a_program_runs_without_featbank(
    exported: dict[str, Path], resnet: Kit, form: str, code: str, missing: str, tmp_path: Path
) -> None:
    model = Model.load(exported[form], device="cpu", trust=True)
    transform = pixel_transform(model.record.input)
    seen = [transform(Image.open(path).convert("RGB")) for path in resnet.images]
    file = exported[form] / f"model.{form}"
    found = run_alone(code, missing, file, torch.stack(seen).numpy(), tmp_path)
    for place, size in enumerate((1, 5)):
        logits, shares, features = (found[f"arr_{3 * place + each}"] for each in range(3))
        close(logits, resnet.scores("crt")[:size])
        close(shares, resnet.probabilities("crt")[:size])
        close(features, resnet.features[:size])
    text = str(found["text"])
    assert json.loads(text[text.index("{") :])["class_names"] == list(NAMES)


def test_timm_loads_a_folder_and_sees_the_same_pixels(
    exported: dict[str, Path], resnet: Kit
) -> None:
    network = timm.create_model(f"local-dir:{exported['timm']}", pretrained=True).eval()
    transform = create_transform(**resolve_model_data_config(network), is_training=False)
    own = Model.load(exported["timm"], device="cpu").record.input
    opened = [Image.open(path).convert("RGB") for path in resnet.images]
    seen = torch.stack([transform(each) for each in opened])
    pixels = torch.stack([pixel_transform(own)(each) for each in opened])
    torch.testing.assert_close(Normalise(own)(pixels), seen, rtol=0, atol=1e-6)
    assert torch.equal(
        Normalise(own)(pixels), torch.stack([eval_transform(own)(each) for each in opened])
    )
    with torch.inference_mode():
        close(network(seen).numpy(), resnet.scores("crt"))
    assert network.pretrained_cfg["label_names"] == list(NAMES)


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [32, (48, 24)])
def test_timm_makes_its_transform_of_the_config(crop_mode: str, size: Any) -> None:
    own = InputSpec(
        size, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), interpolation="bicubic", crop=0.9,
        crop_mode=crop_mode,
    )  # fmt: skip
    config = timm_config(ModelRecord(("a", "b"), own, backbone="test_resnet"), 96)
    data = resolve_data_config(pretrained_cfg=config["pretrained_cfg"])
    transform = create_transform(**data, is_training=False)
    for picture in pictures():
        seen = Normalise(own)(pixel_transform(own)(picture)[None])[0]
        torch.testing.assert_close(seen, transform(picture), rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_says_what_it_is(exported: dict[str, Path], resnet: Kit, form: str) -> None:
    folder = exported[form]
    file = {"timm": "model.safetensors"}.get(form, f"model.{form}")
    assert set(contents(folder)) == FILES | {file}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["label_names"] == list(NAMES)
    model = config["featbank"]["model"]
    assert model["temperature"] == resnet.head("crt").temperature
    assert model["class_counts"] == [14, 8, 5]
    assert model["provenance"]["selected_on"] == "val"
    assert model["provenance"]["bank_digest"]
    assert model["results"][0]["split"] == "test"
    assert len(model["results"][0]["ci95"]["all"]) == 2
    assert config["featbank"]["versions"]["torch"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "| test | " in card
    assert "Not stated by whoever exported the model." in card
    assert "\\<b>\\|b" in card
    # The head goes with the folder, so that features can be labelled without the network.
    assert heads.load(folder / "head.head").temperature == model["temperature"]


@pytest.mark.parametrize("form", FORMS)
def test_a_path_may_have_any_bytes(resnet: Kit, form: str, tmp_path: Path) -> None:
    folder = resnet.export("crt", form, tmp_path / "caf\udce9" / form)
    model = Model.load(folder, device="cpu", trust=True)
    assert model.predict(resnet.images).labels == resnet.labels("crt")


@pytest.mark.parametrize("form", FORMS)
def test_whoever_reads_one_file_of_a_folder_can_read_all(
    exported: dict[str, Path], form: str
) -> None:
    assert len({path.stat().st_mode for path in exported[form].iterdir()}) == 1


def test_a_program_is_not_tied_to_the_device_of_the_export(exported: dict[str, Path]) -> None:
    """The device meta stands for a GPU: it computes shapes alone, and refuses tensors of a CPU."""
    meta, file = torch.device("meta"), exported["pt2"] / "model.pt2"
    assert not [node for node in torch.export.load(file).graph.nodes if "device" in node.kwargs]
    pixels = torch.zeros(2, 3, 32, 32, dtype=torch.uint8, device=meta)
    for program in (load_program(file, meta).program, torch.export.load(file).module().to(meta)):
        logits, shares, _ = program(pixels)
        assert logits.shape == shares.shape == (2, 3)


def test_the_licence_is_what_the_user_says(resnet: Kit, tmp_path: Path) -> None:
    folder = resnet.export("crt", "timm", tmp_path / "m", license_name="cc: by-nc")
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---")[1])["license"] == "cc: by-nc"
    assert card.endswith("## Licence\n\ncc: by-nc\n")


@pytest.mark.parametrize("form", FORMS)
def test_the_command_proves_a_model(exported: dict[str, Path], form: str, tmp_path: Path) -> None:
    trust = ["--trust"] if form == "pt2" else []
    done = featbank("verify", exported[form], *trust)
    assert done.exit_code == 0, done.output
    assert f"sound; {form}, " in done.stdout
    featbank("verify", exported[form], *trust, "--json", tmp_path / "v.json")
    proof = json.loads((tmp_path / "v.json").read_text())
    assert proof["sound"]
    assert proof["format"] == form


def test_the_commands_from_a_network_to_labels(resnet: Kit, tmp_path: Path) -> None:
    head = resnet.names["lws"]
    done = featbank("export", head, *resnet.options, "--out", tmp_path / "m", "--quiet")
    assert done.exit_code == 0, done.output
    assert "proved on its own pictures; next: featbank predict" in done.stdout
    done = featbank("predict", resnet.root / "test", "--model", tmp_path / "m", "--quiet")
    assert done.exit_code == 0, done.output
    assert done.stderr == "18 labelled: standard output\n"
    first, *rows = csv.reader(done.stdout.splitlines())
    assert first == ["path", "label", "confidence", "error"]
    want = dict(zip(resnet.images, resnet.labels("lws"), strict=True))
    assert {row[0]: row[1] for row in rows} == want
    straight = featbank("predict", resnet.root / "test", "--head", head, *resnet.options, "--quiet")
    _, *others = csv.reader(straight.stdout.splitlines())
    assert [row[:2] for row in others] == [row[:2] for row in rows]
    shares = np.array([[row[2] for row in some] for some in (rows, others)], dtype=float)
    close(shares[0], shares[1])


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_with_one_byte_changed_is_refused(
    exported: dict[str, Path], form: str, tmp_path: Path
) -> None:
    for name, whole in contents(exported[form]).items():
        folder = tmp_path / "m"
        for other, content in contents(exported[form]).items():
            folder.mkdir(exist_ok=True)
            (folder / other).write_bytes(content)
        for place in (0, len(whole) // 3, len(whole) - 1):
            changed = bytearray(whole)
            changed[place] ^= 1
            (folder / name).write_bytes(changed)
            line = refused(4, "predict", exported[form], "--model", folder, "--trust")
            assert str(folder / name) in line
            assert refused(4, "verify", folder, "--trust") == line
        (folder / name).unlink()
        code = 3 if name == "config.json" else 4
        line = refused(code, "predict", exported[form], "--model", folder, "--trust")
        assert name in line
