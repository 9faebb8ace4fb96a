"""A bank is refused by the name of whatever it was made from that is no longer the same."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featbank import Bank, StaleError
from featbank.bank.provenance_diff import flattened
from featbank.data import open_data
from featbank.data.transforms import InputSpec
from featbank.extraction.extract import extract
from featbank.runs.checkpoint import LAST, Checkpoint, read_checkpoint, write_checkpoint
from featbank.stage1.config import TrainConfig
from featbank.stage1.train import train
from tests.test_stage1.images import accuracies, write_data

CONFIG = TrainConfig(backbone="tiny-cnn", epochs=1, batch_size=4, image_size=16)
COUNTS = {"train": [5, 4, 3], "val": [2, 2, 2], "test": [2, 2, 2]}


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, a run on them and its bank."""
    folder = tmp_path_factory.mktemp("stale")
    spec = {"name": "imagelist", "params": write_data(folder / "data", COUNTS)}
    data = open_data(**spec)
    train(data, spec, CONFIG, folder / "run", device="cpu", metrics=accuracies)
    again(folder, folder / "run" / LAST)
    return folder


def again(folder: Path, checkpoint: Path, **options: Any) -> dict[str, Any]:
    return extract(checkpoint, folder / "bank", device="cpu", **({"batch_size": 2} | options))


def changed(folder: Path, tmp_path: Path, change: Callable[[Checkpoint], Checkpoint]) -> Path:
    """Write the run's checkpoint with one thing changed."""
    found = change(read_checkpoint(folder / "run" / LAST))
    write_checkpoint(tmp_path / LAST, found)
    return tmp_path / LAST


def one_ulp(checkpoint: Checkpoint) -> Checkpoint:
    weight = checkpoint.model["stem.0.weight"].clone()
    flat = weight.view(-1)
    flat[3] = torch.nextafter(flat[3], torch.tensor(9.0))
    return replace(checkpoint, model={**checkpoint.model, "stem.0.weight": weight})


def other_crop(checkpoint: Checkpoint) -> Checkpoint:
    spec = InputSpec.from_json(checkpoint.record["input"])
    return replace(
        checkpoint,
        record={
            **checkpoint.record,
            "input": {**checkpoint.record["input"], "crop": spec.crop * 0.5},
        },
    )


def test_the_same_weights_saved_again_are_the_same(extracted: Path, tmp_path: Path) -> None:
    copy = changed(extracted, tmp_path, lambda checkpoint: replace(checkpoint, optimizer={}))
    assert again(extracted, copy).up_to_date


@pytest.mark.parametrize(
    ("change", "fields"),
    [(one_ulp, "provenance.checkpoint"), (other_crop, "provenance.transform.fingerprint")],
)
def test_another_checkpoint_or_transform_is_named(
    extracted: Path, tmp_path: Path, change: Callable[[Checkpoint], Checkpoint], fields: str
) -> None:
    with pytest.raises(StaleError, match=f"was made from something else, by {fields}"):
        again(extracted, changed(extracted, tmp_path, change))


@pytest.mark.parametrize(
    ("options", "fields"),
    [({"dtype": "float32"}, "dtype, provenance.dtype"), ({"batch_size": 3}, "batch")],
)
def test_another_way_of_extracting_is_named(
    extracted: Path, options: dict[str, Any], fields: str
) -> None:
    with pytest.raises(StaleError, match=f"by {fields};"):
        again(extracted, extracted / "run" / LAST, **options)


def test_two_swapped_lines_of_a_list_are_another_list(extracted: Path) -> None:
    spec = read_checkpoint(extracted / "run" / LAST).record["data_spec"]
    data = open_data(**spec)
    split = data.splits["test"]
    swapped = replace(split, ids=[split.ids[1], split.ids[0], *split.ids[2:]])
    data = replace(data, splits={**data.splits, "test": swapped})
    with pytest.raises(StaleError, match="by provenance.data.lists.test, rows.test;"):
        again(extracted, extracted / "run" / LAST, data=data)


def test_every_field_of_the_provenance_is_compared_but_those_that_inform(extracted: Path) -> None:
    from featbank.bank.provenance_diff import INFORMATIVE, differences

    record = dict(Bank.open(extracted / "bank").provenance)
    compared = 0
    for name in flattened(record):
        other: Any = copy.deepcopy(record)
        *path, last = name.split(".")
        inner = other
        for key in path:
            inner = inner[key]
        inner[last] = "another"
        informs = not INFORMATIVE.isdisjoint(name.split("."))
        assert differences(record, other) == ([] if informs else [name])
        compared += not informs
    assert compared >= 9


def test_touching_and_moving_change_nothing(extracted: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    (extracted / "bank").rename(moved)
    for file in moved.rglob("*"):
        file.touch()
    before = Bank.open(moved)
    found = extract(extracted / "run" / LAST, moved, device="cpu", batch_size=2)
    assert found.up_to_date
    assert np.isfinite(before["train"].read()).all()
    moved.rename(extracted / "bank")
