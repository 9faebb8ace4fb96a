"""A folder that takes the place of an older one when it is whole, and not before."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from featbank.errors import InputError, LockedError, OutputExistsError, StorageError
from featbank.files import exchanging, folders, marks, replacing
from featbank.files.lock import FolderLock
from featbank.files.marks import work_path
from featbank.files.replacing import Replacement, require_room


def own(folder: Path) -> Sequence[Path] | None:
    """A kind of folder whose record, `record`, names its files one a line."""
    record = folder / "record"
    if not record.is_file():
        return None
    return [*map(Path, record.read_text().split()), Path("record")]


def fill(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", "/")).parent.mkdir(exist_ok=True)
        (folder / name.replace("_", "/")).write_text(text)
    names = "\n".join(name.replace("_", "/") for name in files)
    (folder / "record").write_text(names)


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folders.files_in(folder)}


def replace(out: Path, **files: str) -> None:
    with Replacement(out, own) as new:
        fill(new.work, **files)
        new.finish()


def test_the_new_folder_stands_there_and_nothing_else_is_left(tmp_path: Path) -> None:
    replace(tmp_path / "out", a="1", sub_b="2")
    assert tree(tmp_path / "out") == {"a": "1", "sub/b": "2", "record": "a\nsub/b"}
    replace(tmp_path / "out", a="3")
    assert tree(tmp_path / "out") == {"a": "3", "record": "a"}
    assert os.listdir(tmp_path) == ["out"]


def test_what_the_user_put_there_goes_along(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, a="old", sub_b="old")
    (out / "sub" / "note").write_text("mine")
    (out / "deep" / "er").mkdir(parents=True)
    (out / "deep" / "link").symlink_to("nowhere")
    os.mkfifo(out / "pipe")
    out.chmod(0o750)
    inode = (out / "sub" / "note").stat().st_ino
    replace(out, a="new")
    assert (out / "a").read_text() == "new"
    assert not (out / "sub" / "b").exists()
    assert (out / "sub" / "note").stat().st_ino == inode
    assert os.readlink(out / "deep" / "link") == "nowhere"
    assert (out / "deep" / "er").is_dir()
    assert (out / "pipe").is_fifo()
    assert out.stat().st_mode & 0o777 == 0o750
    assert os.listdir(tmp_path) == ["out"]


def test_an_error_leaves_the_old_folder_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, a="old")
    (out / "note").write_text("mine")
    before = tree(out)

    def fail() -> None:
        with Replacement(out, own) as new:
            fill(new.work, a="new")
            raise ValueError(out)

    with pytest.raises(ValueError, match="out"):
        fail()
    assert tree(out) == before
    assert os.listdir(tmp_path) == ["out"]


def test_a_users_file_with_a_new_name_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, a="old")
    (out / "b").write_text("mine")
    before = tree(out)
    with pytest.raises(OutputExistsError, match="out/b was not made by featbank"):
        replace(out, b="new")
    assert tree(out) == before


def test_a_folder_without_a_record_keeps_all_and_gets_the_new_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    (out / "note").write_text("mine")
    monkeypatch.chdir(out)  # it can be the folder that the user stands in
    replace(Path(), a="1", sub_b="2")
    assert tree(out) == {"a": "1", "sub/b": "2", "record": "a\nsub/b", "note": "mine"}
    assert os.listdir(tmp_path) == ["out"]


def test_a_folder_that_the_process_stands_in_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "out", a="1")
    monkeypatch.chdir(tmp_path / "out")
    with pytest.raises(InputError, match="stands in it"):
        replace(Path(), a="2")
    assert (tmp_path / "out" / "a").read_text() == "1"


@pytest.mark.parametrize("make", ["link", "file"])
def test_a_link_or_a_file_is_refused(tmp_path: Path, make: str) -> None:
    fill(tmp_path / "real", a="1")
    if make == "link":
        (tmp_path / "out").symlink_to(tmp_path / "real")
    else:
        (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputExistsError, match="out exists and is"):
        replace(tmp_path / "out", a="2")
    assert (tmp_path / "real" / "a").read_text() == "1"


def test_a_strangers_folder_in_the_way_is_left_alone(tmp_path: Path) -> None:
    work = work_path(tmp_path / "out")
    work.mkdir()
    (work / "thesis").write_text("mine")
    with pytest.raises(OutputExistsError, match="rename it"):
        replace(tmp_path / "out", a="1")
    assert (work / "thesis").read_text() == "mine"
    (work / "thesis").rename(tmp_path / "thesis")
    work.rmdir()
    work.symlink_to(tmp_path)
    with pytest.raises(OutputExistsError, match="rename it"):
        replace(tmp_path / "out", a="1")
    assert (tmp_path / "thesis").read_text() == "mine"


def test_a_record_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / "way").symlink_to(tmp_path)
    (out / "record").write_text(f"../victim\n{victim}\nway/victim")
    replace(out, a="1")
    assert victim.read_text() == "mine"
    assert (out / "way").is_symlink()


def test_both_folders_are_locked(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, a="1")
    lock = FolderLock(out)
    with pytest.raises(LockedError, match="being written"):
        replace(out, a="2")
    lock.release()
    with Replacement(out, own), pytest.raises(LockedError, match="being written"):
        replace(out, a="2")
    with (
        Replacement(tmp_path / "fresh", own),
        pytest.raises(LockedError, match="being written"),
    ):
        replace(tmp_path / "fresh", a="2")


def test_what_was_begun_is_kept_where_it_can_be_continued(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, a="old")
    with Replacement(out, own, keep=True) as new:
        (new.work / "half").write_text("1")
    assert (out / "a").read_text() == "old"
    with Replacement(out, own, keep=True) as new:
        assert (new.work / "half").read_text() == "1"
        fill(new.work, half="1")
        new.finish()
    assert tree(out) == {"half": "1", "record": "half"}
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("ending", ["new", "old"])
def test_a_users_copy_of_a_folder_is_not_taken_for_a_leftover(tmp_path: Path, ending: str) -> None:
    """It has a record of ours, and just the name that is used beside `out`."""
    out, copy = tmp_path / "out", tmp_path / f".out.{ending}"
    fill(out, a="old")
    fill(copy, a="my backup")
    before = tree(copy)
    if ending == "new":
        with pytest.raises(OutputExistsError, match="rename it"):
            replace(out, a="new")
        assert tree(out) == {"a": "old", "record": "a"}
    else:
        replace(out, a="new")
        assert tree(out) == {"a": "new", "record": "a"}
    assert tree(copy) == before


def test_a_users_copy_stays_where_names_cannot_be_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: Path) -> None:
        raise OSError(errno.EINVAL, "no such thing here")

    monkeypatch.setattr(exchanging, "_exchange_names", cannot)
    fill(tmp_path / "out", a="old")
    fill(tmp_path / ".out.old", a="my backup")
    with pytest.raises(OutputExistsError, match="rename it"):
        replace(tmp_path / "out", a="new")
    assert tree(tmp_path / "out") == {"a": "old", "record": "a"}
    assert tree(tmp_path / ".out.old") == {"a": "my backup", "record": "a"}
    (tmp_path / ".out.old").rename(tmp_path / "copy")
    replace(tmp_path / "out", a="new")
    assert sorted(os.listdir(tmp_path)) == ["copy", "out"]


def test_a_note_that_was_changed_since_an_interrupted_swap_is_the_one_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Path) -> None:
        raise KeyboardInterrupt

    def finish() -> None:
        with Replacement(out, own, keep=True) as new:
            fill(new.work, a="new")
            new.finish()

    out = tmp_path / "out"
    fill(out, a="old")
    (out / "note").write_text("first")
    with monkeypatch.context() as patch:
        patch.setattr(replacing, "exchange", interrupt)
        with pytest.raises(KeyboardInterrupt):
            finish()
    (out / "note").unlink()
    (out / "note").write_text("second")
    finish()
    assert tree(out) == {"a": "new", "note": "second", "record": "a"}
    assert os.listdir(tmp_path) == ["out"]


def test_what_another_process_is_exchanging_is_left_to_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, a="new")
    marks.write_mark(out, out)  # as between its two last steps
    with FolderLock(out), pytest.raises(LockedError, match="being written"):
        exchanging.recover(out)
    exchanging.recover(out)
    assert tree(out) == {"a": "new", "record": "a"}


STEPS = ("link", "unlink", "rmdir", "rename", "mkdir", "_exchange_names", "fsync")


def in_child(out: Path, before: int, *, exchanges: bool) -> bool:
    """Replace a folder in a child that is killed at its operation number `before`."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    left = before

    def counted(name: str, function: object) -> object:
        def step(*args: object, **more: object) -> object:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            if name == "_exchange_names" and not exchanges:
                raise OSError(errno.EINVAL, "no such thing here")
            return function(*args, **more)  # type: ignore[operator]

        return step

    for name in STEPS:
        where = exchanging if name.startswith("_") else os
        setattr(where, name, counted(name, getattr(where, name)))
    replace(out, a="new", sub_c="new")
    os._exit(0)


