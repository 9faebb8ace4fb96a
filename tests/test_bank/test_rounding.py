"""What the stored dtype loses is refused or said, and honest features pass."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featbank import Bank, BankPlan, BankWriter, InputError
from featbank.bank.rows import SplitRows
from featbank.bank.verify import verify
from featbank.errors import FeatbankWarning
from featbank.importing import import_features
from featbank.store.rounding import Columns, RowKeys
from featbank.store.values import lost_columns

RNG = np.random.default_rng(3)
HONEST = RNG.normal(size=(60, 6))
LABELS = np.arange(60) % 3


def source(folder: Path, features: Any, **more: Any) -> Path:
    np.savez(folder / "f.npz", train_features=features, train_labels=LABELS, **more)
    return folder / "f.npz"


def one_column(values: Any) -> Any:
    out = HONEST.copy()
    out[:, 2] = values
    return out


SMALL = np.abs(HONEST[:, 0]) + 1
LOSSY: dict[str, tuple[Any, str | None, str]] = {
    "zero in float16": (HONEST * 3e-9, "float16", "6 of 6 columns .* becomes .*--dtype float32"),
    "few values in float16": ((HONEST * 8e-8).astype("f4"), "float16", "6 of 6 columns lose"),
    "zero in float32": (HONEST * 1e-60, None, "6 of 6 columns lose .*--allow-rounding"),
    "squares below float64": (HONEST * 1e-180, None, "6 of 6 columns lose"),
    "an offset": (3e5 + 1e-4 * HONEST, None, "6 of 6 columns lose"),
    "an offset in float16": (700 + 0.01 * HONEST, "float16", "6 of 6 columns lose"),
    "an offset in one column": (one_column(1e7 + SMALL / 50), None, r"1 of 6 .*\(as column 2, wh"),
    "rows close together": (1e6 * LABELS[:, None] + 1e-3 * HONEST, None, "of 60 different rows on"),
    "constant of its own": (np.full((60, 6), 1e-50), None, "6 of 6 columns lose"),
    "whole numbers": (2**24 + np.arange(360).reshape(60, 6), None, "16777217 becomes 16777216.0"),
    "whole numbers in float16": (2049 + np.zeros((60, 6), int), "float16", "2049 becomes 2048.0"),
    "large whole numbers": (np.full((60, 6), 2**63, "u8") + 1, None, "whole numbers that float32"),
}


@pytest.mark.parametrize("case", LOSSY)
def test_a_cast_that_loses_is_refused_and_allowed_on_request(tmp_path: Path, case: str) -> None:
    features, dtype, said = LOSSY[case]
    file = source(tmp_path, features)
    with pytest.raises(InputError, match=f"^split 'train': .*{said}"):
        import_features(file, tmp_path / "bank", dtype=dtype)
    assert not (tmp_path / "bank").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FeatbankWarning)
        import_features(file, tmp_path / "bank", dtype=dtype, allow_rounding=True)
    bank = Bank.open(tmp_path / "bank")
    assert bank.provenance["imported"]["rounding"] == "allowed"
    np.testing.assert_array_equal(bank["train"].read(), features.astype(dtype or "float32"))


@pytest.mark.parametrize(
    ("features", "dtype"),
    [
        (HONEST, None),
        (HONEST, "float16"),
        (np.maximum(HONEST, 0), "float16"),
        (HONEST * 1e4, "float16"),
        (HONEST * 1e-5, "float16"),
        (5 + HONEST, "float16"),
        (HONEST * 1e-30, None),
        (np.repeat(HONEST[:1], 60, axis=0), "float16"),
        (np.zeros((60, 6)), "float16"),
        (one_column(0), "float16"),
        (np.arange(360).reshape(60, 6), "float16"),
        ((HONEST * 3e-9).astype("f4"), None),
        (HONEST.astype("f2"), None),
        (HONEST.astype(np.longdouble), None),
    ],
)  # fmt: skip
def test_honest_features_pass(tmp_path: Path, features: Any, dtype: str | None) -> None:
    bank = Bank.open(import_features(source(tmp_path, features), tmp_path / "bank", dtype=dtype))
    assert "rounding" not in bank.provenance["imported"]
    np.testing.assert_array_equal(bank["train"].read(), features.astype(bank.dtype))


def test_what_loses_little_beside_the_rest_is_said(tmp_path: Path) -> None:
    """A channel that is all but dead, and a pair of rows that differ in the last bit."""
    file = source(tmp_path, one_column(SMALL * 1e-9))
    with pytest.warns(FeatbankWarning, match="1 of 6 columns lose what tells rows apart"):
        import_features(file, tmp_path / "bank", dtype="float16")
    close = HONEST.copy()
    close[1] = close[0] * (1 + 1e-12)
    with pytest.warns(FeatbankWarning, match="of 60 different rows only 59 are left"):
        import_features(source(tmp_path, close), tmp_path / "other")


def test_overflow_names_a_remedy_that_helps(tmp_path: Path) -> None:
    wide = one_column(1e200)
    with pytest.raises(InputError, match="range of float32 .*; divide them by a constant"):
        import_features(source(tmp_path, wide), tmp_path / "bank")
    with pytest.raises(InputError, match="range of float16 .*; divide them by a constant"):
        import_features(source(tmp_path, wide), tmp_path / "bank", dtype="float16")
    with pytest.raises(InputError, match="range of float16 .*; store them with --dtype float32"):
        import_features(source(tmp_path, one_column(1e20)), tmp_path / "bank", dtype="float16")


def written(path: Path, features: Any) -> BankWriter:
    rows = {"train": SplitRows([f"{row}.jpg" for row in range(60)], LABELS)}
    with BankWriter.begin(path, BankPlan(6, rows, list("abc"))) as writer:
        writer.put("train", 0, features.astype(np.float32))
        writer.commit()
    return writer


def test_a_writer_refuses_features_that_are_lost_and_remembers_columns_that_are(
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError, match="as float16, 6 of 6 columns lose .*--dtype float32"):
        written(tmp_path / "small", HONEST * 1e-9)
    offset = written(tmp_path / "offset", one_column(900 + SMALL / 10))
    assert lost_columns(offset.rounded, "float16")[0].startswith("split 'train': as float16, 1 of")
    assert lost_columns(written(tmp_path / "dead", one_column(SMALL * 1e-9)).rounded, "f") == []


def test_columns_are_the_same_in_one_piece_and_in_many() -> None:
    before = HONEST * 1e-7
    after = before.astype(np.float16)
    whole, parts = Columns(6), Columns(6)
    whole.add(before, after)
    for start in range(0, 60, 7):
        parts.add(before[start : start + 7], after[start : start + 7])
    np.testing.assert_allclose(whole.held(), parts.held(), rtol=1e-12)
    np.testing.assert_array_equal(whole.lost(), parts.lost())


def test_rows_are_counted_whatever_the_sign_of_zero() -> None:
    rows = RowKeys([], [])
    before = np.array([[0.0, 1], [-0.0, 1], [1, 0], [1, 1e-60]])
    rows.add(before, before.astype(np.float32))
    assert rows.counts() == (3, 2)


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        (np.full((3, 6), 1e300), "weights beyond float32"),
        (np.full((3, 6), np.nan), "weights that are not finite"),
        (HONEST[:3] * 1e-60, "loses the weights of class 0 in float32"),
        (np.vstack([HONEST[:2], HONEST[2:3] * 1e-60]), "loses the weights of class 2"),
        (1e9 + HONEST[:3], "loses differing weights in float32"),
    ],
)
def test_a_classifier_that_is_lost_is_refused(tmp_path: Path, weight: Any, said: str) -> None:
    file = source(tmp_path, HONEST, weight=weight)
    with pytest.raises(InputError, match=f"the classifier (has|loses) .*{said.split(' ', 1)[1]}"):
        import_features(file, tmp_path / "bank")
    with pytest.raises(InputError, match="weights beyond float32"):
        import_features(
            source(tmp_path, HONEST, weight=HONEST[:3], bias=np.full(3, -1e99)), tmp_path / "bank"
        )


def test_verify_finds_a_classifier_that_is_not_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featbank.bank.plan.check_classifier", lambda *_: None)
    weight = np.full((3, 6), np.inf)
    path = import_features(source(tmp_path, HONEST, weight=weight), tmp_path / "bank")
    report = verify(Bank.open(path))
    assert not report.sound
    assert "classifier/weight or classifier/bias has values that are not finite" in report.findings
