"""Files beside a command's result, --json and --markdown: what they may replace and what not."""

import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import heads
from featbank import Bank
from heads.errors import HeadInputError
from tests.banks import write_bank, write_npz
from tests.commands import contents, featbank, refused

NCM = ("--head", "ncm")


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    write_npz(folder / "f.npz")
    path = write_bank(folder / "bank.zarr").path
    featbank("fit", path, *NCM, "--out", folder / "h", "--quiet")
    featbank("compare", path, *NCM, "--out", folder / "c", "--quiet")
    return path


def commands(bank: Path, place: Path) -> dict[str, tuple[Any, ...]]:
    """Return every command that has --json, but demo and those that take long."""
    source = bank.parent
    return {
        "info": ("info", bank),
        "verify": ("verify", bank, "--quiet"),
        "evaluate": ("evaluate", bank, source / "h" / "ncm.head", "--quiet"),
        "sweep": ("sweep", bank, "--grid", "0:1:0.5", "--quiet"),
        "report": ("report", source / "c", "--quiet"),
        "import": ("import", source / "f.npz", "--out", place / "b.zarr", "--quiet"),
        "fit": ("fit", bank, *NCM, "--out", place / "h", "--quiet"),
        "compare": ("compare", bank, *NCM, "--out", place / "c", "--quiet"),
    }  # fmt: skip


NAMES = ("info", "verify", "evaluate", "sweep", "report", "import", "fit", "compare")


@pytest.mark.parametrize("name", NAMES)
def test_json_replaces_what_featbank_wrote_when_asked_to(
    bank: Path, tmp_path: Path, name: str
) -> None:
    target = tmp_path / "new" / "x.json"
    for others in ("info", name):  # another command's JSON is featbank's too
        command = commands(bank, tmp_path / others)[others]
        assert featbank(*command, "--json", target, "--overwrite").exit_code == 0
    assert json.loads(target.read_text())["schema"] == 1
    before = contents(tmp_path)
    command = commands(bank, tmp_path / "again")[name]
    line = refused(3, *command, "--json", target)
    assert "x.json exists; choose another path for --json, or add --overwrite" in line
    assert contents(tmp_path) == before


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)  # a socket's name is at most 108 letters long
        made.bind(path.name)


STRANGERS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("thesis"),
    "other JSON": lambda path: path.write_text('{"schema": 1, "bank": "mine"}'),
    "a list": lambda path: path.write_text("[1]"),
    "nothing": lambda path: path.touch(),
    "a link": lambda path: path.symlink_to("victim"),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a socket": make_socket,
}


@pytest.mark.parametrize("name", ["info", "fit", "compare", "import"])
@pytest.mark.parametrize("kind", STRANGERS)
def test_what_featbank_did_not_write_is_never_replaced(
    bank: Path, tmp_path: Path, kind: str, name: str
) -> None:
    featbank("info", bank, "--json", tmp_path / "victim")
    target = tmp_path / "target"
    STRANGERS[kind](target)
    before = contents(tmp_path), sorted(os.listdir(tmp_path))
    command = commands(bank, tmp_path)[name]
    line = refused(3, *command, "--json", target, "--overwrite")
    assert str(target) in line
    assert (contents(tmp_path), sorted(os.listdir(tmp_path))) == before  # nothing was begun


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A device of our own: should a test fail as root, the machine keeps its /dev/null."""
    path = tmp_path / "null"
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("making a device is not permitted here")
    return path


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
@pytest.mark.parametrize("name", NAMES)
def test_devices_are_not_written_to(
    bank: Path, tmp_path: Path, device: Path, name: str, overwrite: tuple[str, ...]
) -> None:
    command = commands(bank, tmp_path)[name]
    line = refused(3, *command, "--json", device, *overwrite)
    assert "null is a pipe, socket or device" in line
    assert os.listdir(tmp_path) == ["null"]
    assert stat.S_ISCHR(device.lstat().st_mode)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small network."""
    from featbank.data import open_data
    from tests.faults.kills import COUNTS, write_network
    from tests.test_stage1.images import write_data

    folder = tmp_path_factory.mktemp("network")
    spec = {"name": "imagelist", "params": write_data(folder / "data", COUNTS)}
    write_network(folder / "run", spec, open_data(**spec))
    return folder / "run"


