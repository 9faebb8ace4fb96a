"""Disks that fail, fill up or cannot be written, and writers that meet."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import disk_usage
from typing import Any

import numpy as np
import pytest

from featbank import Bank, StorageError
from featbank.store.journal import Journal, frame
from featbank.store.schema import JOURNAL, MANIFEST
from tests.faults import kills
from tests.faults.kills import KINDS
from tests.faults.world import contents, numbers, small_chunks, sound, write

__all__ = ["small_chunks", "sound"]
pytestmark = pytest.mark.usefixtures("small_chunks")

Figure = Callable[[str], None]
OPERATIONS = ("write", "fsync", "replace", "mkdir")


class FailingDisk:
    """The k-th operation on the disk fails, and with `persistent` every one after it."""

    def __init__(self, patch: pytest.MonkeyPatch, k: int, code: int, persistent: bool) -> None:
        self.k, self.code, self.persistent, self.count = k, code, persistent, 0
        for name in OPERATIONS:
            patch.setattr(os, name, self.wrap(getattr(os, name)))
        patch.setattr(Journal, "record", self.wrap_record(Journal.record))

    def fails(self) -> bool:
        self.count += 1
        return self.count == self.k or (self.persistent and self.count > self.k)

    def error(self) -> OSError:
        return OSError(self.code, os.strerror(self.code))

    def wrap(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:
            if not self.fails():
                return real(*args, **kwargs)
            if real.__name__ == "write":
                real(args[0], args[1][: len(args[1]) // 2])
            raise self.error()

        return operation

    def wrap_record(self, real: Callable[..., None]) -> Callable[..., None]:
        def record(journal: Journal, array: str, index: int, chunk: Any) -> None:
            if not self.fails():
                real(journal, array, index, chunk)
                return
            line = frame({"chunk": [array, index, chunk.start, chunk.stop, chunk.crc32c, "0" * 64]})
            with journal.path.open("ab") as handle:
                handle.write(line[: len(line) // 2])
            raise self.error()

        return record


def settled(path: Path) -> dict[str, bytes]:
    """A bank's files; killed between its manifest and the journal's end it may keep the journal."""
    return {name: raw for name, raw in contents(path).items() if name != JOURNAL}


@pytest.mark.parametrize("step", [23, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_whatever_operation_fails_the_bank_goes_on(
    sound: Path, tmp_path: Path, code: int, persistent: bool, step: int, figure: Figure
) -> None:
    """Write, fsync, rename, mkdir and journal: the k-th fails, for every k that there is."""
    want, broken, harmless = contents(sound), 0, 0
    for k in range(1, 100_000, step):
        path = tmp_path / f"bank{k}"
        with pytest.MonkeyPatch.context() as patch:
            disk = FailingDisk(patch, k, code, persistent)
            try:
                write(path)
                harmless += 1
            except StorageError as error:
                broken += 1
                said = str(error)
                assert "run the same command again" in said or "cannot write" in said
        if (path / MANIFEST).exists():
            numbers(path)
        else:
            write(path)
        assert settled(path) == want, k
        if disk.count < k:
            break
    kind = "every later one too" if persistent else "once"
    figure(
        f"k-th disk operation fails with {errno.errorcode[code]}, {kind}: "
        f"{broken} failed runs of {broken + harmless} (k = 1, {1 + step}, … {k}), all continued"
    )
    assert broken >= 3


def test_a_writer_killed_while_it_wrote_its_plan_is_not_in_the_way(
    sound: Path, tmp_path: Path
) -> None:
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank" / f".{JOURNAL}.0123456789abcdef.partial").write_bytes(b"torn")
    write(tmp_path / "bank")
    assert contents(tmp_path / "bank") == contents(sound)


def test_what_a_killed_commit_left_is_taken_away(sound: Path, tmp_path: Path) -> None:
    """Ours and zarr's own files in the making."""
    write(tmp_path / "bank", 2)
    zarrs = f"{'ab' * 16}.partial"
    ours = (".zarr.json.0123456789abcdef.partial", f"train/zarr.{zarrs}", f"val/ids/c/0.{zarrs}")
    others = dict.fromkeys((".zarr.json.77.partial", "train/zarr.1.partial", "a.partial"), b"mine")
    for name in (*ours, *others):
        (tmp_path / "bank" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "bank" / name).write_text("mine")
    write(tmp_path / "bank")
    assert contents(tmp_path / "bank") == contents(sound) | others


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip("mounting a small disk is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_a_full_disk_stops_cleanly_and_room_lets_it_go_on(
    sound: Path, disk: Path, step: int, figure: Figure
) -> None:
    want, sizes, full = contents(sound), 0, 0
    for pages in range(1, 60, step):
        remount(disk, f"size={4 * pages}k")
        path = disk / "bank"
        sizes += 1
        try:
            write(path)
        except StorageError as error:
            full += "No space left on device" in str(error)
            with pytest.raises((Exception,), match="unfinished bank|is not a bank|no bank at"):
                Bank.open(path)
        remount(disk, "size=1m")
        if not (path / MANIFEST).exists():
            write(path)
        assert contents(path) == want
        subprocess.run(["rm", "-rf", str(path)], check=True)
    figure(f"disks of 1 to 60 pages: {sizes} sizes, {full} full in mid-work, all continued")
    assert full > 1


