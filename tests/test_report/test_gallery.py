"""The gallery of mistakes in the page: which rows, which pictures, and what never gets in."""

import base64
import io
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import featbank
from featbank.data import open_data
from featbank.report import build_report, gallery
from tests.banks import write_bank
from tests.commands import featbank as run
from tests.commands import refused
from tests.test_report.galleries import colour, compared, digits_bank, image_bank, png
from tests.test_report.test_page import HOSTILE, Reader


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    compared(image_bank(folder))
    return folder


def shown(page: Path) -> dict[str, Any]:
    """Return the gallery in a page."""
    found: dict[str, Any] = json.loads(
        Reader(page.read_text(encoding="utf-8")).inside["script"][0]
    )["gallery"]
    return found


def policy_of(page: Path) -> str:
    (policy,) = (
        attrs["content"] or ""
        for tag, attrs in Reader(page.read_text(encoding="utf-8")).elements
        if tag == "meta" and "http-equiv" in attrs
    )
    return policy


def picture(found: dict[str, Any], place: int) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(found["pictures"][place])))


def told(page: Path) -> str:
    """Return what the page says beside the gallery."""
    found: list[str] = shown(page)["notes"]
    return " ".join(found)


def test_the_rows_are_the_first_that_featbank_mistakes_names(whole: Path) -> None:
    found = shown(build_report(whole / "out", thumbnails=True, images=whole / "images"))
    compare = json.loads((whole / "out/compare.json").read_text())
    for entry, own in zip(compare["results"], found["mistakes"], strict=True):
        head = whole / "out/cells" / entry["cell"] / "head.head"
        want = featbank.mistakes(whole / "bank.zarr", head).wrong[:12]
        assert [each["id"] for each in own] == [each.id for each in want]
        names = [(f"class {each['true']}", f"class {each['predicted']}") for each in own]
        assert names == [(each.true, each.predicted) for each in want]
        assert [each["confidence"] for each in own] == [each.confidence for each in want]
        assert len(own) == min(12, len(want))


def test_the_pictures_are_those_of_the_rows_and_each_is_there_once(whole: Path) -> None:
    found = shown(build_report(whole / "out", thumbnails=True, images=whole / "images"))
    every = {each["id"]: each["picture"] for own in found["mistakes"] for each in own}
    assert sorted(every.values()) == list(range(len(found["pictures"])))
    for name, place in every.items():
        made = picture(found, place)
        assert made.size == (96, 48)
        assert made.format == "WEBP"
        row = int(name.removeprefix("test/").removesuffix(".png"))
        mean = np.asarray(made.convert("RGB"), float).mean(axis=(0, 1))
        assert np.abs(mean - colour(row)).max() < 5  # what the compression may change


def test_a_data_set_without_a_path_is_opened_again_as_it_was_drawn(tmp_path: Path) -> None:
    page = build_report(compared(digits_bank(tmp_path), ("ncm",)), thumbnails=True)
    found, split = shown(page), open_data("digits-lt", {"seed": "3"}).splits["test"]
    (own,) = found["mistakes"]
    assert len(own) == 12
    for each in own:
        image = split.load(list(split.ids).index(each["id"]))
        assert np.array_equal(picture(found, each["picture"]).convert("RGB"), image)


def test_another_data_set_is_named(tmp_path: Path) -> None:
    out = compared(digits_bank(tmp_path), ("ncm",))
    same = shown(build_report(out, thumbnails=True, images="digits-lt:seed=3"))
    assert len(same["pictures"]) == 12
    other = build_report(out, thumbnails=True, images="digits-lt:seed=4")
    assert len(shown(other)["pictures"]) < 12
    assert "the data set has no image" in told(other)


def test_where_nobody_knows_the_images_there_are_ids_and_no_picture_is_allowed(
    whole: Path,
) -> None:
    page = build_report(whole / "out", thumbnails=True)
    found = shown(page)
    assert found["pictures"] == []
    assert {each["picture"] for own in found["mistakes"] for each in own} == {None}
    assert "--images says it" in told(page)
    assert "img-src" not in policy_of(page)
    with_pictures = build_report(whole / "out", thumbnails=True, images=whole / "images")
    assert "img-src data:;" in policy_of(with_pictures)
    without = build_report(whole / "out")
    assert shown(without) is None
    assert "img-src" not in policy_of(without)
    assert 'id="mistakes"' not in without.read_text(encoding="utf-8")