@pytest.mark.parametrize("more", [(), ("--overwrite",), ("--overwrite", "--replace-in-place")])
@pytest.mark.parametrize("name", ["import", "export", "train", "extract"])
def test_a_device_is_no_place_for_a_result(
    bank: Path, network: Path, tmp_path: Path, device: Path, name: str, more: tuple[str, ...]
) -> None:
    words = {
        "import": (bank.parent / "f.npz",),
        "export": (bank,),
        "train": ("--data", "digits-lt", "--epochs", "5", "--device", "cpu"),
        "extract": (network, "--which", "last", "--device", "cpu"),
    }
    line = refused(3, name, *words[name], "--out", device, "--quiet", *more)
    assert str(device) in line
    assert os.listdir(tmp_path) == ["null"]
    assert stat.S_ISCHR(device.lstat().st_mode)


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_a_device_is_no_place_for_heads_tables_and_figures(
    bank: Path, tmp_path: Path, device: Path, overwrite: tuple[str, ...]
) -> None:
    compare = ("compare", bank, *NCM, "--quiet", "--out")
    for command in (
        ("fit", bank, *NCM, "--quiet", "--out", device),
        (*compare, device),
        (*compare, tmp_path / "c", "--markdown", device),
        (*compare, tmp_path / "c", "--figures", device),
        ("demo", "--quiet", "--out", device),
    ):
        assert str(device) in refused(3, *command, *overwrite)
    report = refused(3, "report", bank.parent / "c", "--figures", device)
    assert str(device) in report
    with pytest.raises(HeadInputError, match="null exists and is no head"):
        heads.save(heads.load(bank.parent / "h" / "ncm.head"), device)
    assert os.listdir(tmp_path) == ["null"]
    assert stat.S_ISCHR(device.lstat().st_mode)


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_a_banks_own_files_are_never_replaced(
    bank: Path, tmp_path: Path, overwrite: tuple[str, ...]
) -> None:
    mine = write_bank(tmp_path / "b.zarr").path
    before = contents(mine)
    for file in (mine / "zarr.json", mine / "train" / "zarr.json", mine / "val/labels/c/0"):
        for command in (("info", mine), ("verify", mine), ("sweep", bank, "--quiet")):
            refused(3, *command, "--json", file, *overwrite)
    assert contents(mine) == before
    Bank.open(mine)


def test_the_record_of_a_folder_is_never_replaced(bank: Path, tmp_path: Path) -> None:
    """It would leave the heads, or the cells, without it."""
    heads, compared = tmp_path / "h", tmp_path / "c"
    featbank("fit", bank, *NCM, "--out", heads, "--quiet")
    featbank("compare", bank, *NCM, "--out", compared, "--quiet")
    before = contents(tmp_path)
    for file in (heads / "results.json", compared / "compare.json"):
        assert "not written by featbank" in refused(
            3, "evaluate", bank, heads / "ncm.head", "--json", file, "--overwrite"
        )
    assert contents(tmp_path) == before


def test_a_copy_beside_the_record_of_a_folder_is_replaced(bank: Path, tmp_path: Path) -> None:
    out = tmp_path / "h"
    for _ in range(2):
        done = featbank(
            "fit", bank, *NCM, "--out", out, "--json", out / "copy.json", "--overwrite", "--quiet"
        )
        assert done.exit_code == 0
    assert (out / "copy.json").read_bytes() == (out / "results.json").read_bytes()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("fit", "h"), ("fit", "h/results.json"), ("fit", "h/../h/results.json"),
        ("fit", "h/x.head"), ("fit", "h/.featbank-unfinished"), ("fit", "h/.featbank-replaced"),
        ("compare", "c/compare.json"), ("compare", "c/cells/x"), ("compare", "c/report.html"),
        ("compare", "c/banks"), ("import", "b.zarr/zarr.json"), ("import", "b.zarr/train/x.json"),
        ("import", "."),
    ],
)  # fmt: skip
def test_two_names_for_one_file_are_refused_as_usage(
    bank: Path, tmp_path: Path, name: str, file: str
) -> None:
    command = commands(bank, tmp_path)[name]
    line = refused(2, *command, "--json", tmp_path / file, "--overwrite")
    assert "names what --out writes; choose another path for it" in line
    assert list(tmp_path.iterdir()) == []


def test_json_and_markdown_are_two_files(bank: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(tmp_path)
    command = commands(bank, tmp_path)["compare"]
    more = ("--json", tmp_path / "x", "--markdown", tmp_path / "way" / "x")
    assert "names what --json writes" in refused(2, *command, *more)


def test_json_may_lie_in_out(bank: Path, tmp_path: Path) -> None:
    out = tmp_path / "h"
    for more in ((), ("--overwrite",)):
        command = ("fit", bank, *NCM, "--out", out, "--json", out / "sub" / "r.json", *more)
        assert featbank(*command).exit_code == 0
    assert sorted(contents(out)) == ["ncm.head", "results.json", "sub/r.json"]
    assert (out / "sub" / "r.json").read_text() == (out / "results.json").read_text()


def test_a_folder_that_cannot_hold_the_file_is_said_before(bank: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    command = commands(bank, tmp_path)["fit"]
    line = refused(3, *command, "--json", tmp_path / "file" / "x.json")
    assert f"{tmp_path / 'file'} is no folder" in line
    assert not (tmp_path / "h").exists()


def test_markdown_is_known_again_by_its_mark(bank: Path, tmp_path: Path) -> None:
    page = tmp_path / "t.md"
    command = (*commands(bank, tmp_path)["compare"], "--markdown", page)
    assert featbank(*command).exit_code == 0
    assert page.read_text().endswith("<!-- made by featbank compare -->\n")
    assert "exists; choose another path for --markdown" in refused(3, *command)
    assert featbank(*command, "--overwrite").exit_code == 0
    page.write_text("my notes")
    assert "was not written by featbank" in refused(3, *command, "--overwrite")
    assert page.read_text() == "my notes"


@pytest.mark.parametrize("name", [".x.json.partial", "x.json"])
def test_a_planted_link_is_not_followed(bank: Path, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / name).symlink_to(victim)
    featbank("info", bank, "--json", tmp_path / "x.json", "--overwrite")
    assert victim.read_text() == "precious"
    assert (tmp_path / name).is_symlink()