def test_a_disk_that_cannot_be_written_is_said_at_once_and_can_be_read(
    sound: Path, disk: Path
) -> None:
    write(disk / "bank")
    remount(disk, "ro")
    with pytest.raises(StorageError, match="cannot write .*other: Read-only file system"):
        write(disk / "other")
    assert numbers(disk / "bank") == numbers(sound)
    remount(disk, "rw")


@pytest.mark.parametrize("kind", ["import", "train", "export"])
@pytest.mark.parametrize("sizes", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_a_disk_that_fills_up_while_something_is_replaced_costs_nothing(
    kind: str,
    sizes: int,
    disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    figure: Figure,
) -> None:
    """The disk is measured too large, as when another program fills it meanwhile."""
    work = KINDS[kind](tmp_path, 0)
    work.run(tmp_path / work.name, False)
    want, full = kills.contents(tmp_path / work.name), 0
    out = disk / work.name
    remount(disk, "size=8m")
    work.old(out)
    before = kills.contents(out)
    (disk / "beside").write_text("mine")
    used = disk_usage(disk).used
    usage = type("Usage", (), {"free": 1 << 40})
    for room in np.linspace(0, 1.2 * used, sizes):
        remount(disk, f"size={used + int(room)}")
        with monkeypatch.context() as patch:
            patch.setattr("shutil.disk_usage", lambda _path: usage)
            try:
                work.run(out, True)
            except Exception as error:  # noqa: BLE001 - safetensors has errors of its own
                full += "No space left on device" in str(error)
        assert kills.contents(out) in (before, want)
        assert (disk / "beside").read_text() == "mine"
        remount(disk, "size=8m")
        work.run(out, True)
        assert kills.contents(out) == want
        assert sorted(os.listdir(disk)) == ["beside", work.name]
        subprocess.run(["rm", "-rf", str(out)], check=True)
        work.old(out)
    figure(f"{kind}, overwriting, on small disks: {sizes} sizes, {full} full in mid-work")
    assert full


@pytest.mark.parametrize("how", ["fresh", "overwrite"])
@pytest.mark.parametrize("races", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_of_two_writers_one_wins(tmp_path: Path, races: int, how: str, figure: Figure) -> None:
    command = [sys.executable, "-m", "tests.faults.races", str(tmp_path), str(races), how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    figure(
        f"two writers, {how}: {races} races, one winner in {found['one_winner']}, right bank in "
        f"{found['same']}, loser met the lock in {found['locked']}"
    )
    assert found["one_winner"] == found["same"] == races
    assert found["locked"] > 0
