import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save as to_bytes

import heads
from heads import _save, head_file
from heads.errors import HeadFileError, HeadInputError, HeadsError, MissingHeadError
from tests.test_heads.data import Cloud, cloud

NAMES = (
    "ClassifierRetraining",
    "JointClassifier",
    "LearnableWeightScaling",
    "NearestClassMean",
    "TauNorm",
)
STAGE1 = ("JointClassifier", "LearnableWeightScaling", "TauNorm")


@pytest.fixture
def data(rng: np.random.Generator) -> Cloud:
    return cloud(rng)


@pytest.fixture
def saved(data: Cloud, tmp_path: Path) -> Path:
    path = tmp_path / "ncm.head"
    heads.NearestClassMean().fit(data.X.astype("f4"), data.y).save(path, {"bank": "ab12"})
    return path


def fitted(name: str, data: Cloud, labels: Any, **params: Any) -> Any:
    return getattr(heads, name)(**params).fit(data.X, labels)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("labels", ["int64", "int8", "U7", "object", "bool", "float32"])
def test_round_trip_keeps_every_bit(name: str, labels: str, data: Cloud, tmp_path: Path) -> None:
    names = np.array([f"Klasse{c}é" for c in range(6)])
    y = names[data.y] if labels in ("U7", "object") else data.y
    y = (data.y > 1 if labels == "bool" else y).astype(labels)
    head = fitted(name, data, y)
    head.save(tmp_path / "a.head")

    loaded = heads.load(tmp_path / "a.head")

    assert type(loaded) is type(head)
    assert loaded.get_params() == head.get_params()
    # What a head could go on fitting from is not part of its file.
    assert vars(loaded).keys() == vars(head).keys() - {"_running"}
    assert loaded.classes_.dtype == head.classes_.dtype
    np.testing.assert_array_equal(loaded.classes_, head.classes_)
    np.testing.assert_array_equal(loaded.predict(data.X_test), head.predict(data.X_test))
    np.testing.assert_array_equal(
        loaded.decision_function(data.X_test), head.decision_function(data.X_test)
    )


@pytest.mark.parametrize("name", STAGE1)
@pytest.mark.parametrize("layout", ["C", "F", "view", "torch", "transposed", "bfloat16"])
def test_stage_one_is_kept_in_every_layout(
    name: str, layout: str, data: Cloud, tmp_path: Path
) -> None:
    coarse = torch.from_numpy(data.W).bfloat16()
    W = {
        "C": data.W,
        "F": np.asfortranarray(data.W),
        "view": np.repeat(data.W, 2, axis=1)[:, ::2],
        "torch": torch.from_numpy(data.W),
        "bfloat16": coarse,
        "transposed": torch.from_numpy(data.W.T.copy()).T,
    }[layout]
    head = fitted(name, data, data.y, weight=W, bias=data.b)
    heads.save(head, tmp_path / "a.head")

    loaded = heads.load(tmp_path / "a.head")

    want = coarse.float().numpy() if layout == "bfloat16" else data.W
    np.testing.assert_array_equal(loaded.weight, want)
    np.testing.assert_array_equal(loaded.predict(data.X_test), head.predict(data.X_test))
    refitted = loaded.fit(data.X, data.y)
    np.testing.assert_array_equal(
        refitted.decision_function(data.X_test), head.decision_function(data.X_test)
    )


def test_a_head_fitted_on_tensors_loads(data: Cloud, tmp_path: Path) -> None:
    X = torch.from_numpy(data.X)
    head = heads.NearestClassMean().fit(X, torch.from_numpy(data.y))
    head.save(tmp_path / "a.head")

    got = heads.load(tmp_path / "a.head").predict(X)

    assert torch.equal(got, head.predict(X))


def test_metadata_is_kept_and_files_repeat(saved: Path, data: Cloud, tmp_path: Path) -> None:
    again = tmp_path / "again.head"
    heads.load(saved).save(again, {"bank": "ab12"})

    assert heads.read_metadata(saved) == {"bank": "ab12"}
    assert again.read_bytes() == saved.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.head", "ncm.head"]


