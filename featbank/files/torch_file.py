"""Files of `torch.save`, checked before torch reads them.

torch compares no checksum of its archives, unpacks compressed members of whatever size, and its
restricted unpickler still makes what the opcodes ask for. All of that is looked at here first.
"""

from __future__ import annotations

import mmap
import zipfile
from pathlib import Path
from typing import BinaryIO

from featbank.errors import InputError
from featbank.files.archive import data_offset, prove_archive
from featbank.files.opcodes import survey
from featbank.files.plain_files import open_regular

__all__ = ["prove_torch_file"]

ZIP_SIGNATURE = b"PK\x03\x04"

# A file of before torch 1.6 begins with four bytes of a pickled constant, the protocol, facts about
# the machine, the object, and the keys of its tensors: five pickles, then the tensors' bytes.
LEGACY_SIGNATURE = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
LEGACY_PICKLES = 5

# torch's unpickler calls these with any number, so that one call can fill the memory.
UNBOUNDED = {"builtins.bytearray", "__builtin__.bytearray"}


def prove_torch_file(path: Path) -> frozenset[str]:
    """Check a file before `torch.load` reads it.

    Returns
    -------
    frozenset of str
        The names that its pickles ask for, as ``collections.OrderedDict``.

    Raises
    ------
    MissingFileError, InputError
        It is missing, no regular file, damaged, compressed, or its pickle would take far more
        memory than it has bytes.
    """
    with open_regular(path) as handle:
        if handle.read(len(ZIP_SIGNATURE)) == ZIP_SIGNATURE:
            members = prove_archive(path, handle, compressed=False, checksums=False)
            spans = [pickle_span(path, handle, each) for each in members if is_pickle(each)]
        else:
            spans = [(0, handle.seek(0, 2))]
        found = [survey_span(path, handle, start, stop) for start, stop in spans]
    return frozenset().union(*found)


def is_pickle(member: zipfile.ZipInfo) -> bool:
    """Tell whether a member of an archive is what torch unpickles."""
    return member.filename.endswith(".pkl")


def pickle_span(path: Path, handle: BinaryIO, member: zipfile.ZipInfo) -> tuple[int, int]:
    """Return where a member's bytes begin and end."""
    start = data_offset(path, handle, member)
    return start, start + member.file_size


def survey_span(path: Path, handle: BinaryIO, start: int, stop: int) -> frozenset[str]:
    """Walk over the pickle, or the pickles of a legacy file, between two places of a file.

    Parameters
    ----------
    path : Path
        What a message calls the file.
    handle : binary file
        The file, open.
    start, stop : int
        Where the pickle begins and ends.

    Returns
    -------
    frozenset of str
        The names that the pickles ask for.

    Raises
    ------
    InputError
        It is no pickle, or one that would take far more memory than it has bytes.
    """
    names: frozenset[str] = frozenset()
    if start == stop:
        message = f"{path} is no file of torch.save (it is empty)"
        raise InputError(message)
    with (
        mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as whole,
        whole[start:stop] as raw,
    ):
        legacy = LEGACY_SIGNATURE in bytes(raw[:32])
        at = 0
        try:
            for _ in range(LEGACY_PICKLES if legacy else 1):
                found = survey(raw, at)
                at, names = found.end, names | found.names
                if found.names & UNBOUNDED:
                    message = "it asks for a bytearray, which may be of any size"
                    raise InputError(message)
        except InputError as error:
            message = f"{path} is no file of torch.save ({error})"
            raise InputError(message) from error
    return names
