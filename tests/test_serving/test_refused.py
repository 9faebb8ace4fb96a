"""What predict, export and verify refuse, in one line; and what they never replace."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from featbank import Model
from featbank.errors import InputError, OutputExistsError
from featbank.serving.exporting import digest_of
from featbank.serving.folder import sealed
from tests.commands import contents, featbank, refused
from tests.test_serving.served import Kit


@pytest.fixture
def folder(exported: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of a model that timm loads."""
    return shutil.copytree(exported["timm"], tmp_path / "model")


def reseal(folder: Path, change: Any = None) -> None:
    """Change a model's config.json, and make its digests right, as whoever means harm would."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if change is not None:
        change(config)
    files = config["featbank"]["files"]
    files |= {name: digest_of(folder / name) for name in files}
    (folder / "config.json").write_text(sealed(config), encoding="utf-8")


def test_nothing_to_label_says_so(exported: dict[str, Path], tmp_path: Path) -> None:
    model = ["--model", exported["timm"]]
    (tmp_path / "none/below").mkdir(parents=True)
    (tmp_path / "list.txt").write_text("\n# nothing\n\n")
    (tmp_path / "utf16.txt").write_text("a.png\n", encoding="utf-16")
    for source, line in (
        (tmp_path / "none", "holds no images (files that end in "),
        (tmp_path / "list.txt", "names no image"),
        (tmp_path / "utf16.txt", "is no list of paths"),
        ("-", "standard input names no image"),
        (tmp_path / "gone", "does not exist"),
        ("x" * 300, "does not exist"),
        (tmp_path / "gone.npz", "does not exist"),
        (tmp_path / "gone.txt", "does not exist"),
    ):
        done = featbank("predict", source, *model)
        assert done.stdout == ""
        assert line in refused(3, "predict", source, *model, "--out", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    assert "Missing argument" in refused(2, "predict", *model)


def test_a_model_is_named_once(exported: dict[str, Path], resnet: Kit, tmp_path: Path) -> None:
    image, head = resnet.images[0], resnet.names["crt"]
    for words, line in (
        ([image], "give --model DIR, or --head FILE with --run RUN"),
        ([image, "--head", head], "give --run RUN, or --backbone NAME with"),
        ([image, "--model", exported["timm"], "--head", head], "--model is a whole model"),
        ([image, resnet.root.parent / "bank", "--head", head, *resnet.options], "by itself"),
        ([image, "--head", head, "--backbone", "test_resnet"], None),
    ):
        code = 2 if line else 3
        assert (line or "needs its weights from one place") in refused(code, "predict", *words)
    assert "unknown backbone" in refused(
        3, "predict", image, "--head", head, "--backbone", "test_resnett", *resnet.options[2:]
    )


def test_what_is_no_model_says_so(resnet: Kit, tmp_path: Path) -> None:
    image = resnet.images[0]
    (tmp_path / "empty").mkdir()
    bank, head = resnet.root.parent / "bank", resnet.names["crt"]
    for model, line in (
        (tmp_path / "empty", "holds no config.json; featbank export writes"),
        (tmp_path / "gone", "is no folder"),
        (bank, "holds no config.json"),
        (head, "is no folder"),
    ):
        assert line in refused(3, "predict", image, "--model", model)
    config = tmp_path / "empty/config.json"
    for text in ("{}", "[1]", "not json", '{"featbank": 1}', '{"featbank": {}}', "[" * 100_000):
        config.write_text(text)
        assert "was not written by featbank export" in refused(
            4, "predict", image, "--model", tmp_path / "empty"
        )
    config.unlink()
    config.symlink_to("/etc/passwd")
    assert "a symbolic link is not followed" in refused(
        3, "predict", image, "--model", tmp_path / "empty"
    )


def test_an_edited_config_is_refused(folder: Path, resnet: Kit) -> None:
    config = folder / "config.json"
    text = config.read_text(encoding="utf-8")
    for old, new in (
        ('"Uhu', '"Adler'),
        ('"temperature": ', '"temperature": 1'),
        ("{\n", "{\n\n"),
        ('"label_names"', '"label_names": [], "label_names"'),
    ):
        assert old in text
        config.write_text(text.replace(old, new, 1), encoding="utf-8")
        line = refused(4, "predict", *resnet.images, "--model", folder)
        assert "config.json is not what was exported: it was damaged or edited" in line


def test_a_program_is_loaded_only_with_trust(exported: dict[str, Path], resnet: Kit) -> None:
    for words in (["predict", resnet.images[0], "--model"], ["verify"]):
        line = refused(3, *words, exported["pt2"])
        assert "holds a pt2 program, which can run code of whoever wrote it; add --trust" in line
    with pytest.raises(InputError, match="trust=True"):
        Model.load(exported["pt2"])


def set_model(**changes: Any) -> Any:
    """Return what changes entries of a model's record."""
    return lambda config: config["featbank"]["model"].update(changes)


