"""A file that a user names is opened only where it is a regular file, and never waited for."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from featbank import InputError, MissingFileError
from featbank.files.plain_files import open_regular


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def named_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def link_to_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


NOT_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "x is a named pipe"),
    "folder": (Path.mkdir, "x is a folder"),
    "socket": (named_socket, "x is a socket"),
    "device": (lambda path: path.symlink_to(os.devnull), "x is a device"),
    "link to a pipe": (link_to_pipe, "x is a named pipe"),
    "link to itself": (loop, "x cannot be opened: Too many levels of symbolic links"),
    "nothing": (lambda path: None, "x does not exist"),
    "link to nothing": (lambda path: path.symlink_to("gone"), "x does not exist"),
}


@pytest.mark.parametrize("kind", NOT_FILES)
def test_what_is_no_regular_file_is_refused_at_once(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path may only be short
    make, said = NOT_FILES[kind]
    make(Path("x"))
    with pytest.raises(InputError, match=f"^{said}"):
        open_regular("x")


def test_a_missing_file_is_a_missing_file_and_odd_paths_are_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "gone", tmp_path / "file" / "below"):
        with pytest.raises(MissingFileError, match="does not exist"):
            open_regular(path)
    for path in ("a\0b", "n" * 300):
        with pytest.raises(InputError, match="cannot be"):
            open_regular(path)


def test_a_regular_file_is_read_also_through_links(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "folder").symlink_to(tmp_path)
    for path in ("file", "link", "folder/link"):
        with open_regular(tmp_path / path) as handle:
            assert handle.read() == b"content"
