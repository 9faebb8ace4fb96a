"""The folder of `featbank fit`: the old heads are there until the new ones are."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import heads
from featbank.study import fitting
from tests.banks import write_bank
from tests.commands import contents, featbank, refused

OLD = ("--head", "ncm", "--head", "tau:tau=0.5")
NEW = ("--head", "ncm:transform=l2n", "--head", "joint", "--overwrite")


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bank(tmp_path_factory.mktemp("fit") / "bank.zarr").path


@pytest.fixture
def out(bank: Path, tmp_path: Path) -> Path:
    """Two heads, with a note and a head of the user's beside them."""
    folder = tmp_path / "h"
    assert featbank("fit", bank, *OLD, "--out", folder, "--quiet").exit_code == 0
    (folder / "mine.head").write_text("somebody's")
    (folder / "sub").mkdir()
    (folder / "sub" / "note").write_text("mine")
    return folder


def fit(bank: Path, out: Path, *more: Any) -> tuple[Any, ...]:
    return ("fit", bank, *NEW, "--out", out, "--quiet", *more)


def test_overwrite_replaces_the_recorded_heads_and_nothing_else(bank: Path, out: Path) -> None:
    assert featbank(*fit(bank, out)).exit_code == 0
    found = contents(out)
    assert sorted(found) == ["joint.head", "mine.head", "ncm.head", "results.json", "sub/note"]
    assert (found["mine.head"], found["sub/note"]) == (b"somebody's", b"mine")
    assert heads.load(out / "ncm.head").get_params()["transform"] == "l2n"
    assert os.listdir(out.parent) == ["h"]
    results = json.loads(found["results.json"])["results"]
    assert [entry["file"] for entry in results] == ["ncm.head", "joint.head"]


def test_results_that_name_no_files_have_them_by_their_heads(bank: Path, tmp_path: Path) -> None:
    """As they were written before."""
    out = tmp_path / "h"
    twice = ("--head", "ncm", "--head", "ncm:transform=un", "--report", "test")
    featbank("fit", bank, *twice, "--out", out)
    results = json.loads((out / "results.json").read_text())
    for entry in results["results"]:
        del entry["file"]
    results["results"] += [entry | {"split": "val"} for entry in results["results"]]
    (out / "results.json").write_text(json.dumps(results))
    (out / "ncm-3.head").write_text("mine")
    assert featbank(*fit(bank, out)).exit_code == 0
    assert sorted(contents(out)) == ["joint.head", "ncm-3.head", "ncm.head", "results.json"]


