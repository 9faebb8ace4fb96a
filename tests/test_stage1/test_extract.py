from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featbank import Bank
from featbank.backbones.backbones import build_model
from featbank.bank.provenance_diff import differences
from featbank.data import open_data
from featbank.errors import (
    DamagedError,
    InputError,
    MissingFileError,
    NotABankError,
    OutputExistsError,
    StaleError,
)
from featbank.extraction.extract import extract
from featbank.runs.checkpoint import BEST, LAST, read_checkpoint
from featbank.stage1.config import TrainConfig
from featbank.stage1.train import train
from tests.test_stage1.images import accuracies, write_data

COUNTS = {"train": [6, 4, 2], "val": [2, 2, 2], "test": [3, 3, 3]}
RESNET = TrainConfig(backbone="resnet18", image_size=32, epochs=1, batch_size=4, lr=0.01)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images in ``data`` and one epoch of resnet18 on them in ``run``."""
    folder = tmp_path_factory.mktemp("trained")
    params = write_data(folder / "data", COUNTS)
    spec = {"name": "imagelist", "params": params}
    torch.set_num_threads(1)
    train(open_data(**spec), spec, RESNET, folder / "run", device="cpu", metrics=accuracies)
    return folder


def bank_of(trained: Path, out: Path, **options: Any) -> Bank:
    extract(trained / "run", out, device="cpu", **options)
    return Bank.open(out)


def test_a_bank_holds_every_split_and_the_classifier_that_gives_the_networks_logits(
    trained: Path, tmp_path: Path
) -> None:
    bank = bank_of(trained, tmp_path / "bank", dtype="float32", batch_size=5)
    data = open_data(**read_checkpoint(trained / "run" / LAST).record["data_spec"])

    checkpoint = read_checkpoint(trained / "run" / BEST)
    model = build_model("resnet18", 3, 32)
    model.load_state_dict(dict(checkpoint.model))
    model.eval()
    assert set(bank.splits) == {"train", "val", "test"}
    assert bank.class_counts.tolist() == [6, 4, 2]
    weight, bias = bank.classifier
    for name in bank.splits:
        split = data.splits[name]
        assert list(bank[name].ids) == list(split.ids)
        assert bank[name].labels.tolist() == split.labels.tolist()
        images = torch.stack([by_hand(split.load(i)) for i in range(len(split))])
        with torch.inference_mode():
            want = model(images).numpy()
        got = bank[name].read(dtype="float32") @ weight.T + bias
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def by_hand(image: Any) -> torch.Tensor:
    """Resize of the shorter side to 32 / 0.95, centre crop, ImageNet's normalisation."""
    width, height = image.size
    scale = 33 / min(width, height)
    image = image.resize((int(width * scale), int(height * scale)), 3)  # bicubic
    left, top = round((image.width - 32) / 2), round((image.height - 32) / 2)
    pixels = np.asarray(image.crop((left, top, left + 32, top + 32)), np.float32) / 255
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    return torch.from_numpy(((pixels - mean) / std).transpose(2, 0, 1))


def test_two_extractions_give_identical_files(trained: Path, tmp_path: Path) -> None:
    for name in "ab":
        bank_of(trained, tmp_path / name, workers=int(name == "b"))

    files = [sorted(p for p in (tmp_path / n).rglob("*") if p.is_file()) for n in "ab"]
    assert len(files[0]) == len(files[1]) > 10
    for one, two in zip(*files, strict=True):
        assert one.relative_to(tmp_path / "a") == two.relative_to(tmp_path / "b")
        assert one.read_bytes() == two.read_bytes()


def test_a_rows_bits_do_not_depend_on_how_full_the_last_batch_is(
    trained: Path, tmp_path: Path
) -> None:
    whole = bank_of(trained, tmp_path / "a", dtype="float32", batch_size=4)
    data = open_data(**read_checkpoint(trained / "run" / LAST).record["data_spec"])
    split = data.splits["test"]
    fewer = replace(split, ids=split.ids[:6], labels=split.labels[:6])
    data = replace(data, splits={**data.splits, "test": fewer})

    part = bank_of(trained, tmp_path / "b", dtype="float32", batch_size=4, data=data)

    np.testing.assert_array_equal(part["test"].read(), whole["test"].read()[:6])


