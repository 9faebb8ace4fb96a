"""What a network sees of an image is what timm's own evaluation transform shows it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config

from featbank.backbones.backbones import _timm_spec, build_model, feature_width, input_spec
from featbank.data.loader import BatchPlan, Key, image_loader
from featbank.data.provenance import transform_record
from featbank.data.transforms import InputSpec, augmentation, eval_transform, sides
from featbank.data.types import ImageData, ImageSplit
from featbank.errors import InputError
from featbank.extraction.extract import extract
from featbank.extraction.network import Foundation
from featbank.stage1.train import train
from tests.test_stage1.images import accuracies

SHAPES = ((30, 53), (57, 40), (9, 14), (25, 24))  # wide, tall, small, nearly square
HALF = (0.5, 0.5, 0.5)


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (*s, 3), dtype=np.uint8)) for s in SHAPES]


def configurations() -> dict[str, tuple[str, dict[str, Any]]]:
    """One weight of each different evaluation transform of the installed timm."""
    found = {}
    for name in timm.list_models(pretrained=True):
        config = timm.get_pretrained_cfg(name).to_dict()
        theirs = resolve_data_config({}, pretrained_cfg=config)
        found[repr(sorted(theirs.items()))] = (name, theirs)
    return found


def smaller(config: dict[str, Any], factor: int) -> dict[str, Any]:
    """The configuration for a size that is quicker to compute."""
    channels, *size = config["input_size"]
    return {**config, "input_size": (channels, *(side // factor for side in size))}


def same_as_timm(spec: InputSpec, theirs: dict[str, Any]) -> bool:
    ours, timms = eval_transform(spec), create_transform(**theirs)
    for picture in pictures():
        torch.testing.assert_close(ours(picture), timms(picture), rtol=0, atol=4e-6)
    return True


def test_every_published_weight_of_timm_is_shown_what_timm_shows_it() -> None:
    found = configurations()

    assert len(found) > 100
    assert {config["crop_mode"] for _, config in found.values()} == {"center", "squash", "border"}
    for name, theirs in found.values():
        spec = input_spec(name, None, None)
        assert sides(spec.size) == tuple(theirs["input_size"][1:])
        less = smaller(theirs, 8)
        assert same_as_timm(_timm_spec(name, less, {}), less)


@pytest.mark.slow
def test_every_published_weight_of_timm_is_shown_the_same_at_its_own_size() -> None:
    for name, theirs in configurations().values():
        assert same_as_timm(input_spec(name, None, None), theirs)


@pytest.mark.parametrize("mode", ["center", "squash", "border", None])
@pytest.mark.parametrize("size", [(40, 24), (24, 40), (32, 32)])
@pytest.mark.parametrize("crop", [1.0, 0.875, 1.15, None])
@pytest.mark.parametrize("filter_", ["nearest", "lanczos", "bicubic"])
def test_every_way_of_cropping_is_timms(
    mode: str | None, size: tuple[int, int], crop: float | None, filter_: str
) -> None:
    config = {
        "input_size": (3, *size), "crop_pct": crop, "crop_mode": mode, "interpolation": filter_,
        "mean": (0.1, 0.5, 0.9), "std": (0.2, 0.3, 0.4),
    }  # fmt: skip
    theirs = resolve_data_config({}, pretrained_cfg=config)

    assert same_as_timm(_timm_spec("x", config, {}), theirs)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"crop_mode": "pad"}, "'x' wants images of crop mode 'pad', .*center, squash, border"),
        ({"interpolation": "random"}, "resize filter 'random'.*use another weight"),
        ({"input_size": (1, 32, 32)}, "channels 1"),
    ],
)
def test_what_cannot_be_followed_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _timm_spec("x", config, {})


def test_a_size_that_is_asked_for_keeps_the_crop_and_the_filter_of_the_weight() -> None:
    name = "coat_lite_medium_384.in1k"
    config = timm.get_pretrained_cfg(name).to_dict()

    assert same_as_timm(
        input_spec(name, 48, None), resolve_data_config({"img_size": 48}, pretrained_cfg=config)
    )


def test_the_record_of_an_input_that_was_possible_before_is_what_it_was() -> None:
    spec = InputSpec(32, HALF, HALF, "bicubic", 0.875)

    assert spec.to_json() == {
        "size": 32, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "crop": 0.875,
    }  # fmt: skip
    assert transform_record(eval_transform(spec))["spec"] == (
        "Compose( Resize(size=[36], interpolation=InterpolationMode.BICUBIC, antialias=True) "
        "CenterCrop(size=(32, 32)) PILToTensor() ToDtype(scale=True) "
        "Normalize(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5], inplace=False) ToPureTensor() )"
    )


@pytest.mark.parametrize(
    "spec",
    [
        InputSpec(16, HALF, HALF),
        InputSpec((24, 16), HALF, HALF),
        InputSpec((24, 16), HALF, HALF, "bicubic", 0.9, "squash"),
        InputSpec(16, (0.1, 0.2, 0.3), HALF, crop_mode="border"),
    ],
)
def test_an_input_survives_json_and_each_is_another_record(spec: InputSpec) -> None:
    assert InputSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    records = {
        json.dumps(transform_record(eval_transform(each)))
        for each in (spec, InputSpec(24, HALF, HALF, crop_mode="border"))
    }
    assert len(records) == 2


class Pictures:
    """Images of one colour, of the shapes (height, width) that are given."""

    def __init__(self, shapes: list[tuple[int, int]]) -> None:
        self.shapes = shapes

    def raw(self, i: int) -> bytes:
        return bytes(str(self.shapes[i]), "ascii")

    def decode(self, i: int, raw: bytes) -> Image.Image:
        return Image.new("RGB", self.shapes[i][::-1], (20 * i % 255, 90, 120))

    def n_bytes(self, i: int) -> int:
        return len(self.raw(i))


def split_of(shapes: list[tuple[int, int]], folder: str = "") -> ImageSplit:
    labels = np.arange(len(shapes)) % 2
    return ImageSplit([f"{folder}{i}.png" for i in range(len(shapes))], labels, Pictures(shapes))


def read_of(spec: InputSpec, shapes: list[tuple[int, int]]) -> Iterator[Any]:
    plan = BatchPlan([[Key(i, 0, 0) for i in range(len(shapes))]])
    return iter(image_loader(split_of(shapes), eval_transform(spec), spec.size, plan))


@pytest.mark.parametrize(
    ("spec", "shape", "made"),
    [
        (InputSpec(224, HALF, HALF), (10, 60_000), "1344000 x 224"),
        (InputSpec(224, HALF, HALF, crop=0.5), (20_000, 3), "448 x 2986666"),
        (InputSpec((64, 128), HALF, HALF), (4, 200_000), "3200000 x 64"),
        (InputSpec(64, HALF, HALF, crop_mode="border"), (1, 1_000), "64 x 0"),
    ],
)
def test_a_strip_that_would_become_huge_is_refused_and_named(
    spec: InputSpec, shape: tuple[int, int], made: str
) -> None:
    (batch,) = read_of(spec, [(32, 32), shape])

    assert list(batch.bad) == [1]
    want = f"cannot use image '1.png': an image of {shape[1]} x {shape[0]} pixels would be resized"
    assert batch.bad[1].startswith(f"{want} to {made},")
    assert "nearer to a square" in batch.bad[1]


def test_a_long_image_that_fits_is_read_as_ever() -> None:
    (batch,) = read_of(InputSpec(32, HALF, HALF), [(10, 3_000)])

    assert not batch.bad
    assert batch.images.shape == (1, 3, 32, 32)


def tall(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the published configuration of test_vit be one of 48 x 32 pixels, squashed."""
    config = timm.get_pretrained_cfg("test_vit")
    values = {**config.to_dict(), "input_size": (3, 48, 32), "crop_mode": "squash"}
    changed = timm.models.PretrainedCfg(**values)
    monkeypatch.setattr("timm.get_pretrained_cfg", lambda *_a, **_k: changed)