@pytest.mark.parametrize(
    ("code", "change", "line"),
    [
        (3, set_model(backbone="test_resnett"), "unknown backbone"),
        (3, set_model(backbone="local-dir:/etc"), "unknown backbone"),
        (4, set_model(backbone="test_vit"), "is not a test_vit"),
        (4, set_model(class_names=["a", "b"], class_counts=None), "is not a test_resnet"),
        (4, set_model(class_names=["a"]), "is no record of a model"),
        (4, set_model(temperature=0), "is no record of a model"),
        (4, set_model(temperature="nan"), "is no record of a model"),
        (4, set_model(schema=2), "is no record of a model"),
        (4, set_model(input=None), "does not say how images are shown"),
        (4, set_model(input={"size": 32}), "is no record of a model"),
        (4, set_model(class_counts=[1]), "is no record of a model"),
        (4, set_model(provenance=3), "is no record of a model"),
        (4, set_model(results=[{}]), "is no record of a model"),
        (4, lambda config: config["featbank"].update(format="exe"), "was not written by"),
        (4, lambda config: config["featbank"]["files"].update({"../x": "0"}), "was not written by"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(
    folder: Path, resnet: Kit, code: int, change: Any, line: str
) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    change(config)
    (folder / "config.json").write_text(sealed(config), encoding="utf-8")
    assert line in refused(code, "predict", *resnet.images, "--model", folder)


@pytest.mark.parametrize(
    "change",
    [
        {"size": 10**9},
        {"size": -1},
        {"std": [0, 0, 0]},
        {"mean": [0.5]},
        {"mean": ["a", "b", "c"]},
        {"interpolation": "magic"},
        {"interpolation": 3},
        {"crop": 0},
        {"crop": None},
        {"crop_mode": "none"},
    ],
)
def test_an_input_that_cannot_be_is_refused(folder: Path, resnet: Kit, change: Any) -> None:
    reseal(folder, lambda config: config["featbank"]["model"]["input"].update(change))
    refused(4, "predict", *resnet.images, "--model", folder)


def test_another_input_is_found_out_by_the_self_test(folder: Path, resnet: Kit) -> None:
    reseal(
        folder,
        lambda config: config["featbank"]["model"]["input"].update({"interpolation": "nearest"}),
    )
    line = refused(4, "predict", *resnet.images, "--model", folder)
    assert "images are resized differently here" in line


def test_other_weights_are_found_out_by_the_self_test(folder: Path, resnet: Kit) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({name: each * 1.01 for name, each in tensors.items()}, folder / "model.safetensors")
    reseal(folder)
    line = refused(4, "verify", folder)
    assert "the self-test's scores differ by" in line


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"no tensors"),
        ("model.safetensors", b""),
        ("self_test.npz", b"no arrays"),
        ("self_test_1.png", b"no picture"),
        ("head.head", b"no head"),
    ],
)
def test_files_that_hold_something_else_are_refused(
    folder: Path, resnet: Kit, name: str, content: bytes
) -> None:
    (folder / name).write_bytes(content)
    reseal(folder)
    assert name in refused(4, "predict", *resnet.images, "--model", folder)


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_a_program_that_is_none_is_refused(
    exported: dict[str, Path], resnet: Kit, form: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(exported[form], tmp_path / "m")
    (folder / f"model.{form}").write_bytes(b"no program")
    reseal(folder)
    line = refused(4, "predict", *resnet.images, "--model", folder, "--trust")
    assert "that can be run" in line or "can run" in line


def test_a_program_that_does_something_else_is_refused(
    exported: dict[str, Path], resnet: Kit, tmp_path: Path
) -> None:
    import onnx
    from onnx import TensorProto, helper

    folder = shutil.copytree(exported["onnx"], tmp_path / "m")
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [given], [out])
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), folder / "model.onnx")
    reseal(folder)
    assert "its network cannot be run" in refused(4, "verify", folder)

    folder = shutil.copytree(exported["pt2"], tmp_path / "p")
    program = torch.export.export(torch.nn.Flatten(), (torch.zeros(3, 3, 32, 32),))
    torch.export.save(program, folder / "model.pt2")
    reseal(folder)
    line = refused(4, "verify", folder, "--trust")
    assert "its network cannot be run" in line or "its self-test is of another network" in line


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_where_onnx_is_missing_the_extra_is_named(
    exported: dict[str, Path],
    resnet: Kit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    words = ["export", resnet.names["crt"], *resnet.options, "--format", "onnx"]
    line = refused(3, *words, "--out", tmp_path / "m")
    assert f"ONNX files need {missing}: pip install 'featbank[onnx]'" in line
    assert not (tmp_path / "m").exists()
    if missing == "onnxruntime":
        line = refused(3, "predict", resnet.images[0], "--model", exported["onnx"])
        assert "pip install 'featbank[onnx]'" in line
    else:
        assert featbank("verify", exported["onnx"]).exit_code == 0


def test_labels_replace_only_labels(exported: dict[str, Path], resnet: Kit, tmp_path: Path) -> None:
    words = ["predict", *resnet.images, "--model", exported["timm"], "--quiet", "--out"]
    theirs = tmp_path / "theirs.csv"
    for text in ("path,label,confidence\nmine,x,1\n", "mine", "", '{"path": 1}', "[" * 100_000):
        theirs.write_text(text)
        assert "was not written by featbank" in refused(3, *words, theirs, "--overwrite")
        assert theirs.read_text() == text
    for name in ("labels.csv", "labels.jsonl"):
        out = tmp_path / name
        assert featbank(*words, out).exit_code == 0
        old = out.read_bytes()
        assert "or add --overwrite" in refused(3, *words, out)
        assert featbank(*words, out, "--overwrite", "--top-k", 2).exit_code == 0
        new = out.read_bytes()
        assert new != old
        # What fails leaves what was there.
        (tmp_path / "bad.png").write_bytes(b"")
        line = refused(
            3, "predict", tmp_path / "bad.png", *words[-5:], out, "--overwrite",
            "--on-bad-image", "error",
        )  # fmt: skip
        assert "bad.png" in line
        assert out.read_bytes() == new
    assert "is a folder" in refused(3, *words, tmp_path)
    (tmp_path / "link.csv").symlink_to(tmp_path / "labels.csv")
    assert "a symbolic link" in refused(3, *words, tmp_path / "link.csv", "--overwrite")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["bad.png", "labels.csv", "labels.jsonl", "link.csv", "theirs.csv"]
    )


