"""Augmented views beside the plain features, and BatchNorm statistics taken anew."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import featbank.data.loader
import heads
from cli.main import main
from featbank import Bank, BankWriter, DamagedError
from featbank.backbones.backbones import build_model, split_classifier
from featbank.bank.provenance_diff import differences, feature_identity
from featbank.bank.verify import verify
from featbank.data import ImageData, open_data
from featbank.data.transforms import InputSpec, augmentation
from featbank.errors import InputError, StaleError
from featbank.extraction.batchnorm import (
    N_BATCHES,
    balanced_plan,
    refresh_statistics,
    running_statistics,
)
from featbank.extraction.extract import extract
from featbank.runs.checkpoint import LAST, read_checkpoint
from featbank.runtime.rng import derive_seed, isolated_torch
from featbank.store import schema
from tests.faults.kills import write_network
from tests.faults.world import contents
from tests.test_stage1.images import write_data

COUNTS = {"train": [9, 6, 2], "val": [2, 2, 2]}
ROW = 64 * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network in ``run``, with statistics of its own, and images."""
    found = tmp_path_factory.mktemp("views")
    spec = {"name": "imagelist", "params": write_data(found / "data", COUNTS)}
    write_network(found / "run", spec, open_data(**spec))
    return found


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "CHUNK_BYTES", 4 * ROW)


def images_of(folder: Path) -> ImageData:
    return open_data(**read_checkpoint(folder / "run" / LAST).record["data_spec"])


def bank_of(folder: Path, out: Path, **options: Any) -> Bank:
    more: dict[str, Any] = {"device": "cpu", "batch_size": 4, "dtype": "float32", "views": 2}
    extract(folder / "run", out, which="last", **{**more, **options})
    return Bank.open(out)


def network_of(folder: Path) -> nn.Module:
    checkpoint = read_checkpoint(folder / "run" / LAST)
    model = build_model("tiny-cnn", 3, 32)
    model.load_state_dict(dict(checkpoint.model))
    return split_classifier(model.eval(), 32).backbone


