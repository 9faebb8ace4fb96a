"""What `featbank report` replaces: its own page and figures, and nothing else."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featbank.errors import OutputExistsError
from featbank.files import atomic
from featbank.report import build_report
from featbank.results.owned import is_figure, is_page
from tests.commands import contents, featbank, refused
from tests.results_folder import Fake, write_results


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_results(tmp_path / "out", Fake(banks=("one",), heads=("joint", "tau"), view=60))


def test_a_page_of_featbank_is_known_again(folder: Path) -> None:
    page = build_report(folder)
    assert is_page(page)
    text = page.read_text(encoding="utf-8")
    older = text.replace('<meta name="generator" content="featbank">\n', "")
    page.write_text(older, encoding="utf-8")  # as it was written before it had the mark
    assert older != text
    assert is_page(page)
    assert featbank("report", folder).exit_code == 0
    assert page.read_text(encoding="utf-8") == text


ODD: dict[str, Callable[[Path], object]] = {
    "page": lambda path: path.write_text("<!doctype html><p>my own page about featbank</p>"),
    "link": lambda path: path.symlink_to("../victim"),
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
}


@pytest.mark.parametrize("kind", ODD)
def test_another_page_is_not_replaced(folder: Path, kind: str) -> None:
    (folder.parent / "victim").write_text("precious")
    ODD[kind](folder / "report.html")
    before = contents(folder.parent)
    assert "report.html" in refused(3, "report", folder, "--overwrite")
    assert contents(folder.parent) == before


def test_a_planted_link_is_not_followed(folder: Path) -> None:
    victim = folder.parent / "victim"
    victim.write_text("precious")
    for name in (".report.html.partial", "banks/one/.tsne.npz.partial"):
        (folder / name).symlink_to(victim)
    assert featbank("report", folder).exit_code == 0
    assert victim.read_text() == "precious"


def test_figures_are_known_by_their_mark_and_others_are_not_replaced(
    folder: Path, tmp_path: Path
) -> None:
    figures = tmp_path / "figures"
    command = ("report", folder, "--figures", figures)
    assert featbank(*command).exit_code == 0
    first = contents(figures)
    assert all(is_figure(figures / name) for name in first)
    assert featbank(*command).exit_code == 0
    assert contents(figures) == first
    for name in ("comparison.pdf", "tau-one.png"):
        raw = first[name].replace(b"featbank", b"somebody")
        (figures / name).write_bytes(raw)
        page = (folder / "report.html").read_bytes()
        assert f"{name} was not drawn by featbank" in refused(3, *command)
        assert contents(figures) == first | {name: raw}
        assert (folder / "report.html").read_bytes() == page
        (figures / name).write_bytes(first[name])


@pytest.mark.parametrize("kind", ODD)
def test_figures_go_into_a_folder_and_through_no_link(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "victim").mkdir()
    figures = tmp_path / "figures"
    figures.mkdir()
    ODD[kind](figures / "comparison.png")
    assert "comparison.png" in refused(3, "report", folder, "--figures", figures)
    assert [path.name for path in figures.iterdir()] == ["comparison.png"]
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    line = refused(3, "report", folder, "--figures", tmp_path / "link")
    assert "link exists and is a symbolic link; choose another path for --figures" in line
    assert list((tmp_path / "victim").iterdir()) == []


def test_what_cannot_be_drawn_replaces_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = tmp_path / "figures"
    command = ("report", folder, "--figures", figures)
    featbank(*command)
    before = contents(tmp_path)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("featbank.report.figures.class_accuracy", fail)
    assert "No space left on device" in refused(3, *command)
    assert contents(tmp_path) == before


def test_several_files_are_renamed_when_all_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / name for name in "abc"]
    atomic.replace_files({path: lambda part: part.write_text("old") for path in paths})
    real, calls = os.fsync, []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match=r"No space left on device: '.*/\.c\."):
        atomic.replace_files({path: lambda part: part.write_text("new") for path in paths})
    assert [path.read_text() for path in paths] == ["old"] * 3
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c"]
    paths[1].unlink()
    paths[1].mkdir()
    with pytest.raises(OutputExistsError, match="is a folder"):
        atomic.replace_files({path: lambda part: part.write_text("new") for path in paths})
    assert paths[0].read_text() == "old"