def test_a_backbone_that_is_not_square_trains_and_is_banked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_config: Callable[..., Any]
) -> None:
    tall(monkeypatch)
    shapes = [(40, 30), (20, 60), (33, 33), (48, 32)]
    other = [(height + 1, width) for height, width in shapes]
    splits = {"train": split_of(shapes), "val": split_of(other, "val/")}
    data = ImageData("mine", ["a", "b"], splits)
    assert input_spec("test_vit", None, None).size == (48, 32)

    summary = train(
        data, {}, tiny_config("test_vit"), tmp_path / "run", device="cpu", metrics=accuracies
    )
    found = extract(tmp_path / "run", tmp_path / "bank", data=data, device="cpu", views=1)

    assert summary.epochs == 1
    assert found.rows == {"train": 4, "val": 4}
    record = json.loads((tmp_path / "run/run.json").read_text())["input"]
    assert (record["size"], record["crop_mode"]) == ([48, 32], "squash")


@pytest.fixture
def tiny_config() -> Callable[..., Any]:
    from featbank.stage1.config import TrainConfig

    return lambda backbone: TrainConfig(backbone=backbone, epochs=1, batch_size=2, lr=1e-3)


def test_networks_of_another_shape_are_probed_with_that_shape() -> None:
    assert feature_width(build_model("test_vit", 0, (48, 32)), (48, 32)) == 64
    with pytest.raises(InputError, match="on images of 48 x 31 pixels"):
        feature_width(build_model("test_vit", 0, (48, 32)), (48, 31))


def test_training_varies_images_of_another_shape() -> None:
    spec = InputSpec((48, 32), HALF, HALF, crop_mode="squash")

    for augment in ("resized-crop", "pad-crop"):
        varied = augmentation(spec, augment, photographs=True, native_size=None)
        assert varied(pictures()[0]).shape == (3, 48, 32)
    assert Foundation("test_vit", "w.pth").image_size is None