@pytest.mark.parametrize("name", ["results.json", "joint.head"])
@pytest.mark.parametrize("recorded", [True, False])
def test_a_file_of_the_users_with_a_new_name_is_refused_before_the_first_fit(
    bank: Path, tmp_path: Path, out: Path, name: str, recorded: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if not recorded:
        out = tmp_path / "other"
        out.mkdir()
    (out / name).write_text('{"schema": 1, "results": [{"mine": 1}], "candidates": []}')
    before = contents(out)
    monkeypatch.setattr(fitting, "fit_head", None)  # nothing is fitted
    assert "was not made by featbank and has the name of a new file" in refused(3, *fit(bank, out))
    assert contents(out) == before


def test_a_folder_without_results_keeps_what_is_in_it(bank: Path, tmp_path: Path) -> None:
    out = tmp_path / "notes"
    out.mkdir()
    (out / "note").write_text("mine")
    again = "exists and is not empty; choose another path for --out, or add --overwrite"
    assert again in refused(3, "fit", bank, *OLD, "--out", out)
    assert featbank(*fit(bank, out)).exit_code == 0
    assert sorted(contents(out)) == ["joint.head", "ncm.head", "note", "results.json"]
    assert again in refused(3, "fit", bank, *OLD, "--out", out)


@pytest.mark.parametrize(
    "names",
    [["../victim"], ["note"], ["sub/note"], ["/etc/hostname"], [".head"], [None], ["x\0.head"]],
)
def test_a_forged_record_removes_nothing(
    bank: Path, out: Path, tmp_path: Path, names: list[Any]
) -> None:
    (tmp_path / "victim").write_text("mine")
    (out / "note").write_text("mine")
    results = json.loads((out / "results.json").read_text())
    for entry in results["results"]:
        entry["file"] = names[0]
    (out / "results.json").write_text(json.dumps(results))
    before = contents(tmp_path)
    assert "was not made by featbank" in refused(3, *fit(bank, out))
    assert contents(tmp_path) == before


class Boom(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130), ("SIGTERM", 143), (OSError(28, "No space left on device"), 3),
        (heads.errors.HeadInputError("diverged"), 3), (MemoryError(), 3), (Boom(), 1),
    ],
)  # fmt: skip
def test_whatever_ends_a_fit_the_old_heads_are_there(
    bank: Path, out: Path, error: Any, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = fitting.fit_head, []

    def fit_head(*args: Any, **more: Any) -> Any:
        calls.append(args)
        if len(calls) < 2:
            return real(*args, **more)
        if error == "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        raise error

    before = contents(out)
    monkeypatch.setattr(fitting, "fit_head", fit_head)
    line = refused(code, *fit(bank, out))
    assert (
        code != 3
        or isinstance(error, heads.errors.HeadInputError | MemoryError)
        or str(out) in line
    )
    assert contents(out) == before
    assert os.listdir(out.parent) == ["h"]


def test_where_old_and_new_do_not_fit_nothing_is_touched(
    bank: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(out)
    room = type("", (), {"free": 2 * 4 * 5 * 13 - 1})  # two heads of five classes, D = 12
    monkeypatch.setattr("shutil.disk_usage", lambda _path: room)
    assert "add --replace-in-place, which removes the old one first" in refused(3, *fit(bank, out))
    assert contents(out) == before
    assert featbank(*fit(bank, out, "--replace-in-place")).exit_code == 0
    assert sorted(contents(out)) == [
        "joint.head", "mine.head", "ncm.head", "results.json", "sub/note",
    ]  # fmt: skip
    line = refused(2, "fit", bank, *OLD, "--out", out, "--replace-in-place")
    assert "add --overwrite" in line


@pytest.mark.parametrize("what", ["link", "file", "dangling", "fifo"])
def test_out_is_a_folder_or_nothing(bank: Path, tmp_path: Path, what: str) -> None:
    out, real = tmp_path / "out", tmp_path / "real"
    real.mkdir()
    if what == "fifo":
        os.mkfifo(out)
    elif what == "file":
        out.write_text("mine")
    else:
        out.symlink_to(real if what == "link" else tmp_path / "nowhere")
    assert "out exists and is" in refused(3, *fit(bank, out))
    assert list(real.iterdir()) == []
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    "name", [".results.json.partial", "results.json", "ncm.head", ".ncm.head.partial"]
)
def test_a_planted_link_is_not_followed(bank: Path, tmp_path: Path, name: str) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim"
    victim.write_text("precious")
    out.mkdir()
    (out / name).symlink_to(victim)
    featbank(*fit(bank, out))
    assert victim.read_text() == "precious"
    assert (out / name).is_symlink()


def test_a_lock_that_another_process_holds_is_respected_at_once(bank: Path, out: Path) -> None:
    before = contents(out)
    descriptor = os.open(out, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    assert "is being written by another process" in refused(3, *fit(bank, out))
    os.close(descriptor)
    assert contents(out) == before
    assert featbank(*fit(bank, out)).exit_code == 0


SLOW_FIT = """
import sys, time, featbank.study.fitting
from cli.main import main
real = featbank.study.fitting.fit_head
def fit_head(*args, **more):
    print("fitting", flush=True)
    sys.stdin.read(1)
    return real(*args, **more)
featbank.study.fitting.fit_head = fit_head
main(sys.argv[1:])
"""


@pytest.mark.parametrize("there", [True, False])
def test_of_two_processes_the_second_is_refused(
    bank: Path, out: Path, tmp_path: Path, there: bool
) -> None:
    folder = out if there else tmp_path / "fresh"
    command = [sys.executable, "-c", SLOW_FIT, "fit", bank, "--head", "joint", "--out", folder]
    with subprocess.Popen(
        [*map(str, command), "--overwrite", "--quiet"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as first:  # fmt: skip
        assert first.stdout is not None
        assert first.stdout.readline() == "fitting\n"
        assert "is being written by another process" in refused(3, *fit(bank, folder))
        first.communicate("go")
    assert first.returncode == 0
    assert (folder / "joint.head").is_file()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 320 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=320k", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip("mounting a small disk is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_costs_nothing_and_is_one_line(bank: Path, disk: Path) -> None:
    """With room for nothing, for a folder, for a head, and so on until there is enough."""
    out = disk / "h"
    assert featbank("fit", bank, *OLD, "--out", out, "--quiet").exit_code == 0
    before, codes = contents(out), []
    for pages in range(40):
        free = os.statvfs(disk).f_bavail - pages
        (disk / "fill").write_bytes(bytes(4096 * max(free, 0)))
        done = featbank(*fit(bank, out))
        (disk / "fill").unlink()
        codes.append(done.exit_code)
        if done.exit_code == 0:
            break
        assert done.exit_code == 3, done.output
        (line,) = done.stderr.strip().splitlines()
        assert str(disk) in line
        assert contents(out) == before
        assert sorted(os.listdir(disk)) == ["h"]
    assert codes[-1] == 0
    assert len(codes) > 3
    assert sorted(contents(out)) == ["joint.head", "ncm.head", "results.json"]