def test_a_model_replaces_only_a_model(resnet: Kit, tmp_path: Path) -> None:
    out = tmp_path / "m"
    words = ["export", resnet.names["crt"], *resnet.options, "--quiet", "--out", out]
    assert featbank(*words).exit_code == 0
    old = contents(out)
    assert "or add --overwrite" in refused(3, *words)
    (out / "notes.txt").write_text("mine")
    assert featbank(*words, "--overwrite", "--license", "mit", "--format", "pt2").exit_code == 0
    new = contents(out)
    assert new.pop("notes.txt") == b"mine"
    assert set(old) - set(new) == {"model.safetensors"}
    assert featbank("verify", out, "--trust").exit_code == 0
    # The user's own file has the name of one that would be written.
    (out / "model.onnx").write_text("mine")
    line = refused(3, *words, "--overwrite", "--format", "onnx")
    assert "model.onnx" in line
    assert (out / "model.onnx").read_text() == "mine"
    assert contents(out) == {**new, "notes.txt": b"mine", "model.onnx": b"mine"}


def test_a_folder_or_file_of_the_users_is_never_replaced(resnet: Kit, tmp_path: Path) -> None:
    words = ["export", resnet.names["crt"], *resnet.options, "--quiet", "--out"]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "README.md").write_text("mine")
    assert "choose another path" in refused(3, *words, mine)
    refused(3, *words, mine, "--overwrite")
    assert contents(mine) == {"README.md": b"mine"}
    refused(3, *words, mine / "README.md", "--overwrite")
    assert contents(mine) == {"README.md": b"mine"}
    with pytest.raises(OutputExistsError):
        resnet.export("crt", "timm", mine)


