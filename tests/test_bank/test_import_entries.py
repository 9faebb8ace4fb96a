"""What files hold beside plain arrays is used, said or refused: lists, text in bytes, odd names."""

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from cli.main import main
from featbank import Bank, BankPlan, InputError
from featbank.bank.rows import SplitRows
from featbank.errors import FeatbankWarning
from featbank.importing import import_features

RNG = np.random.default_rng(11)
X = RNG.normal(size=(30, 5)).astype(np.float32)
y = np.arange(30) % 3
IDS = [f"é/{row}.jpg" for row in range(30)]
T = {"train_features": torch.from_numpy(X), "train_labels": torch.from_numpy(y)}


def as_torch(path: Path, content: Any) -> Path:
    torch.save(content, path.with_suffix(".pt"))
    return path.with_suffix(".pt")


def as_pickle(path: Path, content: Any) -> Path:
    path.with_suffix(".pkl").write_bytes(pickle.dumps(content))
    return path.with_suffix(".pkl")


def imported(source: Path, **options: Any) -> Bank:
    out = source.with_suffix(".zarr")
    return Bank.open(import_features(source, out, **options))


def holds_all(bank: Bank, ids: list[str] | None = None) -> None:
    np.testing.assert_array_equal(bank["train"].read(), X)
    np.testing.assert_array_equal(bank["train"].labels, y)
    assert list(bank["train"].ids) == (ids or [str(row) for row in range(30)])


def halves(values: Any) -> list[Any]:
    return [values[:13], values[13:]]


LISTS: dict[str, dict[str, Any]] = {
    "batches": {
        "train_features": list(T["train_features"].split(7)),
        "train_labels": T["train_labels"].split(7),
    },
    "rows": {
        "train_features": list(T["train_features"]),
        "train_labels": list(T["train_labels"]),
    },
    "numbers": {"train_features": X.tolist(), "train_labels": y.tolist()},
    "batches of numbers": {
        "train_features": halves(X.tolist())[0] + halves(X.tolist())[1],
        "train_labels": halves(y.tolist()),
    },
    "parameters": {"train_features": torch.nn.Parameter(T["train_features"])},
}


@pytest.mark.parametrize("save", [as_torch, as_pickle])
@pytest.mark.parametrize("case", LISTS)
def test_lists_of_a_file_are_joined(
    tmp_path: Path, case: str, save: Callable[[Path, Any], Path]
) -> None:
    content = {**T, **LISTS[case]}
    if save is as_pickle:
        content = {name: as_numpy(value) for name, value in content.items()}
    holds_all(imported(save(tmp_path / "f", content)))


def as_numpy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().numpy()
    return type(value)(map(as_numpy, value)) if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("ids", [IDS, tuple(IDS), halves(IDS), [tuple(IDS[:9]), tuple(IDS[9:])]])
def test_lists_of_names_are_ids(tmp_path: Path, ids: Any) -> None:
    names = ("a", "b", "ü")
    bank = imported(as_torch(tmp_path / "f", {**T, "train_ids": ids, "class_names": names}))
    holds_all(bank, IDS)
    assert bank.class_names == names


def test_tuples_of_a_torch_file_are_taken(tmp_path: Path) -> None:
    more = {"class_names": ("x", "y", "z"), "shots": (9, 2), "bias": (1.0, 2.0, 3.0)}
    weight = torch.ones(3, 5) * torch.arange(3)[:, None]
    bank = imported(as_torch(tmp_path / "f", {**T, **more, "weight": weight}))
    assert bank.class_names == ("x", "y", "z")
    assert (bank.shots.many_above, bank.shots.few_below) == (9, 2)
    assert bank.classifier is not None
    assert bank.classifier[1].tolist() == [1, 2, 3]


