from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featbank import Bank, InputError, MissingFileError
from featbank.importing import import_features
from tests.banks import COUNTS, DIM, splits, write_npz


def test_features_of_a_file_become_a_bank(tmp_path: Path) -> None:
    source = write_npz(
        tmp_path / "f.npz",
        train_ids=np.array([f"img {row}" for row in range(sum(COUNTS))]),
        weight=np.ones((5, DIM), np.float32),
        bias=np.arange(5, dtype=np.float32),
        class_names=np.array(list("abcde")),
    )
    bank = Bank.open(import_features(source, tmp_path / "bank"))
    for name, (features, labels) in splits().items():
        np.testing.assert_array_equal(bank[name].read(), features)
        np.testing.assert_array_equal(bank[name].labels, labels)
    assert bank["train"].ids[3] == "img 3"
    assert bank["val"].ids[3] == "3"
    assert bank.class_names == tuple("abcde")
    assert bank.classifier is not None
    assert bank.classifier[1].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("source", "asked", "stored"),
    [
        ("float16", None, "float16"),
        ("float32", None, "float32"),
        ("float64", None, "float32"),
        ("float64", "float16", "float16"),
    ],
)
def test_the_source_keeps_its_precision(
    tmp_path: Path, source: str, asked: str | None, stored: str
) -> None:
    features = {f"{name}_features": X.astype(source) for name, (X, _) in splits().items()}
    file = write_npz(tmp_path / "f.npz", **features)
    bank = Bank.open(import_features(file, tmp_path / "bank", dtype=asked))
    assert bank.dtype == stored
    np.testing.assert_array_equal(bank["val"].read(), features["val_features"].astype(stored))


def test_only_train_is_required(tmp_path: Path) -> None:
    X, y = splits()["train"]
    np.savez(tmp_path / "f.npz", train_features=X, train_labels=y)
    assert Bank.open(import_features(tmp_path / "f.npz", tmp_path / "bank")).splits == ("train",)


def nan_row() -> Any:
    X = splits()["val"][0].copy()
    X[4, 2] = np.nan
    return X


BAD = {
    "no train": ({"train_features": None}, "has no train_features"),
    "no labels": ({"val_labels": None}, "has val_features but no val_labels"),
    "short labels": ({"val_labels": np.zeros(3, int)}, "val_labels must be 100 whole numbers"),
    "half labels": ({"val_labels": np.full(100, 0.5)}, "val_labels must be 100 whole numbers"),
    "flat": ({"val_features": np.zeros(100)}, r"val_features must be numbers of shape \(N, D\)"),
    "width": ({"val_features": np.zeros((100, 3))}, "different widths: train 12, val 3, test 12"),
    "nan": ({"val_features": nan_row()}, r"'val': 1 rows have features that are not finite \(4\)"),
    "label": ({"val_labels": np.full(100, 5)}, "'val', row 0 .*label 5 is outside 0..4"),
    "empty": (
        {"val_features": np.zeros((0, DIM)), "val_labels": np.zeros(0, int)},
        "split 'val' is empty",
    ),
    "absent class": (
        {"class_names": np.array(list("abcdef"))},
        r"no training images for class 5 \('f'\)",
    ),
    "unknown key": ({"wieght": np.zeros(3)}, "names without a meaning: wieght"),
    "classifier": (
        {"weight": np.zeros((5, 3), np.float32)},
        r"weight \(5, 3\).*need \(5, 12\)",
    ),
    "bias only": ({"bias": np.zeros(5)}, "has bias but no weight"),
    "pickled": (
        {"val_ids": np.array([{"a": 1}] * 100, dtype=object)},
        "f.npz: val_ids is an array of Python obj",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_makes_no_bank_is_named_and_nothing_is_left(tmp_path: Path, case: str) -> None:
    changes, said = BAD[case]
    source = write_npz(tmp_path / "f.npz", **changes)
    with pytest.raises(InputError, match=said):
        import_features(source, tmp_path / "bank")
    assert not (tmp_path / "bank").exists()


def test_a_file_that_is_missing_or_no_npz_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="nowhere.npz does not exist"):
        import_features(tmp_path / "nowhere.npz", tmp_path / "bank")
    (tmp_path / "text.npz").write_text("not a zip")
    with pytest.raises(InputError, match="text.npz cannot be read as a zip"):
        import_features(tmp_path / "text.npz", tmp_path / "bank")