def test_an_image_that_was_changed_is_not_shown(whole: Path, tmp_path: Path) -> None:
    images = Path(shutil.copytree(whole / "images", tmp_path / "images"))
    page = build_report(whole / "out", thumbnails=True, images=images)
    first = shown(page)["mistakes"][0][0]
    assert first["picture"] is not None
    (images / first["id"]).write_bytes(png(1000))
    page = build_report(whole / "out", thumbnails=True, images=images)
    assert shown(page)["mistakes"][0][0] == first | {"picture": None}
    assert "1 image left out: not what the bank was made from." in told(page)


@pytest.mark.parametrize("made", [None, b"no image", b"folder"])
def test_an_image_that_cannot_be_read_leaves_its_id(made: bytes | None, tmp_path: Path) -> None:
    bank = image_bank(tmp_path, digests=False)
    out = compared(bank, ("ncm",))
    worst = tmp_path / "images" / featbank.mistakes(
        bank, next(out.glob("cells/*/head.head"))
    ).wrong[0].id  # fmt: skip
    worst.unlink()
    if made == b"folder":
        worst.mkdir()
    elif made is not None:
        worst.write_bytes(made)
    page = build_report(out, thumbnails=True, images=tmp_path / "images")
    places = [each["picture"] for each in shown(page)["mistakes"][0]]
    assert places[0] is None
    assert None not in places[1:]
    assert f"1 image could not be shown; the first: cannot read image '{worst}'" in told(page)


def test_an_id_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    """A bank may be a stranger's, and without digests nothing else would stop it."""
    (tmp_path / "secret.png").write_bytes(png(1000))
    names = dict.fromkeys(range(100), "../secret.png")
    names |= {row: str(tmp_path / "secret.png") for row in range(100, 200)}
    out = compared(image_bank(tmp_path, names, digests=False), ("ncm",))
    page = build_report(out, thumbnails=True, images=tmp_path / "images")
    assert shown(page)["pictures"] == []
    assert "is no path below" in told(page)


def test_hostile_ids_add_no_element(tmp_path: Path) -> None:
    names = {row: f"{HOSTILE[row % 6]}{row}" for row in range(200)}
    out = compared(image_bank(tmp_path, names), ("ncm",))
    page = build_report(out, thumbnails=True, images=tmp_path / "images")
    assert any("hacked" in each["id"] for each in shown(page)["mistakes"][0])
    tags = Reader(page.read_text(encoding="utf-8")).tags()
    assert "img" not in tags
    assert tags["script"] == 2


def test_where_there_is_little_room_every_head_has_its_worst(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = whole / "images"
    everything = shown(build_report(whole / "out", thumbnails=True, images=images))
    firsts = {own[0]["id"] for own in everything["mistakes"]}
    room = sum(
        len(everything["pictures"][each["picture"]])
        for each in {own[0]["id"]: own[0] for own in everything["mistakes"]}.values()
    )
    monkeypatch.setattr(gallery, "Pictures", partial(gallery.Pictures, most_bytes=room))
    page = build_report(whole / "out", thumbnails=True, images=images)
    found = shown(page)
    assert sum(map(len, found["pictures"])) <= room
    with_picture = {
        each["id"] for own in found["mistakes"] for each in own if each["picture"] is not None
    }
    assert with_picture >= firsts
    assert "left out: all pictures of a page take at most" in told(page)


def test_the_commands_take_it(tmp_path: Path) -> None:
    bank, images = image_bank(tmp_path), tmp_path / "images"
    compare = ("compare", bank, "--head", "ncm", "--bootstrap", 100, "--out", tmp_path / "out")
    assert "add --thumbnails" in refused(2, *compare, "--images", images)
    line = refused(3, *compare, "--thumbnails", "--images", tmp_path / "nowhere")
    assert "neither a folder nor a data set" in line
    assert not (tmp_path / "out").exists()
    assert run(*compare, "--thumbnails", "--images", images, "--quiet").exit_code == 0
    page = tmp_path / "out/report.html"
    assert shown(page)["pictures"]
    assert "add --thumbnails" in refused(2, "report", tmp_path / "out", "--images", images)
    assert run("report", tmp_path / "out").exit_code == 0
    assert shown(page) is None
    done = run("report", tmp_path / "out", "--thumbnails", "--images", images)
    assert done.exit_code == 0
    assert shown(page)["pictures"]
    write_bank(tmp_path / "other.zarr")
    shutil.rmtree(bank)
    (tmp_path / "other.zarr").rename(bank)
    line = refused(5, "report", tmp_path / "out", "--thumbnails", "--images", images, "--quiet")
    assert "is not the bank that was compared" in line
    assert shown(page)["pictures"]
