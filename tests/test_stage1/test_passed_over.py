"""What lists and folders of images hold beside images: it is said, or refused before anything."""

import json
import os
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from cli.main import main
from featbank import Bank
from featbank.data import ImageData, from_datasets, open_data
from featbank.data.formats.files import listed_leaks, look_over
from featbank.errors import FeatbankWarning, InputError, MissingFileError
from featbank.extraction.extract import extract
from featbank.extraction.network import Foundation
from tests.test_stage1.images import write_data, write_image

RNG = np.random.default_rng(0)


def images(folder: Path, n: int = 2, label: int = 0) -> None:
    for i in range(n):
        write_image(folder / f"{i}.png", label, RNG)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for label, name in enumerate("ab"):
            images(tmp_path / "data" / split / name, 2, label)
    return tmp_path / "data"


def opened(root: Path, **params: Any) -> ImageData:
    return open_data("imagefolder", {"root": str(root), **params})


def ids(data: ImageData, split: str = "train") -> list[str]:
    return [each.removeprefix(f"{split}/") for each in data.splits[split].ids]


PLAIN = ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]


def test_folders_without_oddities_have_nothing_to_note(root: Path) -> None:
    assert opened(root).notes == []
    assert ids(opened(root)) == PLAIN


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("a/loop", "a"), ("a/x/y/loop", "a/x"), ("a/up", "."), ("a/x/far", ".."),
        ("a/second", "a/x"), ("all", "."),
    ],
)  # fmt: skip
def test_links_in_circles_count_no_image_twice_and_are_named(
    root: Path, link: str, target: str
) -> None:
    images(root / "train/a/x", 1)
    place = root / "train" / link
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(root / "train" / target)
    if link == "all":  # a class without an image of its own
        with pytest.raises(InputError, match=r"no training images for class 1 \('all'\)"):
            opened(root)
        return

    data = opened(root)

    assert sorted(ids(data)) == sorted([*PLAIN, "a/x/0.png"])
    assert data.notes == [f"train: passed over links to folders that are read already ({link})"]


def test_two_links_into_each_other_end(root: Path) -> None:
    for one, two in (("p", "q"), ("q", "p")):
        (root / "train/a" / one).mkdir()
        (root / "train/a" / one / "to").symlink_to(root / "train/a" / two)

    assert ids(opened(root)) == PLAIN
    assert "(a/p/to, a/q/to)" in opened(root).notes[0]


def test_a_link_to_itself_is_a_missing_file_found_before_a_training(root: Path) -> None:
    (root / "train/a/self.png").symlink_to("self.png")

    with pytest.raises(InputError, match=r"self\.png': there is no such file \(1 such in train\)"):
        look_over(opened(root), "mend it", strict=False)


def test_class_folders_and_folders_in_them_may_be_links(root: Path, tmp_path: Path) -> None:
    images(tmp_path / "elsewhere", 3)
    images(tmp_path / "more", 1)
    (root / "train/c").symlink_to(tmp_path / "elsewhere")
    (root / "train/a/more").symlink_to(tmp_path / "more")
    (root / "train/a/one.png").symlink_to(tmp_path / "more/0.png")
    (tmp_path / "more/0.png").rename(tmp_path / "more/z.png")
    (root / "train/a/one.png").unlink()

    data = opened(root)

    assert [each for each in ids(data) if each not in PLAIN] == [
        "a/more/z.png", "c/0.png", "c/1.png", "c/2.png",
    ]  # fmt: skip
    assert data.notes == []


def test_hidden_folders_and_files_that_are_no_images_are_counted(root: Path) -> None:
    for name in (".ipynb_checkpoints", "@eaDir", "__MACOSX"):
        images(root / "train/a" / name, 1)
    images(root / "train/.cache", 1)
    for name in ("notes.txt", "more.TXT", ".DS_Store", "._0.png", "LABEL", "list.csv"):
        (root / "train/b" / name).write_bytes(b"x")
    images(root / "train", 1)
    (root / "val/read me.md").write_bytes(b"x")
    shutil.copy(root / "train/a/0.png", root / "train/a/UPPER.PNG")
    (root / "val/b").rename(root / "validation")
    (root / "val/b").mkdir()

    data = opened(root)

    assert ids(data) == ["a/0.png", "a/1.png", "a/UPPER.PNG", "b/0.png", "b/1.png"]
    assert data.notes == [
        "train: passed over 7 files (2 .txt, 2 hidden, 1 .csv, 1 .png outside of class folders, "
        "1 without a suffix)",
        "train: passed over hidden folders (.cache, a/.ipynb_checkpoints, a/@eaDir, a/__MACOSX)",
        "val: passed over 1 files (1 .md)",
        "val: no images in the class folders b",
        f"{root}: passed over the folders validation, which are no splits; val=NAME or test=NAME "
        "makes one of them a split",
    ]


