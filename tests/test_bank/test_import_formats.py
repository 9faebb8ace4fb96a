"""Features from every kind of file: the same bank from each, or clear words why not."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from featbank import Bank, InputError, MissingFileError
from featbank.importing import import_features
from featbank.store import schema
from tests.banks import COUNTS, DIM, splits, write_npz

N_CLASSES = len(COUNTS)
WEIGHT = np.arange(N_CLASSES * DIM, dtype=np.float32).reshape(N_CLASSES, DIM)
BIAS = np.arange(N_CLASSES, dtype=np.float32)


def arrays() -> dict[str, Any]:
    out: dict[str, Any] = {"weight": WEIGHT, "bias": BIAS}
    for name, (features, labels) in splits().items():
        out |= {f"{name}_features": features, f"{name}_labels": labels}
    return out


def tensors(dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
    out = {name: torch.from_numpy(value) for name, value in arrays().items()}
    return {
        name: value.to(dtype) if dtype and name.endswith("features") else value
        for name, value in out.items()
    }


def as_npz(folder: Path) -> list[Path]:
    return [write_npz(folder / "all.npz", weight=WEIGHT, bias=BIAS)]


def as_compressed_npz(folder: Path) -> list[Path]:
    np.savez_compressed(folder / "all.npz", **arrays())
    return [folder / "all.npz"]


def as_npy(folder: Path) -> list[Path]:
    for name, value in arrays().items():
        np.save(folder / f"{name}.npy", value)
    return sorted(folder.glob("*.npy"))


def as_safetensors(folder: Path) -> list[Path]:
    save_file(tensors(), folder / "all.safetensors")
    return [folder / "all.safetensors"]


def as_torch(folder: Path, suffix: str = ".pt", **options: Any) -> list[Path]:
    torch.save(tensors(), folder / f"all{suffix}", **options)
    return [folder / f"all{suffix}"]


def as_legacy_torch(folder: Path) -> list[Path]:
    return as_torch(folder, ".pth", _use_new_zipfile_serialization=False)


def as_pickle(folder: Path) -> list[Path]:
    (folder / "all.pkl").write_bytes(pickle.dumps(arrays()))
    return [folder / "all.pkl"]


def as_paper(folder: Path, protocol: int = 4) -> list[Path]:
    """What the code of Kang et al. leaves: a pickle of each split, and a checkpoint."""
    for name, (features, labels) in splits().items():
        content = {"feats": features, "labels": labels, "idxs": np.arange(len(labels))}
        raw = pickle.dumps(content, protocol=protocol)
        (folder / f"{name}feat_all.pkl").write_bytes(raw)
    best = {
        "feat_model": {"module.conv1.weight": torch.zeros(3, 3)},
        "classifier": {
            "module.fc.weight": torch.from_numpy(WEIGHT),
            "module.fc.bias": torch.from_numpy(BIAS),
        },
    }
    saved = {"state_dict_best": best, "best_acc": np.float64(0.41), "epoch": 90}
    torch.save(saved, folder / "final_model_checkpoint.pth")
    return [*sorted(folder.glob("*.pkl")), folder / "final_model_checkpoint.pth"]


def as_mixture(folder: Path) -> list[Path]:
    """A file of each kind for a part of it."""
    everything = arrays()
    train = {name: value for name, value in everything.items() if name.startswith("train")}
    np.savez(folder / "train.npz", **train)
    val = {name: value for name, value in tensors().items() if name.startswith("val")}
    save_file(val, folder / "val.safetensors")
    for name in ("test_features", "test_labels"):
        np.save(folder / f"{name}.npy", everything[name])
    head = {name: torch.from_numpy(everything[name]) for name in ("weight", "bias")}
    torch.save(head, folder / "head.pt")
    return sorted(file for file in folder.iterdir() if file.is_file())


FORMS: dict[str, Callable[[Path], list[Path]]] = {
    "npz": as_npz,
    "compressed npz": as_compressed_npz,
    "npy": as_npy,
    "safetensors": as_safetensors,
    "pt": as_torch,
    "legacy pth": as_legacy_torch,
    "pickle": as_pickle,
    "paper": as_paper,
    "mixture": as_mixture,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_bank(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "CHUNK_BYTES", 8 * DIM * 4)
    (tmp_path / "source").mkdir()
    sources = FORMS[form](tmp_path / "source")

    bank = Bank.open(import_features(sources, tmp_path / "bank"))

    assert bank.splits == ("train", "val", "test")
    assert bank.dtype == "float32"
    for name, (features, labels) in splits().items():
        np.testing.assert_array_equal(bank[name].read(), features)
        np.testing.assert_array_equal(bank[name].labels, labels)
        assert list(bank[name].ids) == [str(row) for row in range(len(labels))]
    assert bank.classifier is not None
    np.testing.assert_array_equal(bank.classifier[0], WEIGHT)
    np.testing.assert_array_equal(bank.classifier[1], BIAS)
    assert bank.provenance["imported"]["files"] == [file.name for file in sources]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_papers_pickles_of_every_protocol_are_read(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "source").mkdir()
    sources = as_paper(tmp_path / "source", protocol)
    bank = Bank.open(import_features(sources, tmp_path / "bank"))
    np.testing.assert_array_equal(bank["test"].read(), splits()["test"][0])


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [(torch.float16, "float16"), (torch.bfloat16, "float32"), (torch.float64, "float32")],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_tensors_keep_their_precision(
    tmp_path: Path, dtype: torch.dtype, stored: str, suffix: str
) -> None:
    content = tensors(dtype)
    source = tmp_path / f"all{suffix}"
    save_file(content, source) if suffix == ".safetensors" else torch.save(content, source)
    bank = Bank.open(import_features(source, tmp_path / "bank"))
    assert bank.dtype == stored
    want = content["val_features"].to(getattr(torch, stored)).numpy()
    np.testing.assert_array_equal(bank["val"].read(), want)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [">f4", "<f2", "<i4", "|u1"])
def test_arrays_of_any_order_are_read(tmp_path: Path, dtype: str, order: str) -> None:
    X = np.asarray(np.abs(splits()["train"][0]) * 10, dtype=dtype, order=order)  # type: ignore[call-overload]
    np.save(tmp_path / "train_features.npy", X)
    np.save(tmp_path / "train_labels.npy", splits()["train"][1])
    sources = [tmp_path / "train_features.npy", tmp_path / "train_labels.npy"]
    bank = Bank.open(import_features(sources, tmp_path / "bank"))
    np.testing.assert_array_equal(bank["train"].read("float32"), X.astype(np.float32))


def test_other_names_are_mapped(tmp_path: Path) -> None:
    X, y = splits()["train"]
    np.savez(tmp_path / "f.npz", embeddings=X, targets=y.astype(np.float32), junk=np.zeros(3))
    mapping = {"train_features": "embeddings", "train_labels": "targets"}
    bank = Bank.open(import_features(tmp_path / "f.npz", tmp_path / "bank", mapping=mapping))
    np.testing.assert_array_equal(bank["train"].read(), X)
    np.testing.assert_array_equal(bank["train"].labels, y)


def test_a_name_in_the_mapping_that_no_file_has_is_named(tmp_path: Path) -> None:
    source = write_npz(tmp_path / "f.npz")
    with pytest.raises(InputError, match="f.npz has no embeddings; its names are train_features,"):
        import_features(source, tmp_path / "bank", mapping={"train_features": "embeddings"})


def test_names_that_are_not_known_say_how_to_map_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", embeddings=np.eye(3))
    with pytest.raises(InputError, match=r"its names are embeddings \(--map train_features=NAME"):
        import_features(tmp_path / "f.npz", tmp_path / "bank")
    source = write_npz(tmp_path / "g.npz", junk=np.eye(3))
    with pytest.raises(InputError, match=r"names without a meaning: junk; .*\(--map NAME=THEIRS"):
        import_features(source, tmp_path / "bank")


def test_a_name_that_two_files_have_is_named(tmp_path: Path) -> None:
    sources = [write_npz(tmp_path / "a.npz"), write_npz(tmp_path / "b.npz")]
    with pytest.raises(InputError, match="b.npz has .*train_features.*which an earlier file has"):
        import_features(sources, tmp_path / "bank")


def write(path: Path, raw: bytes) -> Path:
    path.write_bytes(raw)
    return path


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


CASES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda f: f / "no.npy", r"no.npy does not exist; name a file of features \(.npz"),
    "folder": (lambda f: f, "is a folder; name a regular file"),
    "unknown kind": (lambda f: write(f / "x.csv", b"1,2"), "x.csv is of no known kind; .*.npz"),
    "npy": (lambda f: write(f / "x.npy", b"junk"), "x.npy cannot be read as an .npy of a plain"),
    "npy empty": (lambda f: write(f / "x.npy", b""), "x.npy cannot be read as an .npy of a plain"),
    "npz": (lambda f: write(f / "x.npz", b"PK"), "x.npz cannot be read as a zip archive"),
    "safetensors": (
        lambda f: write(f / "x.safetensors", b"\xff" * 20),
        "x.safetensors cannot be read as a .safetensors file",
    ),
    "pt": (lambda f: write(f / "x.pt", b"junk"), "x.pt (is no file of torch.save|holds more than)"),
    "pt of a list": (lambda f: saved(f / "x.pt", [1, 2]), "x.pt holds a list, not tensors by name"),
    "pkl": (lambda f: write(f / "x.pkl", b"junk"), "x.pkl is no pickle of numpy arrays"),
    "pkl of a list": (
        lambda f: write(f / "x.pkl", pickle.dumps([1])),
        "x.pkl holds a list, not a dict of arrays",
    ),
    "pkl of objects": (
        lambda f: write(f / "x.pkl", pickle.dumps({"feats": np.array([{}], dtype=object)})),
        "x.pkl is a pickle of more than arrays .*; it was not run",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_file_that_cannot_be_read_is_named_and_nothing_is_left(tmp_path: Path, case: str) -> None:
    make, said = CASES[case]
    source = make(tmp_path)
    with pytest.raises(InputError, match=said):
        import_features(source, tmp_path / "bank")
    assert not (tmp_path / "bank").exists()


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="nowhere.safetensors does not exist"):
        import_features(tmp_path / "nowhere.safetensors", tmp_path / "bank")


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".safetensors", ".pt", ".pkl"])
def test_a_file_cut_anywhere_makes_no_bank(tmp_path: Path, suffix: str) -> None:
    forms = {".npz": as_npz, ".safetensors": as_safetensors, ".pt": as_torch, ".pkl": as_pickle}
    (tmp_path / "s").mkdir()
    sources = forms.get(suffix, as_npy)(tmp_path / "s")
    cut = next(file for file in sources if "weight" not in file.name and "bias" not in file.name)
    raw = cut.read_bytes()
    for share in (0.0, 0.01, 0.3, 0.7, 0.99):
        cut.write_bytes(raw[: int(len(raw) * share)])
        with pytest.raises(InputError, match=cut.name):
            import_features(sources, tmp_path / "bank")
        assert not (tmp_path / "bank").exists()