def test_an_export_that_fails_leaves_what_was_there(resnet: Kit, tmp_path: Path) -> None:
    out = resnet.export("crt", "timm", tmp_path / "m")
    before = contents(out)
    words = ["export", resnet.names["ncm"], *resnet.options, "--quiet", "--out", out]
    assert "use --format onnx or pt2" in refused(3, *words, "--overwrite")
    assert contents(out) == before
    assert list(tmp_path.iterdir()) == [out]


def test_what_cannot_be_exported_says_so(resnet: Kit, tmp_path: Path) -> None:
    out, head, bank = ["--out", tmp_path / "m"], resnet.names["crt"], resnet.root.parent / "bank"
    assert "give --run RUN, or --backbone" in refused(2, "export", head, *out)
    assert "a bank is exported as npz" in refused(2, "export", bank, *out, "--format", "timm")
    assert "a bank is exported as npz" in refused(2, "export", bank, *resnet.options, *out)
    assert "no such file" in refused(3, "export", tmp_path / "gone", *resnet.options, *out)
    assert "not both" in refused(2, "export", head, *resnet.options, "--run", "x", *out)
    (tmp_path / "bad.head").write_bytes(b"no head")
    refused(4, "export", tmp_path / "bad.head", *resnet.options, *out)
    assert "no checkpoint" in refused(3, "export", head, "--run", tmp_path / "gone", *out)
    assert not (tmp_path / "m").exists()


def test_features_that_do_not_fit_say_so(
    exported: dict[str, Path], resnet: Kit, tmp_path: Path
) -> None:
    good = resnet.bank["test"].read()
    bad = good.copy()
    bad[3, 2] = np.nan
    words = ["--head", resnet.names["crt"]]
    for name, array, line in (
        ("width", good[:, :3], "features"),
        ("nan", bad, "NaN"),
        ("flat", good[0], "holds no features (n, D)"),
        ("none", good[:0], "holds no rows to label"),
        ("text", np.full((2, 3), "a"), "must be numbers"),
    ):
        np.save(tmp_path / f"{name}.npy", array)
        assert line in refused(3, "predict", tmp_path / f"{name}.npy", *words)
        refused(3, "predict", tmp_path / f"{name}.npy", "--model", exported["timm"])
    np.savez(tmp_path / "names.npz", one=good, two=good)
    assert "it has one, two" in refused(3, "predict", tmp_path / "names.npz", *words)
    (tmp_path / "junk.npz").write_bytes(b"junk")
    refused(3, "predict", tmp_path / "junk.npz", *words)


def test_a_head_alone_labels_no_image(resnet: Kit, tmp_path: Path) -> None:
    from featbank.serving.loading import head_alone

    model = Model.of(head_alone(resnet.names["crt"]))
    with pytest.raises(InputError, match="name its network too"):
        model.predict(resnet.images)
    with pytest.raises(InputError, match="top_k must be from 1 to 3"):
        model.predict(resnet.images, top_k=0)
    with pytest.raises(InputError, match="there are no images to label"):
        model.predict([])


def test_parameters_outside_their_range_are_refused(exported: dict[str, Path], resnet: Kit) -> None:
    model = Model.load(exported["timm"])
    image = Image.new("RGB", (40, 40))
    for more, line in (
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"min_confidence": 2}, "min_confidence must be from 0 to 1"),
        ({"on_bad_image": "ignore"}, "unknown choice for bad images"),
        ({"prior": [1, 2]}, "a probability for each of 3 classes"),
        ({"prior": [0, 0, 0]}, "a probability for each of 3 classes"),
        ({"prior": "gone.csv"}, "gone.csv does not exist"),
    ):
        with pytest.raises(InputError, match=line):
            model.predict(image, **more)