def test_names_of_folders_do_not_steer_a_terminal(root: Path) -> None:
    images(root / "train/a/.\x1b[2J", 1)
    (root / "train/b/x.\x1b[31m").touch()

    assert all(note.isprintable() for note in opened(root).notes)
    assert len(opened(root).notes) == 2


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31mred", "\x7f", "  ", "a\u2028b"])
def test_class_names_that_cannot_be_shown_are_refused(root: Path, name: str) -> None:
    images(root / "train" / name, 1)

    with pytest.raises(InputError, match="the name of class .*; rename it") as caught:
        opened(root)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("place", ["train/b", "train/b/x"])
def test_names_that_are_no_utf8_are_refused_by_name(root: Path, place: str) -> None:
    (root / place).mkdir(exist_ok=True)
    shutil.copy(root / "train/a/0.png", os.fsencode(root / place) + b"/caf\xe9.png")

    with pytest.raises(InputError, match=r"1 names in .* not UTF-8 \(first: b'caf\\xe9\.png'\)"):
        opened(root)
    os.rename(os.fsencode(root / place) + b"/caf\xe9.png", os.fsencode(root) + b"/caf\xe9.png")
    assert opened(root).notes == []


def test_a_root_that_is_no_utf8_is_refused(root: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(root) + b"\xff"))
    root.rename(odd)

    with pytest.raises(InputError, match=r"root='.*\\udcff' has bytes .* no UTF-8") as caught:
        opened(odd)
    assert str(caught.value).isprintable()


def test_class_names_that_look_the_same_are_kept_apart_and_said(root: Path) -> None:
    for name in (unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é"), "A"):
        images(root / "train" / name, 1)

    data = opened(root)

    assert len(data.class_names) == 5
    assert [note.split(" have")[0] for note in data.notes] == ["classes 0, 1", "classes 3, 4"]
    images(root / "val" / unicodedata.normalize("NFC", "É"), 1)
    with pytest.raises(InputError, match="differs by case or by Unicode form"):
        opened(root)


def test_a_folder_that_cannot_be_read_is_refused(root: Path, monkeypatch: Any) -> None:
    true = os.scandir

    def guarded(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return true(path)

    images(root / "train/a/closed", 1)
    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(InputError, match=r"cannot read folder '.*closed': Permission denied"):
        opened(root)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(b""), "it is empty"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "not a regular file"),
        (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "not a regular file"),
        (lambda path: (path.unlink(), path.symlink_to("gone")), "there is no such file"),
    ],
)
def test_files_that_cannot_be_images_are_found_before_a_training(
    root: Path, tmp_path: Path, spoil: Any, reason: str
) -> None:
    spoil(root / "val/b/1.png")
    args = ["train", "--data", f"imagefolder:root={root}", "--backbone", "tiny-cnn"]

    done = run([*args, "--image-size", "16", "--epochs", "1", "--out", str(tmp_path / "run")])

    assert done.exit_code == 3
    assert f"1.png': {reason} (1 such in val); mend it, or take it out" in one_line(done)
    assert not (tmp_path / "run").exists()


def run(args: list[str]) -> Result:
    return CliRunner().invoke(main, args, catch_exceptions=False)


def one_line(done: Result) -> str:
    return " ".join(done.stderr.split())


# Lists


def listed(folder: Path, raw: bytes, **params: Any) -> ImageData:
    folder.mkdir(exist_ok=True)
    for name in ("a.png", "b c.png", "#1.png", "ü.png"):
        write_image(folder / name, 0, RNG)
    (folder / "train.txt").write_bytes(raw)
    return open_data("imagelist", {"root": str(folder), "train": "train.txt", **params})


@pytest.mark.parametrize(
    "raw",
    [
        "\ufeffa.png 0\nb c.png 1\n",
        "\ufeffa.png\t0\r\n\r\nb c.png\t1\r\n\r\n",
        "# made by hand\na.png 0\n#\nb c.png 1\n",
        "  a.png 0  \n\t\nb c.png    +1",
    ],
)
def test_lists_of_editors_and_systems_are_read(tmp_path: Path, raw: str) -> None:
    data = listed(tmp_path / "d", raw.encode())

    assert list(data.splits["train"].ids) == ["a.png", "b c.png"]
    assert data.splits["train"].labels.tolist() == [0, 1]
    assert len(data.notes) == raw.startswith("# ")
    if data.notes:
        assert "2 lines that begin with '# ' are comments" in data.notes[0]