def test_provenance_names_everything_and_no_place_or_time(trained: Path, tmp_path: Path) -> None:
    record = bank_of(trained, tmp_path / "bank").provenance

    assert record["layer"] == "fc"
    assert record["backbone"] == "resnet18"
    assert record["dtype"] == "float16"
    assert record["autocast"] == "none"
    assert set(record["data"]["lists"]) == set(COUNTS)
    assert record["recipe"]["sampler"] == RESNET.sampler
    assert "workers" not in record["recipe"]
    assert "CenterCrop(size=(32, 32))" in record["transform"]["spec"]
    assert str(trained) not in str(record)
    assert str(tmp_path) not in str(record)


def test_another_checkpoint_or_dtype_is_another_provenance(trained: Path, tmp_path: Path) -> None:
    spec = read_checkpoint(trained / "run" / LAST).record["data_spec"]
    config = replace(RESNET, seed=1)
    train(open_data(**spec), spec, config, tmp_path / "run", device="cpu", metrics=accuracies)
    one = bank_of(trained, tmp_path / "a").provenance
    extract(tmp_path / "run" / LAST, tmp_path / "b", dtype="float32", device="cpu")

    assert differences(one, Bank.open(tmp_path / "b").provenance) == ["checkpoint", "dtype"]


@pytest.fixture
def spoiled(trained: Path, tmp_path: Path) -> dict[str, Any]:
    """The same lists over a copy of the images in which some cannot be read."""
    params = write_data(tmp_path / "data", COUNTS)
    (tmp_path / "data/train set/c0_1.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "data/train set/c2_0.png").write_text("no image")
    (tmp_path / "data/test set/c1_2.png").write_bytes(b"\x89PNG")
    return {"data": open_data("imagelist", params)}


def test_an_image_that_cannot_be_read_stops_extraction_and_is_named(
    trained: Path, tmp_path: Path, spoiled: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=r"^cannot read image .*c0_1.*skip --overwrite$"):
        bank_of(trained, tmp_path / "bank", batch_size=2, **spoiled)

    with pytest.raises((NotABankError, DamagedError)):
        Bank.open(tmp_path / "bank")


def test_skipped_images_leave_no_row_and_their_ids_behind(
    trained: Path, tmp_path: Path, spoiled: dict[str, Any]
) -> None:
    whole = bank_of(trained, tmp_path / "a", batch_size=4)
    part = bank_of(trained, tmp_path / "b", batch_size=4, on_bad_image="skip", **spoiled)

    kept = [
        i for i, name in enumerate(whole["train"].ids) if "c0_1" not in name and "c2_0" not in name
    ]
    np.testing.assert_array_equal(part["train"].read(), whole["train"].read()[kept])
    assert list(part["train"].ids) == [whole["train"].ids[i] for i in kept]
    assert part.class_counts.tolist() == [5, 4, 1]
    assert {name: list(ids) for name, ids in part.manifest.skipped.items()} == {
        "train": ["train set/c0_1.jpg", "train set/c2_0.png"],
        "test": ["test set/c1_2.png"],
    }


def test_a_split_or_class_with_no_readable_image_is_refused(trained: Path, tmp_path: Path) -> None:
    params = write_data(tmp_path / "data", COUNTS)
    for file in (tmp_path / "data/val set").iterdir():
        file.write_bytes(b"")
    data = open_data("imagelist", params)
    with pytest.raises(InputError, match="no image of split 'val' can be read; the first: cannot"):
        bank_of(trained, tmp_path / "bank", data=data, on_bad_image="skip")
    params = write_data(tmp_path / "data", COUNTS)
    for i, suffix in enumerate(("png", "jpg")):
        (tmp_path / f"data/train set/c2_{i}.{suffix}").write_bytes(b"")

    with pytest.raises(InputError, match="no training images for class 2"):
        bank_of(trained, tmp_path / "bank", data=data, on_bad_image="skip")


def test_data_that_changed_since_training_is_refused_unless_it_is_named(
    tmp_path: Path, trained: Path
) -> None:
    params = write_data(tmp_path / "data", COUNTS)
    spec = {"name": "imagelist", "params": params}
    config = replace(RESNET, backbone="tiny-cnn")
    train(open_data(**spec), spec, config, tmp_path / "run", device="cpu", metrics=accuracies)
    lines = (tmp_path / "data/val.txt").read_text().splitlines()
    (tmp_path / "data/val.txt").write_text("\n".join(lines[::-1]))

    with pytest.raises(StaleError, match="split val of imagelist is no longer what it was"):
        extract(tmp_path / "run", tmp_path / "bank", device="cpu")
    extract(tmp_path / "run", tmp_path / "bank", device="cpu", data=open_data(**spec))
    with pytest.raises(StaleError, match="10 classes that are not the 3 of the checkpoint"):
        extract(tmp_path / "run", tmp_path / "no", device="cpu", data=open_data("digits-lt", {}))


def test_inputs_and_outputs_that_cannot_be_used_are_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no checkpoint"):
        extract(tmp_path / "nowhere", tmp_path / "bank", device="cpu")
    with pytest.raises(InputError, match="unknown choice for bad images 'ignore'"):
        bank_of(trained, tmp_path / "bank", on_bad_image="ignore")
    with pytest.raises(InputError, match="batch_size must be at least 1"):
        bank_of(trained, tmp_path / "bank", batch_size=0)
    with pytest.raises(InputError, match="float16 or float32"):
        bank_of(trained, tmp_path / "bank", dtype="int8")
    (tmp_path / "file").touch()
    with pytest.raises(OutputExistsError, match="choose another path"):
        bank_of(trained, tmp_path / "file")


def test_a_bank_is_kept_mended_or_refused(trained: Path, tmp_path: Path) -> None:
    before = bank_of(trained, tmp_path / "bank", batch_size=2)["train"].read()
    again = {"device": "cpu", "batch_size": 2}
    assert extract(trained / "run", tmp_path / "bank", **again).up_to_date
    chunk = tmp_path / "bank/train/features/c/0/0"
    chunk.write_bytes(chunk.read_bytes()[::-1])

    assert not extract(trained / "run", tmp_path / "bank", **again).up_to_date

    np.testing.assert_array_equal(Bank.open(tmp_path / "bank")["train"].read(), before)
    with pytest.raises(StaleError, match="made from something else, by dtype, provenance.dtype;"):
        extract(trained / "run", tmp_path / "bank", dtype="float32", **again)
    with pytest.raises(StaleError, match="by batch;"):
        extract(trained / "run", tmp_path / "bank", device="cpu", batch_size=3)
    bank_of(trained, tmp_path / "bank", overwrite=True, which="last")


def test_features_that_overflow_half_precision_name_the_images(
    trained: Path, tmp_path: Path
) -> None:
    from featbank.runs.checkpoint import Checkpoint, write_checkpoint

    good = read_checkpoint(trained / "run" / LAST)
    huge = {n: t + 1e6 * (n == "layer4.1.bn2.bias") for n, t in good.model.items()}
    write_checkpoint(tmp_path / LAST, Checkpoint(good.record, huge))

    with pytest.raises(InputError, match=r"beyond the range of float16 \(train set/c0_0.*float32"):
        extract(tmp_path, tmp_path / "bank", device="cpu")


def test_images_that_changed_are_seen_by_size_and_on_request_by_digest(
    trained: Path, tmp_path: Path
) -> None:
    params = write_data(tmp_path / "data", COUNTS)
    again: dict[str, Any] = {
        "device": "cpu",
        "batch_size": 2,
        "data": open_data("imagelist", params),
    }
    extract(trained / "run", tmp_path / "bank", **again)
    image = tmp_path / "data/train set/c0_1.jpg"
    raw = image.read_bytes()
    assert Bank.open(tmp_path / "bank")["train"].image_bytes[1] == len(raw)

    image.write_bytes(raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:])  # one bit, the same size
    assert extract(trained / "run", tmp_path / "bank", **again).up_to_date
    with pytest.raises(StaleError, match=r"'train' have changed .*\(first: train set/c0_1.jpg\)"):
        extract(trained / "run", tmp_path / "bank", check_images=True, **again)
    image.write_bytes(raw + b"\0")
    with pytest.raises(StaleError, match="--overwrite to extract them again"):
        extract(trained / "run", tmp_path / "bank", **again)

    image.write_bytes(raw)
    image.touch()
    assert extract(trained / "run", tmp_path / "bank", check_images=True, **again).up_to_date
