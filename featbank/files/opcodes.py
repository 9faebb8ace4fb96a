"""What a pickle would take, found by walking over its opcodes before any of them is run.

A few bytes of a pickle can ask for gigabytes: a memo of 2^26 places, a string of 2^40 bytes. And
one byte can make an empty set of 200 bytes. Neither needs code to be run, so that refusing names
does not help. The walk skips over contents, so that it costs by the number of opcodes and not by
the bytes of the arrays.
"""

from __future__ import annotations

import pickletools
from collections.abc import Mapping
from dataclasses import dataclass

from featbank.errors import InputError

__all__ = ["Survey", "survey"]

# Bytes that each opcode makes on CPython; an opcode that is not listed makes at most OTHER.
WEIGHTS: Mapping[str, int] = {
    "EMPTY_SET": 232, "FROZENSET": 232,
    "EMPTY_LIST": 72, "LIST": 120, "EMPTY_DICT": 80, "DICT": 232, "MARK": 72,
    "TUPLE": 64, "TUPLE1": 56, "TUPLE2": 64, "TUPLE3": 72,
    "REDUCE": 200, "NEWOBJ": 200, "NEWOBJ_EX": 200, "OBJ": 200, "INST": 200, "BUILD": 120,
    "PERSID": 200, "BINPERSID": 200, "LONG_BINPUT": 104, "SETITEM": 104,
    "BINGET": 16, "BINPUT": 24, "MEMOIZE": 24, "BININT1": 16, "NONE": 8, "NEWTRUE": 8,
    "NEWFALSE": 8, "EMPTY_TUPLE": 8, "APPEND": 8, "APPENDS": 8, "SETITEMS": 8, "ADDITEMS": 8,
    "POP": 0, "POP_MARK": 0, "PROTO": 0, "FRAME": 0, "STOP": 0,
}  # fmt: skip
OTHER = 40

# Everything that a pickle makes may take this many times its own bytes, and a little more. A list
# of small numbers or short strings takes 8 to 20 times.
FACTOR, FLOOR = 24, 64 << 20

LONGEST_INTEGER = 1024  # bytes; labels have eight

# The memo is an array as long as its largest index, which picklers count up by one.
INDEXES = {"PUT", "BINPUT", "LONG_BINPUT"}
FREE_INDEXES = 1 << 16

FIXED_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: (1, False),
    pickletools.TAKEN_FROM_ARGUMENT4: (4, True),
    pickletools.TAKEN_FROM_ARGUMENT4U: (4, False),
    pickletools.TAKEN_FROM_ARGUMENT8U: (8, False),
}
BY_CODE = {ord(op.code): op for op in pickletools.opcodes}


@dataclass(frozen=True)
class Survey:
    """Where a pickle ends, and the global names that it spells out, as ``builtins.set``."""

    end: int
    names: frozenset[str]


def survey(raw: bytes | memoryview, start: int = 0) -> Survey:
    """Walk over the opcodes of the pickle that begins at `start`.

    Raises
    ------
    InputError
        It is no pickle, is cut short, claims more bytes than there are, or would take far more
        memory than it has bytes. The message says which, and is the second half of a sentence.
    """
    at, weight, n_ops, names = start, 0, 0, set()
    while True:
        if at >= len(raw):
            message = "it is cut short"
            raise InputError(message)
        op = BY_CODE.get(raw[at])
        if op is None:
            message = f"it has no opcode {bytes(raw[at : at + 1])!r}"
            raise InputError(message)
        argument, at = at + 1, argument_end(raw, at + 1, op)
        n_ops += 1
        weight += WEIGHTS.get(op.name, OTHER)
        if op.name in INDEXES:
            check_index(bytes(raw[argument:at]), op.name, n_ops)
        elif op.name in ("GLOBAL", "INST"):
            module, name = bytes(raw[argument:at]).split(b"\n")[:2]
            names.add(f"{module.decode(errors='replace')}.{name.decode(errors='replace')}")
        if weight > FLOOR + FACTOR * (at - start):
            message = f"it would take far more memory than its {len(raw) - start:,} bytes"
            raise InputError(message)
        if op.name == "STOP":
            return Survey(at, frozenset(names))


def argument_end(raw: bytes | memoryview, at: int, op: pickletools.OpcodeInfo) -> int:
    """Return where an opcode's argument ends."""
    kind = op.arg
    if kind is None:
        return at
    if kind.n >= 0:
        end = at + kind.n
    elif kind.n == pickletools.UP_TO_NEWLINE:
        end = line_end(raw, at)
        end = line_end(raw, end) if op.name in ("GLOBAL", "INST") else end
    else:
        size, signed = FIXED_LENGTHS[kind.n]
        length = int.from_bytes(raw[at : at + size], "little", signed=signed)
        if length < 0 or (op.name == "LONG4" and length > LONGEST_INTEGER):
            message = "it has an integer or a string of an impossible length"
            raise InputError(message)
        end = at + size + length
    if end > len(raw):
        message = "it is cut short, or claims more bytes than there are"
        raise InputError(message)
    if op.name == "FRAME" and end + int.from_bytes(raw[at:end], "little") > len(raw):
        message = "it claims a frame of more bytes than there are"
        raise InputError(message)
    return end


def line_end(raw: bytes | memoryview, at: int) -> int:
    """Return where the line that begins at `at` ends."""
    piece = 256
    while at < len(raw):
        found = bytes(raw[at : at + piece]).find(b"\n")
        if found >= 0:
            return at + found + 1
        at += piece
    message = "it is cut short"
    raise InputError(message)


def check_index(raw: bytes, name: str, n_ops: int) -> None:
    """Refuse an index of the memo far beyond what the opcodes so far could have filled."""
    text = raw.strip()
    index = int.from_bytes(raw, "little") if name != "PUT" else int(text) if text.isdigit() else -1
    if not 0 <= index <= FREE_INDEXES + 2 * n_ops:
        message = f"it asks for place {index:,} of a memo that it has not filled"
        raise InputError(message)