def test_a_name_may_begin_with_a_hash(tmp_path: Path) -> None:
    assert list(listed(tmp_path, "#1.png 0\nü.png 1\n".encode()).splits["train"].ids) == [
        "#1.png",
        "ü.png",
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_list_in_another_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(InputError, match=r"train\.txt is UTF-16, or no text; save it as UTF-8"):
        listed(tmp_path, "a.png 0\n".encode(encoding))


def test_a_list_that_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in (("pipe", "named pipe"), ("/dev/zero", "device"), (".", "folder")):
        for key in ("train", "val", "classes"):
            with pytest.raises(InputError, match=f"is a {kind}; name a regular file"):
                listed(tmp_path, b"a.png 0\n", **{key: str(tmp_path / path)})


def test_an_image_that_is_no_file_is_refused_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match=r"line 2: no regular file 'folder\.png' .*\(1 such"):
        listed(tmp_path, b"a.png 0\nfolder.png 0\n")
    with pytest.raises(MissingFileError, match=r"line 1: no image '/nowhere/x\.png'"):
        listed(tmp_path, b"/nowhere/x.png 0\n")


def test_a_blank_line_between_names_of_classes_does_not_move_them(tmp_path: Path) -> None:
    (tmp_path / "names").write_bytes(b"\xef\xbb\xbfcat\r\nbig dog\r\n\r\n")
    data = listed(tmp_path, b"a.png 0\nb c.png 1\n", classes="names")
    assert data.class_names == ["cat", "big dog"]
    for raw in (b"cat\n\ndog\n", b"\ncat\ndog\n"):
        (tmp_path / "names").write_bytes(raw)
        with pytest.raises(InputError, match=r"names, line \d is blank, .* of other labels"):
            listed(tmp_path, b"a.png 0\nb c.png 1\n", classes="names")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("cat\ndog\x1b[2J", r"class 1, 'dog\\x1b\[2J', has control characters"),
        ("x" * 1001 + "\ndog", "class 0, .*has 1,001 characters, and at most 1,000"),
    ],
)
def test_names_of_classes_in_a_file_are_checked(tmp_path: Path, names: str, message: str) -> None:
    (tmp_path / "names").write_text(names)
    with pytest.raises(InputError, match=message) as caught:
        listed(tmp_path, b"a.png 0\nb c.png 1\n", classes="names")
    assert str(caught.value).isprintable()


