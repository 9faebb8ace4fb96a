"""Disks that fail or fill up under `fit`, `compare` and `report`: one line, and nothing lost."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from featbank.files import exchanging
from tests.banks import write_bank
from tests.commands import featbank
from tests.faults.result_kills import COMPARE, FIT, is_whole, tree

Figure = Callable[[str], None]
OPERATIONS = ("write", "fsync", "replace", "rename", "mkdir", "link", "unlink", "rmdir")
HEADS = ("--head", "ncm", "--head", "joint")
# By name: what makes what is there before, the command that meets the failing disk.
COMMANDS = {
    "fit": ((*FIT, "--head", "ncm:transform=un"), (*FIT, *HEADS, "--overwrite")),
    "compare": (
        (*COMPARE, "a.zarr", "--head", "ncm"), (*COMPARE, "a.zarr", "b.zarr", *HEADS),
    ),
    "report": ((*COMPARE, "a.zarr", *HEADS), ("report", "out", "--json", "r.json")),
}  # fmt: skip


class FailingDisk:
    """The k-th operation on the disk fails, and with `persistent` every one after it."""

    def __init__(self, patch: pytest.MonkeyPatch, k: int, code: int, persistent: bool) -> None:
        self.k, self.code, self.persistent, self.count = k, code, persistent, 0
        for name in OPERATIONS:
            patch.setattr(os, name, self.wrap(getattr(os, name)))
        exchange = self.wrap(exchanging._exchange_names)
        patch.setattr(exchanging, "_exchange_names", exchange)

    def wrap(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.count == self.k or (self.persistent and self.count > self.k):
                raise OSError(self.code, os.strerror(self.code))
            return real(*args, **kwargs)

        return operation


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("storage")
    for name in "ab":
        write_bank(folder / f"{name}.zarr", provenance={"checkpoint": name})
    return folder


def set_up(base: Path, place: Path, command: str, patch: pytest.MonkeyPatch) -> None:
    """Make what is there before the command, a note of the user's in it, and go there."""
    place.mkdir(exist_ok=True)
    patch.chdir(place)
    for name in ("a.zarr", "b.zarr"):
        (place / name).symlink_to(base / name)
    assert featbank(*COMMANDS[command][0], "--quiet").exit_code == 0
    (place / "out" / "note").write_text("mine")


def reset(before: Path, place: Path) -> None:
    """Put everything back as it was before the command."""
    for path in place.iterdir():
        if path.name.endswith(".zarr"):
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(before, place / "out")


def check(command: str, place: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Look at what a failed command left, and run it again."""
    now = tree(place / "out")
    now = {name: raw for name, raw in now.items() if not name.endswith(".partial")}
    assert now in (old, new)
    assert is_whole(place / "out", now)
    again = ("--overwrite",) if command == "report" else ()
    assert featbank(*COMMANDS[command][1], *again, "--quiet").exit_code == 0
    assert tree(place / "out") == new
    assert not [name for name in os.listdir(place) if name.startswith(".")]


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize(
    ("command", "step"),
    [
        ("fit", 7),
        ("compare", 29),
        ("report", 3),
        *(pytest.param(command, 1, marks=pytest.mark.slow) for command in COMMANDS),
    ],
)
def test_whatever_operation_fails_the_old_or_the_new_is_there(
    base: Path, tmp_path: Path, command: str, persistent: bool, step: int, figure: Figure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    place, before = tmp_path / "place", tmp_path / "before"
    set_up(base, place, command, monkeypatch)
    shutil.copytree(place / "out", before)
    old = tree(before)
    assert featbank(*COMMANDS[command][1], "--quiet").exit_code == 0
    new, failed = tree(place / "out"), 0
    for k in range(1, 100_000, step):
        reset(before, place)
        with pytest.MonkeyPatch.context() as patch:
            disk = FailingDisk(patch, k, errno.ENOSPC if k % 2 else errno.EIO, persistent)
            done = featbank(*COMMANDS[command][1], "--quiet")
        assert done.exit_code in (0, 3), done.output
        if done.exit_code:
            failed += 1
            (line,) = done.stderr.strip().splitlines()
            assert any(name in line for name in (str(place), "out", "r.json")), line
        check(command, place, old, new)
        if disk.count < k:
            break
    kind = "every later one too" if persistent else "once"
    figure(
        f"{command}: k-th disk operation fails, {kind}: {failed} failed runs (k = 1, {1 + step}, "
        f"… {k}), the old or the new after each, and the new after the next"
    )
    assert failed


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip("mounting a small disk is not permitted here")
    yield place
    os.chdir("/")
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize(
    ("command", "step"),
    [
        ("fit", 5),
        ("compare", 19),
        ("report", 13),
        *(pytest.param(command, 1, marks=pytest.mark.slow) for command in COMMANDS),
    ],
)
def test_a_full_disk_is_one_line_and_costs_nothing(
    base: Path, disk: Path, tmp_path: Path, command: str, step: int, figure: Figure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    before, full, sizes = tmp_path / "before", 0, 0
    set_up(base, disk, command, monkeypatch)
    shutil.copytree(disk / "out", before)
    old = tree(before)
    assert featbank(*COMMANDS[command][1], "--quiet").exit_code == 0
    new = tree(disk / "out")
    for pages in range(0, 500, step):
        reset(before, disk)
        free = os.statvfs(disk).f_bavail - pages
        (disk / "fill").write_bytes(bytes(4096 * max(free, 0)))
        done = featbank(*COMMANDS[command][1], "--quiet")
        (disk / "fill").unlink()
        sizes += 1
        if done.exit_code:
            full += 1
            assert done.exit_code == 3, done.output
            (line,) = done.stderr.strip().splitlines()
            assert "out" in line or "r.json" in line
        check(command, disk, old, new)
        if not done.exit_code:
            break
    figure(
        f"{command}: {sizes} disks with 0 to {pages} pages free, {full} full in mid-work, the old "
        "or the new after each"
    )
    assert full
