"""Result folders that are torn, foreign or made up end in one line with a path, and never hang."""

import copy
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cli.main import main
from featbank.comparing.cells import read_cell, write_cell
from featbank.results.saved import read_record, write_record
from tests.results_folder import Fake, write_results

SMALL = Fake(classes=4, banks=("one",), heads=("joint", "tau"), per_class=5, view=10, grid=8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_results(tmp_path_factory.mktemp("results"), SMALL)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "out"))


def report(folder: Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["report", str(folder), "--quiet"])
    return done.exit_code, done.stderr


def refused(folder: Path) -> str:
    code, said = report(folder)
    assert code in (3, 4), said
    assert str(folder) in said
    assert said.count("\n") == 1
    return said


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".npz"))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [pipe, loop, device, directory])
def test_what_is_no_file_is_refused_at_once_wherever_it_stands(
    folder: Path, change: Callable[[Path], None]
) -> None:
    read = [path for path in files(folder) if path.name != "cell.json"]
    assert len(read) == 7
    for path in read:
        raw = path.read_bytes()
        change(path)
        assert str(path) in refused(folder)
        path.rmdir() if change is directory else path.unlink()
        path.write_bytes(raw)
    assert report(folder)[0] == 0


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a JSON value, two entries of each list."""
    inner = value.items() if isinstance(value, dict) else []
    inner = enumerate(value[:2]) if isinstance(value, list) else inner
    for key, each in inner:
        yield (*path, key)
        yield from places(each, (*path, key))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    out = copy.deepcopy(value)
    inside = out
    for key in path[:-1]:
        inside = inside[key]
    if new is ...:
        del inside[path[-1]]
    else:
        inside[path[-1]] = new
    return out


@pytest.mark.parametrize("name", ["compare.json", "banks/one/bank.json"])
def test_an_object_of_other_kinds_is_no_internal_error(folder: Path, name: str) -> None:
    path = folder / name
    honest = json.loads(path.read_text())
    for count, place in enumerate(places(honest)):
        for new in (..., [None, -1, "x", [], {}, 2**70, [[1]], {"a": 1}][count % 8]):
            path.write_text(json.dumps(changed(honest, place, new)))
            code, said = report(folder)
            assert code in (0, 3, 4), (place, new, said)
            assert code == 0 or str(folder) in said or "compare.json" in said, said


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[1]", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b'{"schema": 1e999}',
     b'{"schema": 1, "settings": {}, "banks": [], "heads": [], "results": []}', b"9" * 5_000],
)  # fmt: skip
def test_a_torn_or_foreign_object_is_refused(folder: Path, raw: bytes) -> None:
    for name in ("compare.json", "banks/one/bank.json"):
        honest = (folder / name).read_bytes()
        (folder / name).write_bytes(raw)
        refused(folder)
        (folder / name).write_bytes(honest)


ODD_ARRAYS = {
    "empty": lambda a: a[:0],
    "flat": lambda a: a.ravel(),
    "deep": lambda a: a[None],
    "text": lambda a: a.astype("U8"),
    "not finite": lambda a: np.full(a.shape, np.nan),
    "negative": lambda a: np.full(a.shape, -7),
    "far": lambda a: np.full(a.shape, 2**40),
    "one number": lambda a: np.array(3),
}


@pytest.mark.parametrize("kind", ODD_ARRAYS)
def test_arrays_of_other_kinds_are_no_internal_error(folder: Path, kind: str) -> None:
    for path in files(folder):
        if path.suffix == ".npz" and path.name != "tsne.npz":
            raw = path.read_bytes()
            with np.load(path) as file:
                honest = dict(file)
            for name, value in honest.items():
                np.savez(path, **{**honest, name: ODD_ARRAYS[kind](value)})
                code, said = report(folder)
                assert code in (0, 3, 4), (path.name, name, said)
                assert code == 0 or str(folder) in said or "cells/" in said, said
            path.write_bytes(raw)


def test_an_archive_that_expands_is_refused_before_it_does(folder: Path) -> None:
    path = folder / "banks/one/view.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.npy", bytes(1 << 22))
    assert f"{path}: labels.npy is encrypted or packed" in refused(folder)


def test_a_cells_record_is_read_only_where_it_is_one(tmp_path: Path) -> None:
    cell = tmp_path / "cell"
    write_cell(cell, {"a": 1}, {"x.npz": b"content"})
    assert read_cell(cell)[1] is None
    for names in (["../x.npz"], 3, {"/etc/hostname": "0"}, {"../cell/x.npz": "0"}):
        write_cell(tmp_path / "odd", {"a": 1}, {})
        write_record(tmp_path / "odd" / "cell.json", {"files": names})
        record, complaint = read_cell(tmp_path / "odd")
        assert record is None
        assert complaint == f"{tmp_path / 'odd' / 'cell.json'} is no record of a comparison"
        shutil.rmtree(tmp_path / "odd")
    for change in (pipe, loop, device):
        raw = (cell / "x.npz").read_bytes()
        change(cell / "x.npz")
        assert read_cell(cell) == (None, f"{cell / 'x.npz'} is damaged or missing")
        (cell / "x.npz").unlink()
        (cell / "x.npz").write_bytes(raw)
    pipe(cell / "cell.json")
    assert read_record(cell / "cell.json") is None
    assert read_cell(cell) == (None, f"{cell / 'cell.json'} is damaged or missing")