def test_one_tensor_is_named_by_its_file(tmp_path: Path) -> None:
    for suffix, names in ((".pt", ["train_features"]), (".pth", ["train_labels"])):
        for name in names:
            torch.save(T[name], tmp_path / f"{name}{suffix}")
    sources = [tmp_path / "train_features.pt", tmp_path / "train_labels.pth"]
    holds_all(Bank.open(import_features(sources, tmp_path / "bank")))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "widths": (
        {"train_features": [torch.ones(20, 5), torch.ones(10, 4)]},
        r"train_features is a list of arrays that do not join \(shapes \(20, 5\), \(10, 4\)",
    ),
    "axes": (
        {"train_labels": [torch.zeros(20), torch.zeros(5, 2)]},
        "train_labels is a list of ar",
    ),
    "mixed": ({"train_labels": [1, "a"] * 15}, "train_labels is a list of int and str"),
    "empty": ({"train_features": []}, "train_features is an empty list"),
    "dict": ({"train_features": {"a": torch.ones(2)}}, "train_features is a dict"),
    "text": ({"class_names": "abc"}, "class_names is text"),
    "scalar bias": (
        {"weight": torch.ones(3, 5), "bias": 0.5},
        r"bias must be 3 numbers, one for each row of weight; got float64 of shape \(\)",
    ),
    "short bias": ({"weight": torch.ones(3, 5), "bias": [1.0]}, r"bias must be 3 numbers.*\(1,\)"),
    "text bias": ({"weight": torch.ones(3, 5), "bias": list("abc")}, "bias must be 3 numbers"),
    "sparse": ({"train_features": torch.ones(3, 3).to_sparse()}, "is a tensor without plain stor"),
    "names in a table": ({"class_names": [["a", "b"], "c"]}, "class_names is a list of list and s"),
    "half labels": ({"train_labels": [0.5] * 30}, "train_labels must be 30 whole numbers"),
    "infinite labels": ({"train_labels": [float("inf")] * 30}, "train_labels must be 30 whole nu"),
    "large labels": ({"train_labels": [2**70] * 30}, "train_labels is a list of numbers beyond"),
    "a number": ({"train_labels": 3}, "train_labels must be 30 whole numbers"),
    "unknown": ({"extra": torch.ones(3)}, "names without a meaning: extra"),
    "same name": ({"1": torch.ones(1), 1: torch.ones(1)}, "has two entries of the same name"),
    "classifier": ({"classifier_features": torch.ones(3, 5)}, "names a split 'classifier'"),
    "up": ({"../x_features": torch.ones(3, 5)}, "names a split '../x'"),
    "below": ({"a/b_features": torch.ones(3, 5)}, "names a split 'a/b'"),
    "nothing": ({"_features": torch.ones(3, 5)}, "names a split ''"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_entry_that_cannot_be_used_is_refused_by_its_name(tmp_path: Path, case: str) -> None:
    changes, said = REFUSED[case]
    source = as_torch(tmp_path / "f", {**T, **changes})
    with pytest.raises(InputError, match=f"f.pt:? .*{said}|{said}"):
        import_features(source, tmp_path / "bank")
    assert not (tmp_path / "bank").exists()


@pytest.mark.parametrize("save", [as_torch, as_pickle])
def test_what_has_no_meaning_and_is_no_array_is_left_out_and_said(
    tmp_path: Path, save: Callable[[Path, Any], Path]
) -> None:
    content = {name: value.tolist() for name, value in T.items()}
    more = {"epoch": 3, "note": "hello", "optimizer": {"lr": 0.1}, "nothing": None}
    source = save(tmp_path / "f", {**content, **more})
    said = (
        r"left out epoch \(it is one number\), note \(it is text\), optimizer \(it is a dict\), no"
    )
    with pytest.warns(FeatbankWarning, match=said):
        holds_all(imported(source))
    done = CliRunner().invoke(
        main, ["import", str(source), "--out", str(tmp_path / "b"), "--quiet"]
    )
    assert done.exit_code == 0
    assert done.stderr.startswith("warning: f.p")
    assert "left out epoch" in done.stderr


def test_numpy_arrays_in_a_torch_file_are_refused_with_the_remedy(tmp_path: Path) -> None:
    source = as_torch(tmp_path / "f", {"train_features": X, "train_labels": y})
    with pytest.raises(InputError, match="f.pt holds more than tensors: numpy arrays; save it as"):
        import_features(source, tmp_path / "bank")


def in_npz(path: Path, **more: Any) -> Path:
    np.savez(path.with_suffix(".npz"), train_features=X, train_labels=y, **more)
    return path.with_suffix(".npz")


def encoded(names: list[str]) -> list[bytes]:
    return [name.encode() for name in names]


BYTES: dict[str, Callable[[list[str]], Any]] = {
    "S": lambda names: np.array(encoded(names)),
    "objects": lambda names: np.array(encoded(names), dtype=object),
    "text objects": lambda names: np.array(names, dtype=object),
    "U": lambda names: np.array(names),
}


@pytest.mark.parametrize("form", BYTES)
def test_names_in_bytes_are_utf8(tmp_path: Path, form: str) -> None:
    names = ["cät", "dog", "eel"]
    more = {"train_ids": BYTES[form](IDS), "class_names": BYTES[form](names)}
    bank = imported(in_npz(tmp_path / "f", **more))
    holds_all(bank, IDS)
    assert list(bank.class_names) == names
    np.savez_compressed(tmp_path / "g.npz", train_features=X, train_labels=y, **more)
    holds_all(imported(tmp_path / "g.npz"), IDS)
    paper = {"feats": X, "labels": y, "idxs": more["train_ids"]}
    holds_all(imported(as_pickle(tmp_path / "trainfeat_all", paper)), IDS)


def test_bytes_that_are_no_utf8_are_refused_by_their_place(tmp_path: Path) -> None:
    ids = encoded(IDS)
    ids[4] = b"caf\xe9.jpg"
    for kind in ("S20", object):
        source = in_npz(tmp_path / "f", train_ids=np.array(ids, dtype=kind))
        said = r"f.npz: train_ids, entry 4: b'caf\\xe9.jpg' is not UTF-8; decode such names"
        with pytest.raises(InputError, match=said):
            import_features(source, tmp_path / "bank")


def test_lone_surrogates_are_refused_wherever_names_come_from(tmp_path: Path) -> None:
    odd = [*IDS[:7], "x\udcff", *IDS[8:]]
    source = in_npz(tmp_path / "f", train_ids=np.array(odd))
    with pytest.raises(
        InputError, match=r"split 'train', row 7 is called 'x\\udcff', which is no U"
    ):
        import_features(source, tmp_path / "bank")
    rows = {"train": SplitRows(IDS, y)}
    with pytest.raises(InputError, match=r"class 1 is called '\\ud800', which is no Unicode text"):
        BankPlan(5, rows, ["a", "\ud800", "c"])


@pytest.mark.parametrize("ids", [np.arange(30) + 5, np.arange(30) / 2])
def test_numbers_are_ids_as_they_are_written(tmp_path: Path, ids: Any) -> None:
    bank = imported(in_npz(tmp_path / "f", train_ids=ids))
    assert list(bank["train"].ids) == [str(each) for each in ids.tolist()]


def leaking(path: Path, form: str = "U20") -> Path:
    ids = np.array([*IDS[:28], IDS[0], IDS[3]]).astype(form)
    test = np.array([IDS[5], "new", IDS[9]]).astype(form)
    return in_npz(
        path, train_ids=ids, test_features=X[:3], test_labels=y[:3], test_ids=test,
        val_features=X[:2], val_labels=y[:2],
    )  # fmt: skip


def test_ids_in_two_splits_or_under_two_labels_are_counted_and_named(tmp_path: Path) -> None:
    source = leaking(tmp_path / "f")
    with pytest.warns(FeatbankWarning, match="leakage: ") as caught:
        import_features(source, tmp_path / "bank")
    said = [str(each.message) for each in caught]
    assert said == [
        "leakage: 2 ids are both in 'train' and in 'test' (as 'é/5.jpg')",
        "leakage: 2 ids are in 'train' twice, with two labels (as 'é/0.jpg')",
    ]
    with pytest.raises(InputError, match="2 ids are both in .*; leakage: 2 ids are in .*--strict"):
        import_features(source, tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict").exists()


def test_strict_is_an_option_and_rows_without_ids_never_leak(tmp_path: Path) -> None:
    source = leaking(tmp_path / "f")
    run = CliRunner().invoke
    loose = run(main, ["import", str(source), "--out", str(tmp_path / "a"), "--quiet"])
    assert (loose.exit_code, loose.stderr.count("warning: leakage")) == (0, 2)
    strict = run(main, ["import", str(source), "--out", str(tmp_path / "b"), "--strict"])
    assert strict.exit_code == 3
    plain = in_npz(tmp_path / "g", test_features=X[:9], test_labels=y[:9])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        import_features(plain, tmp_path / "c", strict=True)


def test_other_dtypes_of_tensors_are_read_or_named(tmp_path: Path) -> None:
    for dtype in (torch.float8_e4m3fn, torch.bfloat16):
        features = T["train_features"].to(dtype)
        for suffix, save in ((".pt", torch.save), (".safetensors", save_file)):
            save({**T, "train_features": features}, tmp_path / f"f{suffix}")
            bank = Bank.open(
                import_features(tmp_path / f"f{suffix}", tmp_path / f"{dtype}{suffix}")
            )
            np.testing.assert_array_equal(bank["train"].read(), features.float().numpy())
    for odd in (T["train_features"].to(torch.complex64), torch.ones(30, 5, dtype=torch.bool)):
        with pytest.raises(
            InputError, match="train_features (is an array of dtype c|must be numb)"
        ):
            import_features(as_torch(tmp_path / "x", {**T, "train_features": odd}), tmp_path / "y")