@pytest.mark.parametrize("exchanges", [True, False])
@pytest.mark.parametrize("old", ["record", "notes", "nothing"])
def test_killed_before_any_step_it_is_the_old_or_the_new(
    tmp_path: Path, old: str, exchanges: bool
) -> None:
    new = {"a": "new", "sub/c": "new", "record": "a\nsub/c"}
    note = {} if old == "nothing" else {"note": "mine"}
    seen = set()
    for before in range(200):
        out = tmp_path / f"{before}" / "out"
        out.parent.mkdir()
        if old == "record":
            fill(out, a="old", sub_b="old")
        if old != "nothing":
            out.mkdir(exist_ok=True)
            (out / "note").write_text("mine")
        was = tree(out)
        ended = in_child(out, before, exchanges=exchanges)
        exchanging.recover(out)
        now = {k: v for k, v in tree(out).items() if not k.startswith(marks.WITHIN)}
        if old == "record":
            assert now in (was, new | note), before
        assert now.items() >= note.items()
        seen.add("a" in now and now["a"] == "new")
        replace(out, a="new", sub_c="new")  # and the next one finds nothing in its way
        assert tree(out) == new | note
        assert os.listdir(out.parent) == ["out"]
        if ended:
            break
    assert ended
    assert seen == {True, False}


def test_too_little_room_is_said_before_anything_is_touched(tmp_path: Path) -> None:
    require_room(tmp_path / "out", 1)
    with pytest.raises(StorageError, match="add --replace-in-place"):
        require_room(tmp_path / "out", 1 << 60)