def test_classes_of_one_name_are_kept_apart_and_said(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("crane\nmaillot\ncrane\n<b>\n")
    raw = b"a.png 0\nb c.png 1\na.png 2\na.png 3\n"
    notes = listed(tmp_path, raw, classes="names").notes

    assert notes == ["classes 0, 2 have names that look the same ('crane'); they are kept apart"]


# Grey of more than 8 bits


def test_the_bits_of_grey_images_are_an_option_and_part_of_the_record(tmp_path: Path) -> None:
    from featbank.data.provenance import data_record

    for label, name in enumerate("ab"):
        path = tmp_path / "train" / name / "0.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((9, 9), 2000 + label, np.uint16)).save(path)
    plain, named = opened(tmp_path), opened(tmp_path, grey_bits="12")

    with pytest.raises(InputError, match="grey_bits=11 .or up to 16. in --data"):
        plain.splits["train"].load(0)
    assert np.asarray(named.splits["train"].load(0)).max() == 2000 >> 4
    assert "settings" not in data_record(plain)
    assert data_record(named)["settings"] == {"grey_bits": 12}
    for wrong in ("0", "32", "1.5", "x"):
        with pytest.raises(InputError, match="grey_bits"):
            opened(tmp_path, grey_bits=wrong)


class Deep:
    classes, targets = ("a",), (0,)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        return Image.fromarray(np.full((9, 9), 255, np.uint16)), 0


def test_a_torch_data_set_of_deep_grey_is_not_black_either() -> None:
    with pytest.raises(InputError, match="item 0 of train cannot be used: grey values up to 255"):
        from_datasets("mine", {"train": Deep()}).splits["train"].load(0)


# Leakage


def test_one_file_in_two_splits_or_with_two_labels_is_found_whatever_leads_to_it(
    root: Path,
) -> None:
    os.link(root / "train/a/0.png", root / "val/a/hard.png")
    (root / "val/b/soft.png").symlink_to(root / "train/b/1.png")
    (root / "train/a/other").symlink_to(root / "train/b")

    found = [str(leak) for leak in listed_leaks(opened(root))]

    assert found == [
        "leakage: 2 images are both in 'train' and in 'val' "
        "(as 'train/a/0.png' and 'val/a/hard.png')",
        "leakage: 2 images are in 'train' twice, with two labels "
        "(as 'train/a/other/0.png' and 'train/b/0.png')",
    ]


def test_leakage_is_noted_and_refused_where_that_is_asked_for(tmp_path: Path) -> None:
    params = write_data(tmp_path / "data", {"train": [2, 2], "val": [1, 1]})
    with (tmp_path / "data/val.txt").open("a") as file:
        file.write("train set/c0_0.png 0\ntrain set/../train set/c1_1.jpg 1\n")
    spec = f"imagelist:root={tmp_path / 'data'},train={params['train']},val={params['val']}"
    args = ["train", "--data", spec, "--backbone", "tiny-cnn", "--image-size", "16"]
    args += ["--epochs", "1", "--batch-size", "2", "--device", "cpu"]

    strict = run([*args, "--strict", "--out", str(tmp_path / "no")])
    quiet = run([*args, "--quiet", "--out", str(tmp_path / "a")])
    loud = run([*args, "--out", str(tmp_path / "b"), "--json", str(tmp_path / "b.json")])

    assert strict.exit_code == 3
    assert "2 images are both in 'train' and in 'val'" in one_line(strict)
    assert not (tmp_path / "no").exists()
    for done in (quiet, loud):
        assert done.exit_code == 0
        assert done.stderr.count("leakage: 2 images are both in 'train' and in 'val'") == 1
    notes = json.loads((tmp_path / "b.json").read_text())["notes"]
    assert [note.split(":")[0] for note in notes] == ["leakage", "leakage"]  # by id, and by file


def network_file(folder: Path) -> Path:
    import torch

    from featbank.backbones.backbones import build_model

    torch.save(build_model("test_resnet", 0, 32).state_dict(), folder / "w.pth")
    return folder / "w.pth"


def test_copies_of_an_image_are_found_by_their_digests_when_they_are_read(
    root: Path, tmp_path: Path
) -> None:
    shutil.copy(root / "train/a/0.png", root / "val/b/copy.png")
    source = Foundation("test_resnet", network_file(tmp_path), image_size=32)
    assert listed_leaks(opened(root)) == []
    how: dict[str, Any] = {"data": opened(root), "device": "cpu", "batch_size": 2}

    with pytest.raises(InputError, match="1 image is both in 'train' and in 'val'.*--strict"):
        extract(source, tmp_path / "bank", strict=True, **how)
    with pytest.warns(FeatbankWarning, match="leakage: 1 image is both in"):
        found = extract(source, tmp_path / "bank", **how)
    with pytest.warns(FeatbankWarning, match="leakage: 1 image is both in"):
        again = extract(source, tmp_path / "bank", **how)

    want = (
        "leakage: 1 image is both in 'train' and in 'val' (as 'train/a/0.png' and 'val/b/copy.png')"
    )
    assert found.notes == again.notes == (want,)
    assert again.up_to_date
    assert len(Bank.open(tmp_path / "bank")["val"]) == 5


def test_an_empty_file_stops_extraction_before_it_begins_or_is_left_out(
    root: Path, tmp_path: Path
) -> None:
    (root / "val/a/0.png").write_bytes(b"")
    source = Foundation("test_resnet", network_file(tmp_path), image_size=32)
    how: dict[str, Any] = {"data": opened(root), "device": "cpu", "batch_size": 2}

    with pytest.raises(InputError, match=r"a/0\.png': it is empty \(1 such in val\); .*skip"):
        extract(source, tmp_path / "bank", **how)
    assert not (tmp_path / "bank").exists()
    found = extract(source, tmp_path / "bank", on_bad_image="skip", **how)
    assert found.skipped == {"train": 0, "val": 1}


@pytest.mark.parametrize("name", ["val", "validation", "valid", "dev"])
def test_a_folder_that_is_called_like_val_is_val(tmp_path: Path, name: str) -> None:
    for split in ("train", name):
        (tmp_path / split / "a").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / split / "a" / "1.png")
    data = open_data("imagefolder", {"root": str(tmp_path)})
    assert list(data.splits) == ["train", "val"]
    assert list(data.splits["val"].ids) == [f"{name}/a/1.png"]
    assert data.passed_over == []


def test_several_folders_to_choose_on_are_asked_about(tmp_path: Path) -> None:
    for split in ("train", "valid", "dev"):
        (tmp_path / split / "a").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / split / "a" / "1.png")
    with pytest.raises(InputError, match="valid and dev; name the folder to choose on with val="):
        open_data("imagefolder", {"root": str(tmp_path)})
    data = open_data("imagefolder", {"root": str(tmp_path), "val": "dev"})
    assert list(data.splits["val"].ids) == ["dev/a/1.png"]
