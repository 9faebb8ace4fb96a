"""Zip archives, as `.npz` and torch's files are: proven whole before anything of them is used.

numpy and torch read members of an archive in place, and torch never looks at their checksums. Here
every member is read once, piece by piece, and compared with its CRC-32, and the archive's own
records must agree with each other.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from featbank.errors import InputError

__all__ = ["UNREADABLE", "data_offset", "prove_archive"]

# A member's local header: signature, version, flags, method, time, date, CRC-32, compressed size,
# size, and the lengths of the name and of the extra field that follow.
LOCAL = struct.Struct("<4s5H3L2H")
# The last record: signature, two numbers of disks, members here and in all, size and place of their
# list, length of a comment.
END, END_SIGNATURE = struct.Struct("<4s4H2LH"), b"PK\x05\x06"
ENCRYPTED, SIZES_FOLLOW = 1, 8
# These values say that the size or the count stands in another field, in 64 bits.
SIZE_ELSEWHERE, COUNTED_ELSEWHERE = 0xFFFFFFFF, 0xFFFF

PIECE = 1 << 20

# How far compressed members may expand. Deflate reaches a thousandfold, and features rarely
# threefold. Labels in order expand far, but are small, and stay below the floor.
EXPANSION, EXPANSION_FLOOR = 100, 1 << 30

# The errors that zipfile, zlib and numpy raise on damaged bytes.
UNREADABLE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError,
    OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError,
    SyntaxError, MemoryError,
)  # fmt: skip


def prove_archive(
    path: Path, handle: BinaryIO, *, compressed: bool = True, checksums: bool = True
) -> list[zipfile.ZipInfo]:
    """Return an archive's members once all of it has proved sound.

    Memory stays at a few pieces of one MiB, whatever the members claim.

    Parameters
    ----------
    path : Path
        The archive's name, for messages.
    handle : BinaryIO
        The archive, open for reading.
    compressed : bool
        Whether deflated members are taken; torch writes none.
    checksums : bool
        Whether an archive without any checksum (all of them zero) is refused. torch can be told
        to write such archives.

    Raises
    ------
    InputError
        A checksum does not fit, records disagree, members overlap or come twice, bytes stand
        before or after the archive, or a member is encrypted, compressed by another method or
        expands beyond measure.
    """
    try:
        with zipfile.ZipFile(handle) as archive:
            members = archive.infolist()
            check_ends(path, handle, archive)
            check_members(path, handle, members, archive.start_dir, compressed=compressed)
            if checksums or any(member.CRC for member in members):
                for member in members:
                    check_checksum(path, archive, member)
    except InputError:
        raise
    except UNREADABLE as error:
        message = (
            f"{path} cannot be read as a zip archive; it is another file, or damaged ({error})"
        )
        raise InputError(message) from error
    return members


def refuse(path: Path, fault: str) -> InputError:
    """Return the error about an archive that is damaged."""
    return InputError(f"{path}: {fault}; the file is damaged: copy or save it again")


def check_ends(path: Path, handle: BinaryIO, archive: zipfile.ZipFile) -> None:
    """Refuse bytes before the first member and after the last record, and a list cut short.

    The last record counts the members. zipfile does not look: one flipped bit in the length of an
    entry's comment makes the entries after it part of that comment.
    """
    members = archive.infolist()
    handle.seek(-END.size - len(archive.comment), 2)
    signature, *_, count, _, _, _ = END.unpack(handle.read(END.size))
    if signature != END_SIGNATURE:
        raise refuse(path, "it goes on after its end")
    if count not in (len(members), COUNTED_ELSEWHERE):
        raise refuse(path, f"it has {count} members and lists {len(members)}")
    if min((member.header_offset for member in members), default=0):
        raise refuse(path, "it does not begin with its first member")


def check_members(
    path: Path,
    handle: BinaryIO,
    members: Sequence[zipfile.ZipInfo],
    stop: int,
    *,
    compressed: bool,
) -> None:
    """Refuse members that come twice, overlap, disagree with their own headers, or expand.

    Parameters
    ----------
    path : Path
        What a message calls the archive.
    handle : binary file
        The archive, open.
    members : sequence of zipfile.ZipInfo
        What its list of members says.
    stop : int
        Where that list begins, before which every member must end.
    compressed : bool
        Whether deflated members are allowed.

    Raises
    ------
    InputError
        The members are not what a program that writes archives leaves.
    """
    names = [member.filename for member in members]
    twice = sorted({name for name in names if names.count(name) > 1} if len(names) < 1000 else ())
    if twice or len(set(names)) < len(names):
        raise refuse(path, f"{', '.join(twice[:3]) or 'a member'} stands in it twice")
    reached = 0
    for member in sorted(members, key=lambda each: each.header_offset):
        if member.header_offset < reached:
            raise refuse(path, f"{member.filename} overlaps another member")
        check_method(path, member, compressed=compressed)
        reached = data_offset(path, handle, member) + member.compress_size
    if reached > stop:
        raise refuse(path, "its last member overlaps its list of members")
    size, expanded = handle.seek(0, 2), sum(member.file_size for member in members)
    if expanded > EXPANSION_FLOOR + EXPANSION * size:
        message = (
            f"{path}: {size:,} bytes expand to {expanded:,}, more than {EXPANSION} times as many "
            "and a GiB; if they should, save them uncompressed (numpy.savez)"
        )
        raise InputError(message)


def check_method(path: Path, member: zipfile.ZipInfo, *, compressed: bool) -> None:
    """Refuse members that are encrypted, or packed by another method than numpy writes."""
    allowed = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) if compressed else (zipfile.ZIP_STORED,)
    if member.flag_bits & ENCRYPTED or member.compress_type not in allowed:
        message = (
            f"{path}: {member.filename} is encrypted or packed in a way that its kind of file is "
            "not; save it again with the library that it comes from"
        )
        raise InputError(message)
    if member.compress_type == zipfile.ZIP_STORED and member.compress_size != member.file_size:
        raise refuse(path, f"{member.filename} has two sizes")


def data_offset(path: Path, handle: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Return where a member's bytes begin; its local header must say what the list says."""
    handle.seek(member.header_offset)
    fields = LOCAL.unpack(handle.read(LOCAL.size))
    _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = fields
    same = method == member.compress_type and not (flags ^ member.flag_bits) & (
        ENCRYPTED | SIZES_FOLLOW
    )
    if not flags & SIZES_FOLLOW:
        same = same and crc == member.CRC
        same = same and packed in (member.compress_size, SIZE_ELSEWHERE)
        same = same and size in (member.file_size, SIZE_ELSEWHERE)
    if not same:
        raise refuse(path, f"{member.filename} is described in two ways")
    return member.header_offset + LOCAL.size + int(name_length) + int(extra_length)


def check_checksum(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Read a member to its end; zipfile compares the CRC-32 then."""
    try:
        with archive.open(member) as opened:
            while opened.read(PIECE):
                pass
    except UNREADABLE as error:
        raise refuse(path, f"{member.filename} does not have its checksum") from error