def test_saving_again_replaces_in_one_step(saved: Path, data: Cloud, monkeypatch: Any) -> None:
    before = saved.read_bytes()

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    head = heads.NearestClassMean("un").fit(data.X, data.y)

    with pytest.raises(OSError, match="No space left"):
        head.save(saved)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == ["ncm.head"]


@pytest.mark.parametrize("kind", ["text", "link", "dangling", "fifo", "folder"])
def test_only_a_head_is_replaced(saved: Path, kind: str, data: Cloud, tmp_path: Path) -> None:
    path = tmp_path / "other.head"
    if kind == "text":
        path.write_text("my thesis")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        target = {"link": saved, "dangling": tmp_path / "nowhere"}
        path.symlink_to(target[kind])
    before = saved.read_bytes()
    head = heads.NearestClassMean("un").fit(data.X, data.y)

    with pytest.raises(HeadInputError, match=r"other\.head exists and is no head"):
        head.save(path)
    assert sorted(os.listdir(tmp_path)) == ["ncm.head", "other.head"]
    assert saved.read_bytes() == before
    assert kind != "text" or path.read_text() == "my thesis"


def test_a_damaged_head_and_an_empty_file_are_replaced(saved: Path, data: Cloud) -> None:
    head = heads.NearestClassMean("un").fit(data.X, data.y)
    for content in (saved.read_bytes()[:60], b""):
        saved.write_bytes(content)
        head.save(saved)
        heads.load(saved)


def test_a_full_disk_is_said_with_the_path(
    data: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_save, "write_new", fail)
    with pytest.raises(OSError, match=r"No space left on device: '.*/a\.head'"):
        heads.NearestClassMean().fit(data.X, data.y).save(tmp_path / "a.head")
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_read_back_is_not_kept(data: Cloud, tmp_path: Path, monkeypatch: Any) -> None:
    def write_badly(path: Path, content: bytes) -> None:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    monkeypatch.setattr(_save, "write_new", write_badly)
    with pytest.raises(HeadFileError, match="damaged: its contents do not match"):
        heads.NearestClassMean().fit(data.X, data.y).save(tmp_path / "a.head")
    assert list(tmp_path.iterdir()) == []


def test_no_flipped_bit_is_silent(saved: Path, rng: np.random.Generator, seed: int) -> None:
    whole = saved.read_bytes()
    bits = rng.permutation(8 * len(whole))[:1000]
    for bit in bits:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        saved.write_bytes(damaged)
        with pytest.raises(HeadFileError, match=saved.name):
            heads.load(saved)


def test_no_truncation_is_silent(saved: Path) -> None:
    whole = saved.read_bytes()
    for length in [*range(64), *range(64, len(whole), 37), len(whole) - 1]:
        saved.write_bytes(whole[:length])
        with pytest.raises(HeadFileError, match=saved.name):
            heads.load(saved)


