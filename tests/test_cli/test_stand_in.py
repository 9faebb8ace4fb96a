"""A bank without stage 1's classifier: the one fitted in its place is chosen as any head is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import heads
from cli.main import main
from heads.metrics import ShotGroups, Shots
from tests.banks import splits, write_bank, write_npz


def run(*args: Any) -> Any:
    done = CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def bank_of(folder: Path, scale: float, **changes: Any) -> Path:
    """Import the blobs in another unit, without a classifier."""
    features = {f"{name}_features": scale * X for name, (X, _) in splits().items()}
    file = write_npz(folder / "f.npz", **{**features, **changes})
    run("import", file, "--out", folder / "bank.zarr", "--quiet")
    return folder / "bank.zarr"


def fit(bank: Path, *specs: str) -> dict[str, Any]:
    words = [word for spec in specs for word in ("--head", spec)]
    run("fit", bank, *words, "--out", bank.parent / "out", "--device", "cpu", "--quiet")
    return json.loads((bank.parent / "out" / "results.json").read_text())


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3])
def test_its_weight_decay_is_chosen_on_val_in_the_features_unit(
    tmp_path: Path, scale: float
) -> None:
    found = fit(bank_of(tmp_path, scale), "joint", "tau", "lws", "joint:weight_decay=1")
    joint, tau, lws, given = found["results"]

    (X, y), (X_val, y_val) = splits()["train"], splits()["val"]
    own = heads.JointClassifier()
    points = own.fit_path(
        np.float32(scale * X),
        y,
        np.float32(scale * X_val),
        y_val,
        ShotGroups(np.bincount(y), Shots(50, 10)),
    )
    assert joint["params"]["weight_decay"] == pytest.approx(own.weight_decay)
    assert (joint["selected_on"], joint["selection"]["best"]) == ("val", own.weight_decay)
    tried = [c["params"]["weight_decay"] for c in found["candidates"] if c["head"] == "joint"]
    assert tried == [point.weight_decay for point in points]
    assert tau["selection"]["stage1"] == joint["selection"]
    assert tau["selection"]["best"] == tau["params"]["tau"]
    assert lws["selection"]["stage1"] == joint["selection"]
    assert lws["selected_on"] == "val"
    assert given["params"]["weight_decay"] == 1
    assert given["selection"] is None
    head = heads.load(tmp_path / "out" / "joint.head")
    np.testing.assert_allclose(head.weight_, own.weight_, rtol=1e-3)


def test_without_val_it_goes_with_the_features_unit(tmp_path: Path) -> None:
    decays = []
    for place, scale in enumerate((1.0, 100.0)):
        folder = tmp_path / str(place)
        folder.mkdir()
        bank = bank_of(folder, scale, val_features=None, val_labels=None)
        joint, tau = fit(bank, "joint", "tau")["results"]
        decays.append(joint["params"]["weight_decay"])
        assert joint["selection"] is None
        assert tau["selected_on"] is None
        assert tau["selection"] == {
            "stage1": {"weight_decay": decays[-1], "rule": "features' scale"}
        }

    assert decays[1] == pytest.approx(1e4 * decays[0])


def test_a_list_is_its_path(tmp_path: Path) -> None:
    found = fit(bank_of(tmp_path, 1.0), "joint:weight_decay=[1e-3,10,1e-1]")

    tried = [c["params"]["weight_decay"] for c in found["candidates"]]
    assert tried == [10, 1e-1, 1e-3]
    assert found["results"][0]["params"]["weight_decay"] in tried


def test_stage_one_s_own_classifier_is_left_alone(tmp_path: Path) -> None:
    bank = write_bank(tmp_path / "bank.zarr").path
    joint, lws = fit(bank, "joint", "lws")["results"]

    assert (joint["selection"], lws["selection"]) == (None, None)
    assert joint["params"] == {}