SPEC = InputSpec(32, mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.mark.usefixtures("small_chunks")
def test_a_view_is_the_features_of_the_image_that_seed_view_and_row_draw(
    folder: Path, tmp_path: Path
) -> None:
    bank = bank_of(folder, tmp_path / "bank", seed=3)
    split, network = images_of(folder).splits["train"], network_of(folder)
    varied = augmentation(SPEC, "auto", photographs=True, native_size=None)

    assert bank["train"].n_views == 2
    assert bank["val"].n_views == 0
    assert bank["train"].views.shape == (2, 17, 64)
    for view in range(2):
        made = []
        for row in range(len(split)):
            seed = derive_seed(derive_seed(3, "views"), "augment", view, row)
            with isolated_torch(seed):
                made.append(varied(split.load(row)))
        with torch.inference_mode():
            want = network(torch.stack(made)).numpy()
        got = bank["train"].view(view)
        np.testing.assert_allclose(got.read(), want, rtol=1e-4, atol=1e-5)
        assert got.labels.tolist() == split.labels.tolist()
    plain = bank["train"].read()
    views = [bank["train"].view(k).read() for k in range(2)]
    assert not np.allclose(views[0], plain)
    assert not np.allclose(views[0], views[1])


@pytest.mark.usefixtures("small_chunks")
def test_every_way_of_reading_a_view_is_zarrs_own(folder: Path, tmp_path: Path) -> None:
    bank = bank_of(folder, tmp_path / "bank", dtype="float16")
    whole = np.asarray(bank["train"].views[:])
    for k in range(2):
        view = bank["train"].view(k)
        np.testing.assert_array_equal(view.read(), whole[k])
        np.testing.assert_array_equal(view.to_torch().numpy(), whole[k])
        np.testing.assert_array_equal(np.concatenate([r for _, r in view.blocks()]), whole[k])
        np.testing.assert_array_equal(view.take([16, 0, 5, 0]), whole[k][[16, 0, 5, 0]])
    with pytest.raises(InputError, match="split 'train' of .* has 2 views; asked for 2"):
        bank["train"].view(2)
    assert bank["val"].views is None


@pytest.mark.usefixtures("small_chunks")
def test_plain_features_and_views_do_not_depend_on_workers_number_of_views_or_interruptions(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank_of(folder, tmp_path / "whole")
    bank_of(folder, tmp_path / "workers", workers=2)
    assert contents(tmp_path / "whole") == contents(tmp_path / "workers")
    with monkeypatch.context() as patch:
        patch.setattr(BankWriter, "commit", lambda _: None)
        real, left = BankWriter.put, [3]

        def put(*arguments: Any, **named: Any) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            real(*arguments, **named)

        patch.setattr(BankWriter, "put", put)
        with pytest.raises(KeyboardInterrupt):
            bank_of(folder, tmp_path / "parts")
    with pytest.raises(StaleError, match="made from something else, by views;"):
        bank_of(folder, tmp_path / "parts", views=1)
    bank_of(folder, tmp_path / "parts")
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")

    more, none = (bank_of(folder, tmp_path / f"{k}", views=k) for k in (3, 0))
    whole = Bank.open(tmp_path / "whole")
    for k in range(2):
        want = whole["train"].view(k).read()
        np.testing.assert_array_equal(more["train"].view(k).read(), want)
    np.testing.assert_array_equal(none["train"].read(), whole["train"].read())
    assert none.provenance.get("views") is None
    assert feature_identity(none.provenance) == feature_identity(whole.provenance)


@pytest.mark.usefixtures("small_chunks")
def test_damage_to_a_view_is_found_named_and_mended(folder: Path, tmp_path: Path) -> None:
    bank = bank_of(folder, tmp_path / "bank")
    before = contents(tmp_path / "bank")
    file = tmp_path / "bank/train/views/c/1/2/0"
    raw = bytearray(file.read_bytes())
    raw[7] ^= 1
    file.write_bytes(raw)

    with pytest.raises(DamagedError, match=r"views/c/1/2/0 .*rows 8 to 11 are damaged"):
        bank["train"].view(1).read()
    bank["train"].view(0).read()
    assert [str(each) for each in verify(bank).damage] == [
        f"{file} is not what was written: train/views, rows 8 to 11"
    ]
    bank_of(folder, tmp_path / "bank")
    assert contents(tmp_path / "bank") == before


def test_other_draws_are_another_bank(folder: Path, tmp_path: Path) -> None:
    one = bank_of(folder, tmp_path / "bank")
    with pytest.raises(StaleError, match=r"by provenance\.views\.seed;"):
        bank_of(folder, tmp_path / "bank", seed=1)
    other = bank_of(folder, tmp_path / "other", seed=1)
    assert not np.array_equal(other["train"].view(0).read(), one["train"].view(0).read())
    np.testing.assert_array_equal(other["train"].read(), one["train"].read())


def test_statistics_are_the_plain_mean_over_class_balanced_batches(folder: Path) -> None:
    """The first layer's, by hand; and nothing but statistics moves."""
    split = images_of(folder).splits["train"]
    plan = balanced_plan(split.labels, np.arange(17), seed=5, batch_size=4)
    rows = [[key.row for key in batch] for batch in plan]
    counts = np.bincount(split.labels[np.concatenate(rows)])
    assert len(rows) == N_BATCHES
    assert np.abs(counts / counts.sum() - 1 / 3).max() < 0.08
    network = network_of(folder)
    first = dict(network.named_modules())["stem.1"]
    weights = {name: value.clone() for name, value in network.named_parameters()}
    inputs: list[torch.Tensor] = []
    hook = first.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    varied = augmentation(SPEC, "auto", photographs=True, native_size=None)
    loader = featbank.data.loader.image_loader(split, varied, 32, plan)
    refresh_statistics(network, loader, lambda batch: network(batch.images))
    hook.remove()

    means = torch.stack([each.double().mean((0, 2, 3)) for each in inputs])
    variances = torch.stack([each.double().var((0, 2, 3), correction=1) for each in inputs])
    torch.testing.assert_close(first.running_mean.double(), means.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first.running_var.double(), variances.mean(0), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, weights[name]) for name, value in network.named_parameters())
    assert not any(part.training for part in network.modules())
    assert first.momentum == 0.1


def test_a_refresh_is_another_network_and_says_so(folder: Path, tmp_path: Path) -> None:
    plain = bank_of(folder, tmp_path / "plain", views=0)
    fresh = bank_of(folder, tmp_path / "fresh", views=0, bn_refresh="class-balanced")
    assert not np.allclose(plain["train"].read(), fresh["train"].read(), rtol=1e-2)
    assert set(differences(plain.provenance, fresh.provenance)) == {
        f"batchnorm.{name}" for name in ("sampling", "batches", "batch_size", "seed", "statistics")
    }
    assert feature_identity(plain.provenance) != feature_identity(fresh.provenance)
    again = {"views": 0, "bn_refresh": "class-balanced"}
    assert bank_of(folder, tmp_path / "again", **again).digest == fresh.digest
    with pytest.raises(StaleError, match="by provenance.batchnorm.seed"):
        bank_of(folder, tmp_path / "fresh", seed=1, **again)
    with pytest.raises(InputError, match="batch_size must be at least 2; got 1"):
        bank_of(folder, tmp_path / "no", batch_size=1, **again)


def test_a_network_without_batchnorm_has_nothing_to_refresh() -> None:
    with pytest.raises(InputError, match="Linear has no BatchNorm layers: leave --bn-refresh out"):
        running_statistics(nn.Linear(2, 2))


def test_the_command_banks_views_and_info_counts_them(folder: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "bank")
    line = ["extract", str(folder / "run"), "--which", "last", "--views", "3", "--out", out]
    done = CliRunner().invoke(main, [*line, "--device", "cpu"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    shown = CliRunner().invoke(main, ["info", out], catch_exceptions=False).output
    assert [row.split() for row in shown.splitlines() if row.startswith(" train")] == [
        ["train", "17", "-", "3"]
    ]
    assert CliRunner().invoke(main, ["verify", out]).exit_code == 0


@pytest.mark.filterwarnings("ignore:solver='sgd' takes steps")  # an untrained network's features
def test_sgd_heads_cycle_through_a_banks_views_unless_told_otherwise(
    folder: Path, tmp_path: Path
) -> None:
    import json

    bank_of(folder, tmp_path / "bank")
    bank_of(folder, tmp_path / "plain", views=0)

    def fit(bank: str, head: str) -> tuple[dict[str, Any], np.ndarray]:
        out = tmp_path / f"{bank}-{head.replace(':', '-')}"
        line = ["fit", str(tmp_path / bank), "--head", head, "--out", str(out)]
        done = CliRunner().invoke(main, line, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        found = heads.load(next(out.glob("*.head"))).linear()[0]
        return json.loads((out / "results.json").read_text())["results"][0]["params"], found

    for head in ("crt:solver=sgd", "lws:solver=sgd"):
        params, cycled = fit("bank", head)
        assert params["views"] == 2
        params, without = fit("bank", f"{head},views=0")
        assert "views" not in params
        _, plain = fit("plain", head)
        np.testing.assert_array_equal(plain, without)
        assert not np.allclose(cycled, plain)
    assert "views" not in fit("bank", "crt")[0]
    line = ["fit", str(tmp_path / "bank"), "--head", "crt:solver=sgd,views=3", "--out"]
    done = CliRunner().invoke(main, [*line, str(tmp_path / "no")], catch_exceptions=False)
    assert done.exit_code == 3
    assert "has 2 views of its training images, and views=3 asks for more" in done.stderr
