"""featbank predict: what it reads, how labels are chosen, what it writes."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import featbank as fb
import heads
from cli.main import main
from featbank import Bank, Model
from featbank.errors import InputError, StaleError
from featbank.results.predictions import Prediction, csv_heading, csv_lines
from tests.banks import write_bank, write_npz
from tests.commands import featbank, refused
from tests.test_serving.served import NAMES, Kit
from tests.test_serving.test_scores import close


def rows(*args: Any, stdin: bytes | None = None) -> list[dict[str, str]]:
    """Run the command, and read its CSV."""
    words = ["predict", *map(str, args), "--quiet"]
    done = CliRunner().invoke(main, words, input=stdin, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return list(csv.DictReader(io.StringIO(done.stdout, newline="")))


@pytest.fixture(scope="session")
def model(exported: dict[str, Path]) -> list[Any]:
    """The options that name a model."""
    return ["--model", exported["timm"]]


def test_folders_of_any_depth_are_labelled_in_order(
    resnet: Kit, model: list[Any], tmp_path: Path
) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    for name in ("a/b/c/deep.png", "a/Upper.JPG", ".hidden/no.png", "a/.no.png"):
        Image.new("RGB", (40, 40), (200, 10, 10)).save(tmp_path / name)
    (tmp_path / "a/notes.md").write_text("no image")
    (tmp_path / "a/b/round").symlink_to(tmp_path / "a")
    found = [row["path"] for row in rows(tmp_path, *model)]
    assert found == [str(tmp_path / "a/Upper.JPG"), str(tmp_path / "a/b/c/deep.png")]


def test_files_lists_and_standard_input_name_the_same_images(
    resnet: Kit, model: list[Any], tmp_path: Path
) -> None:
    want = rows(*resnet.images, *model)
    listed = "\ufeff# a comment\r\n\r\n" + "\r\n".join(resnet.images)
    (tmp_path / "list.txt").write_text(listed, encoding="utf-8")
    assert rows(tmp_path / "list.txt", *model) == want
    assert rows("-", *model, stdin="\n".join(resnet.images).encode()) == want
    relative = [str(Path(path).relative_to(resnet.root)) for path in resnet.images]
    beside = resnet.root / "labelled.txt"
    beside.write_text("".join(f"{path} {row}\n" for row, path in enumerate(relative)))
    assert rows(beside, *model) == want
    done = featbank("predict", beside, *model)
    assert "lines are taken for 'path label'; the labels are not used" in done.stderr


def test_a_name_of_any_bytes_comes_back(model: list[Any], tmp_path: Path) -> None:
    name = tmp_path / 'caf\udce9, "x"\nü.png'
    Image.new("RGB", (40, 40)).save(name.with_name("a.png"))
    name.with_name("a.png").rename(name)
    featbank("predict", tmp_path, *model, "--out", tmp_path / "out.csv", "--quiet")
    text = (tmp_path / "out.csv").read_text(encoding="utf-8", errors="surrogateescape")
    _, row = csv.reader(io.StringIO(text, newline=""))
    assert row[0] == str(name)
    featbank("predict", tmp_path, *model, "--out", tmp_path / "out.jsonl", "--quiet")
    assert json.loads((tmp_path / "out.jsonl").read_text())["path"] == str(name)


def test_class_names_with_anything_in_them_come_back_from_csv() -> None:
    names = ("a,b", 'say "x"', "two\nlines", "carriage\rreturn", "", "ü\u2028")
    best = tuple((name, 1 / (place + 2)) for place, name in enumerate(names))
    found = [
        Prediction("a.png", names[0], 0.5, best),
        Prediction("b", None, None, (), "no, it\nis"),
    ]
    text = csv_heading(len(names)) + "".join(csv_lines(found, len(names)))
    first, good, bad = csv.reader(io.StringIO(text, newline=""))
    assert {len(first), len(good), len(bad)} == {2 + 2 * len(names)}
    assert tuple(good[1:-1:2]) == names
    assert bad[-1] == "no, it\nis"


def test_a_bank_and_feature_files_are_labelled_by_a_head_alone(
    resnet: Kit, model: list[Any], tmp_path: Path
) -> None:
    bank, want = resnet.root.parent / "bank", resnet.labels("crt")
    head = ["--head", resnet.names["crt"]]
    assert [row["label"] for row in rows(bank, *head)] == want
    assert [row["label"] for row in rows(bank, *model)] == want
    assert [row["path"] for row in rows(bank, *head)] == list(resnet.bank["test"].ids)
    assert len(rows(bank, *head, "--split", "train")) == 27
    assert "has no split 'dev'; it has" in refused(2, "predict", bank, *head, "--split", "dev")
    features = resnet.bank["test"].read()
    np.save(tmp_path / "f.npy", features)
    np.savez(tmp_path / "f.npz", test_features=features, train_features=features[:2])
    for name in ("f.npy", "f.npz"):
        assert [row["label"] for row in rows(tmp_path / name, *head)] == want
    assert [row["path"] for row in rows(tmp_path / "f.npy", *head)][:2] == ["0", "1"]


def test_the_head_of_another_network_refuses_a_bank(resnet: Kit, cnn: Kit) -> None:
    bank = cnn.root.parent / "bank"
    assert "holds other features than" in refused(5, "predict", bank, "--head", resnet.names["crt"])


def test_top_k_confidence_and_json_lines(resnet: Kit, model: list[Any], tmp_path: Path) -> None:
    want = resnet.probabilities("crt")
    out = tmp_path / "new/labels.jsonl"
    args = ["predict", *resnet.images, *model, "--top-k", 3, "--out", out, "--quiet"]
    assert featbank(*args).exit_code == 0
    found = [json.loads(line) for line in out.read_text().splitlines()]
    for place, each in enumerate(found):
        assert [one["label"] for one in each["top"]] == [
            NAMES[column] for column in np.argsort(-want[place])
        ]
        assert each["label"] == each["top"][0]["label"]
        assert each["confidence"] == pytest.approx(want[place].max(), abs=1e-5)
    level = float(np.median(want.max(axis=1)))
    unsure = rows(*resnet.images, *model, "--min-confidence", level, "--top-k", 2)
    sure = want.max(axis=1) >= level
    assert [row["label"] != "" for row in unsure] == list(sure)
    assert all(row["confidence"] and row["label_2"] and row["confidence_2"] for row in unsure)
    done = featbank("predict", *resnet.images, *model, "--min-confidence", level)
    assert f"{sure.sum()} labelled, {(~sure).sum()} undecided: standard output" in done.stderr
    assert "top_k must be from 1 to 3" in refused(
        3, "predict", *resnet.images, *model, "--top-k", 4
    )


def test_priors_move_probabilities_as_bayes_says(resnet: Kit, tmp_path: Path) -> None:
    """Balanced softmax has taken the training prior out, so that its own is uniform."""
    counts = np.array([14, 8, 5])
    file = tmp_path / "prior.csv"
    with open(file, "w", encoding="utf-8", newline="") as target:
        csv.writer(target).writerows([("class", "share"), *zip(NAMES, (1, 0, 3), strict=True)])
    model = Model.load(resnet.source, resnet.names["balanced-softmax"], device="cpu")
    own = resnet.probabilities("balanced-softmax")
    for prior, weights in (
        ("train", counts),
        ("uniform", np.ones(3)),
        (str(file), np.array([1, 0, 3])),
        ((1, 0, 3), np.array([1, 0, 3])),
    ):
        found = model.predict(resnet.images, prior=prior, top_k=3)
        want = own * weights / (own * weights).sum(axis=1, keepdims=True)
        shares = np.array([[dict(each.best)[name] for name in NAMES] for each in found])
        close(shares, want)
    command = ["--head", resnet.names["balanced-softmax"], *resnet.options]
    assert rows(*resnet.images, *command, "--prior", "uniform") == rows(*resnet.images, *command)
    listed = rows(*resnet.images, *command, "--prior", file)
    assert NAMES[1] not in {row["label"] for row in listed}


def test_a_joint_classifier_has_the_training_prior(cnn: Kit) -> None:
    model = Model.load(cnn.source, cnn.names["joint"], device="cpu")
    own, counts = cnn.probabilities("joint"), np.array([14, 8, 5])
    found = model.predict(cnn.images, prior="train", top_k=3)
    close(np.array([each.confidence for each in found]), own.max(axis=1))
    found = model.predict(cnn.images, prior="uniform", top_k=3)
    want = (own / counts) / (own / counts).sum(axis=1, keepdims=True)
    close(np.array([each.confidence for each in found]), want.max(axis=1))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "lacks class '<b>|b"),
        ('<b>|b\\,1\nUhu ü,1\n"cat, ""tabby""",0\nmore,1\n', "has no class 'more' of ours"),
        ("<b>|b\\,1\nUhu ü,-1\n", "line 2 is not class,probability"),
        ("<b>|b\\,1\n<b>|b\\,1\n", "line 2 names a class again"),
        ('<b>|b\\,0\nUhu ü,0\n"cat, ""tabby""",0\n', "gives every class the probability 0"),
        ("a,b,c\n", "line 1 is not class,probability"),
        ("\udcff,1\n", "is no CSV file"),
    ],
)
def test_a_prior_that_is_none_says_why(
    resnet: Kit, model: list[Any], tmp_path: Path, text: str, line: str
) -> None:
    file = tmp_path / "prior.csv"
    file.write_text(text, encoding="utf-8", errors="surrogateescape")
    assert line in refused(3, "predict", *resnet.images, *model, "--prior", file)