def forged(path: Path, **changes: Any) -> Path:
    """Write a head whose digest is right and whose record is not."""
    tensors, record = head_file.read_head(path)
    record |= changes
    path.write_bytes(head_file.head_bytes(tensors, record))
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "head format 2, but this version reads format 1"),
        ({"class": "Popen"}, "not a head this version can build"),
        ({"params": {"shell": True}}, "not a head this version can build"),
        ({"params": []}, "not a head this version can build"),
        ({"params": {"metric": "l1"}}, "must be one of: l2, cosine, dot"),
        ({"fitted": {"n_features_in_": 4}}, r"centroids_ should be \(6, 4\) finite numbers"),
        ({"fitted": {"n_features_in_": 5, "n_steps_": 1}}, "it holds .* and should hold"),
        ({"labels": {}}, "it holds .* and should hold"),
        ({"labels": {"classes_": {"dtype": "O8", "values": []}}}, "labels of unknown dtype 'O8'"),
        ({"labels": {"__class__": {"dtype": "int64", "values": [1]}}}, "not a head this version"),
        ({"fitted": {"fit": 1}}, "not a head this version can build"),
    ],
)
def test_a_forged_record_is_refused(saved: Path, changes: dict, words: str) -> None:
    with pytest.raises(HeadFileError, match=words) as caught:
        heads.load(forged(saved, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"<!DOCTYPE html><html>404</html>", b"\x80\x04\x95\x00", b"\xff" * 64, b"[" * 200_000],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.head"
    path.write_bytes(content)

    with pytest.raises(HeadFileError, match=r"other\.head: not a head file") as caught:
        heads.load(path)
    assert "\n" not in str(caught.value)


def test_safetensors_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    headers = ({head_file.KEY: text} for text in ("[]", "{", "3"))
    for metadata in (None, {"format": "pt"}, *headers):
        path.write_bytes(to_bytes({"w": torch.ones(2)}, metadata=metadata))
        with pytest.raises(HeadFileError, match="not a head file"):
            heads.load(path)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(MissingHeadError, match=r"nothing\.head: no such file"):
        heads.load(tmp_path / "nothing.head")
    with pytest.raises(HeadFileError, match="not a head file"):
        heads.load(tmp_path)


@pytest.mark.parametrize("metadata", [{"a": object()}, {1: "a"}, {"a": float("nan")}, {"a": (1,)}])
def test_metadata_that_json_would_change_is_refused(
    metadata: dict, data: Cloud, tmp_path: Path
) -> None:
    with pytest.raises(HeadInputError, match="JSON"):
        heads.NearestClassMean().fit(data.X, data.y).save(tmp_path / "a.head", metadata)
    assert list(tmp_path.iterdir()) == []


def test_a_generator_cannot_be_saved(data: Cloud, tmp_path: Path) -> None:
    head = heads.ClassifierRetraining(random_state=np.random.default_rng(0)).fit(data.X, data.y)

    with pytest.raises(HeadInputError, match="what JSON can hold"):
        head.save(tmp_path / "a.head")


def test_the_error_tree() -> None:
    assert issubclass(HeadFileError, HeadsError)
    assert issubclass(HeadFileError, ValueError)
    assert issubclass(MissingHeadError, FileNotFoundError)
    assert (HeadFileError.exit_code, MissingHeadError.exit_code, HeadInputError.exit_code) == (
        4,
        3,
        3,
    )


def test_a_pipe_a_device_and_a_loop_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.head")
    (tmp_path / "device.head").symlink_to(os.devnull)
    (tmp_path / "loop.head").symlink_to("loop.head")
    (tmp_path / "link.head").symlink_to("pipe.head")
    for name in ("pipe", "device", "loop", "link"):
        with pytest.raises(HeadFileError, match=rf"{name}\.head: not a head file"):
            heads.load(tmp_path / f"{name}.head")
        with pytest.raises(HeadFileError, match=rf"{name}\.head: not a head file"):
            heads.read_metadata(tmp_path / f"{name}.head")
    for odd in ("n" * 300, "a\0b"):
        with pytest.raises(HeadFileError, match="not a head file"):
            heads.load(tmp_path / odd)


@pytest.mark.parametrize("metadata", [None, 0, "x", [1], [[1, 2]]])
def test_metadata_that_is_no_object_is_refused(saved: Path, metadata: Any) -> None:
    with pytest.raises(HeadFileError, match=r"ncm\.head: .*its metadata is no object"):
        heads.read_metadata(forged(saved, metadata=metadata))


@pytest.mark.parametrize(
    ("coded", "words"),
    [
        ({"dtype": "<U999999", "values": ["a"] * 60}, "mostly empty room"),
        ({"dtype": "int64", "values": [[0, 1]] * 6}, "labels should be a list"),
        ({"dtype": "int64", "values": 3}, "not a head this version can build"),
        ({"dtype": "int64", "values": [2**80] * 6}, "not a head this version can build"),
        ({"dtype": "<U5", "values": [1] * 6}, "not a head this version can build"),
    ],
)
def test_labels_that_are_no_list_or_mostly_room_are_refused(
    saved: Path, coded: dict, words: str
) -> None:
    with pytest.raises(HeadFileError, match=words) as caught:
        heads.load(forged(saved, labels={"classes_": coded}))
    assert str(saved) in str(caught.value)


def test_labels_with_too_much_room_are_not_saved(data: Cloud, tmp_path: Path) -> None:
    head = heads.NearestClassMean().fit(data.X, data.y)
    head.classes_ = np.zeros(30, "<U900000")
    with pytest.raises(HeadInputError, match="mostly empty room; use labels.astype"):
        head.save(tmp_path / "a.head")