def test_a_class_name_of_two_lines_is_found_in_a_prior(tmp_path: Path) -> None:
    from featbank.serving.prior import read_prior

    names = ("two\nlines", "a\u2028b", "c\x0bd")
    with open(tmp_path / "p.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows((name, 1) for name in names)
    assert list(read_prior(tmp_path / "p.csv", names)) == pytest.approx([1 / 3] * 3)


def test_images_that_cannot_be_read_are_named_and_counted(
    resnet: Kit, model: list[Any], tmp_path: Path
) -> None:
    whole = Path(resnet.images[0]).read_bytes()
    (tmp_path / "a.png").write_bytes(whole)
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.png").write_bytes(b"no image at all")
    (tmp_path / "d.png").write_bytes(b"")
    sources = [tmp_path, tmp_path / "list.txt"]
    (tmp_path / "list.txt").write_text(f"{tmp_path}/gone.png\n{tmp_path}/a.png\n")
    done = featbank("predict", *sources, *model, "--batch-size", 4)
    assert done.exit_code == 0
    assert "2 labelled, 4 could not be read: standard output" in done.stderr
    assert done.stderr.count("cannot read image") == 4
    found = list(csv.DictReader(io.StringIO(done.stdout, newline="")))
    assert [bool(row["error"]) for row in found] == [False, True, True, True, True, False]
    assert [bool(row["label"]) for row in found] == [not row["error"] for row in found]
    assert found[0]["confidence"] == found[5]["confidence"]
    line = refused(3, "predict", tmp_path, *model, "--on-bad-image", "error", "--quiet")
    assert "b.png" in line
    found = Model.load(model[1]).predict([tmp_path])
    assert found.labels.count(None) == 3
    with pytest.raises(InputError, match=r"cannot read image .*b\.png"):
        Model.load(model[1]).predict_proba(tmp_path)


def test_images_of_every_mode_are_seen_as_training_saw_them(
    model: list[Any], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (50, 60, 3), dtype=np.uint8))
    colour.convert("P").save(tmp_path / "palette.png")
    colour.convert("P").convert("RGB").save(tmp_path / "palette-rgb.png")
    colour.convert("RGBA").save(tmp_path / "rgba.png")
    colour.save(tmp_path / "rgba-rgb.png")
    colour.convert("CMYK").save(tmp_path / "cmyk.tif")
    colour.convert("CMYK").convert("RGB").save(tmp_path / "cmyk-rgb.png")
    colour.convert("LA").save(tmp_path / "grey.png")
    colour.convert("L").convert("RGB").save(tmp_path / "grey-rgb.png")
    colour.convert("1").save(tmp_path / "one.png")
    colour.convert("1").convert("RGB").save(tmp_path / "one-rgb.png")
    deep = rng.integers(0, 65536, (50, 60)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray((deep >> 8).astype(np.uint8)).convert("RGB").save(tmp_path / "deep-rgb.png")
    found = {Path(row["path"]).stem: row for row in rows(tmp_path, *model, "--top-k", 3)}
    assert len(found) == 12
    for name, row in found.items():
        assert row["error"] == ""
        plain = found[f"{name.removesuffix('-rgb')}-rgb"]
        assert {**row, "path": ""} == {**plain, "path": ""}
    # Values of which the white is not known are not guessed at.
    Image.fromarray((deep >> 5).astype(np.uint16)).save(tmp_path / "dim.png")
    (row,) = rows(tmp_path / "dim.png", *model)
    assert "whose white is not known" in row["error"]


def test_pictures_in_memory_are_labelled_as_files(resnet: Kit, model: list[Any]) -> None:
    network = Model.load(model[1])
    pictures = [Image.open(path).convert("RGB") for path in resnet.images[:4]]
    want = network.predict_proba(resnet.images[:4])
    np.testing.assert_array_equal(network.predict_proba(pictures), want)
    arrays = [np.asarray(each) for each in pictures]
    np.testing.assert_array_equal(network.predict_proba(arrays), want)
    (one,) = network.predict(pictures[0])
    assert one.path == "0"
    np.testing.assert_array_equal(network.predict_proba(arrays[0]), want[:1])
    same = np.stack([arrays[0][:24, :40]] * 2)
    np.testing.assert_array_equal(*network.predict_proba(same))
    assert len(network.predict(torch.from_numpy(same))) == 2
    assert len(network.predict(np.array(resnet.images[:3]))) == 3
    for wrong in (np.zeros((4, 4, 3), np.float32), np.zeros((3, 40, 40), np.uint8)):
        (bad,) = network.predict([wrong])
        assert "is not uint8 (H, W, 3)" in bad.error
    with pytest.raises(InputError, match="not both"):
        network.predict([resnet.images[0], pictures[0]])


def test_labels_are_a_table(resnet: Kit, model: list[Any]) -> None:
    found = Model.load(model[1]).predict(resnet.images[:2])
    assert [row["label"] for row in found.records()] == resnet.labels("crt")[:2]
    assert list(found.frame().columns) == ["path", "label", "confidence"]
    assert str(found).count("\n") >= 3
    assert len(found.to_jsonl().splitlines()) == 2


def test_workers_and_batch_sizes_change_no_label(resnet: Kit, model: list[Any]) -> None:
    one = rows(*resnet.images, *model, "--batch-size", 5)
    assert [row["path"] for row in one] == resnet.images
    assert [row["label"] for row in one] == resnet.labels("crt")
    assert rows(*resnet.images, *model, "--batch-size", 5, "--workers", 2) == one


def test_a_head_of_another_network_is_refused(resnet: Kit, cnn: Kit, tmp_path: Path) -> None:
    for head, options in ((cnn.names["crt"], resnet.options), (resnet.names["crt"], cnn.options)):
        line = refused(5, "predict", *resnet.images, "--head", head, *options)
        assert "was fitted on features of another network than" in line
        line = refused(5, "export", head, *options, "--out", tmp_path / "m")
        assert "was fitted on features of another network than" in line
    assert not (tmp_path / "m").exists()


def test_a_head_of_imported_features_has_no_network(resnet: Kit, tmp_path: Path) -> None:
    write_bank(tmp_path / "bank")
    fb.fit(tmp_path / "bank", ["ncm"], out=tmp_path / "heads")
    with pytest.raises(StaleError, match="no image can be labelled"):
        Model.load(resnet.source, tmp_path / "heads/ncm.head")


def test_imported_features_are_labelled_without_a_network(tmp_path: Path) -> None:
    source = write_npz(tmp_path / "f.npz")
    assert featbank("import", source, "--out", tmp_path / "bank", "--quiet").exit_code == 0
    words = ["--head", "ncm", "--head", "crt", "--out", tmp_path / "heads", "--quiet"]
    assert featbank("fit", tmp_path / "bank", *words).exit_code == 0
    for name in ("ncm", "crt"):
        head = tmp_path / f"heads/{name}.head"
        want = heads.load(head).predict(Bank.open(tmp_path / "bank")["test"].read())
        for features in (tmp_path / "bank", source):
            found = rows(features, "--head", head)
            assert [int(row["label"]) for row in found] == list(want)
            shares = heads.load(head).predict_proba(Bank.open(tmp_path / "bank")["test"].read())
            close(np.array([float(row["confidence"]) for row in found]), shares.max(axis=1))


def test_two_classes_of_features(two: Kit) -> None:
    bank = two.root.parent / "bank"
    for spec in ("joint", "crt", "ncm"):
        found = rows(bank, "--head", two.names[spec], "--top-k", 2)
        assert [row["label"] for row in found] == two.labels(spec)
        shares = np.sort(two.probabilities(spec), axis=1)[:, ::-1]
        for place, column in enumerate(("confidence", "confidence_2")):
            close(np.array([float(row[column]) for row in found]), shares[:, place])
