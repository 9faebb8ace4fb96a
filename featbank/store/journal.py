"""What an unfinished bank remembers: what it is to become, and the chunks it has so far.

One line of JSON each, framed by the line's own checksum, so that a line torn by a kill is seen and
dropped. The journal claims; only a chunk whose file matches its claim counts as done.

Of several processes each has a journal of its own. Whoever goes on first gathers them into one, so
what stands in another process's journal is newer than what stands in the first's.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c

from featbank.errors import NotABankError
from featbank.files.atomic import replace_file
from featbank.files.plain_files import read_plain
from featbank.store.chunks import ChunkRecord
from featbank.store.schema import FORMAT, JOURNAL, RANK_JOURNAL, SPLIT_NAME
from featbank.store.strict_json import digest, parse, whole

__all__ = ["Claims", "Journal", "begun_plan", "claim", "rank_journals", "read_journal"]

# Some hundred bytes for each chunk, and the plan.
JOURNAL_BYTES = 256 << 20

Claims = dict[tuple[str, int], ChunkRecord]


class Journal:
    """Appends lines; the first is the plan. Process number `rank` of a job writes it."""

    def __init__(self, store: Path, rank: int = 0) -> None:
        self.path = store / (RANK_JOURNAL.format(rank) if rank else JOURNAL)
        # Another process's journal is a new file: whatever has its name already is not followed.
        self.flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self.new = os.O_CREAT | os.O_EXCL if rank else 0

    def begin(self, plan: Mapping[str, Any], claims: Claims) -> None:
        """Start anew with the plan and what is there, in one rename; without other journals."""
        lines = [line_of(array, index, chunk) for (array, index), chunk in claims.items()]
        text = b"".join([frame({"plan": plan}), *lines])
        replace_file(self.path, lambda part: part.write_bytes(text))
        for other in rank_journals(self.path.parent):
            other.unlink()

    def record(self, array: str, index: int, chunk: ChunkRecord) -> None:
        """Claim that a chunk is written.

        The claim begins with a line end of its own, in case a kill tore the line before it.
        """
        descriptor = os.open(self.path, self.flags | self.new, 0o666)
        self.new = 0
        with open(descriptor, "ab", buffering=0) as handle:
            handle.write(b"\n" + line_of(array, index, chunk))


def rank_journals(store: Path) -> list[Path]:
    """Return the journals of a job's other processes; a file of such a name may be another's."""
    pattern = re.compile(RANK_JOURNAL.format("[1-9][0-9]*").replace(".", r"\."))
    found = [store / name for name in os.listdir(store) if pattern.fullmatch(name)]
    return sorted(path for path in found if is_rank_journal(store, path))


def is_rank_journal(store: Path, path: Path) -> bool:
    """Tell whether a file begins as such a journal does, whole or torn by a kill."""
    try:
        raw = read_plain(store, path, JOURNAL_BYTES)
    except OSError:
        return False
    return re.match(rb"\n[0-9a-f]{8} |\n?[0-9a-f]{0,8}\Z", raw) is not None


def line_of(array: str, index: int, chunk: ChunkRecord) -> bytes:
    """Return the line that claims a chunk."""
    values = [array, index, chunk.start, chunk.stop, chunk.crc32c, chunk.sha256]
    return frame({"chunk": values})


def frame(value: Mapping[str, Any]) -> bytes:
    """Return one line: eight hexadecimal digits of checksum, a space, the JSON text."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return b"%08x %s\n" % (google_crc32c.value(text), text)


def unframe(raw: bytes) -> Iterator[dict[str, Any]]:
    """Yield the lines that are whole."""
    for line in raw.split(b"\n"):
        checksum, _, text = line.partition(b" ")
        if checksum and checksum == b"%08x" % google_crc32c.value(text):
            yield parse(text)


def read_journal(store: Path) -> tuple[dict[str, Any], Claims]:
    """Return the plan of the unfinished bank at `store`, and the chunks that it claims."""
    path = store / JOURNAL
    try:
        lines = list(unframe(read_plain(store, path, JOURNAL_BYTES)))
        plan = plan_in(lines)
        for each in rank_journals(store):
            lines += unframe(read_plain(store, each, JOURNAL_BYTES))
        claims = dict(claim(line["chunk"]) for line in lines if "chunk" in line)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise NotABankError(message) from error
    except (ValueError, TypeError, RecursionError) as error:
        message = f"{path} is torn: begin again with --overwrite"
        raise NotABankError(message) from error
    if plan is None:
        message = (
            f"{path} does not say what bank it is of, or is torn: move {store} away, or choose "
            "another path for --out"
        )
        raise NotABankError(message)
    return plan, claims


def begun_plan(store: Path) -> dict[str, Any] | None:
    """Return the plan of the unfinished bank in a folder; None where there is none of ours."""
    try:
        return plan_in(list(unframe(read_plain(store, store / JOURNAL, JOURNAL_BYTES))))
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def plan_in(lines: Sequence[Any]) -> dict[str, Any] | None:
    """Return the plan that a journal's lines hold; None where it is no plan of a bank."""
    plans = [line["plan"] for line in lines if isinstance(line, dict) and "plan" in line]
    return plans[0] if len(plans) == 1 and is_plan(plans[0]) else None


def is_plan(plan: Any) -> bool:
    """Tell whether a value is what `BankPlan.identity` returns."""
    try:
        whole(plan["dim"]), whole(plan["n_chunks"])
        rows = {name: digest(value) for name, value in plan["rows"].items()}
        return plan["format"] == FORMAT and all(re.fullmatch(SPLIT_NAME, name) for name in rows)
    except (KeyError, TypeError, AttributeError, ValueError):
        return False


def claim(values: Sequence[Any]) -> tuple[tuple[str, int], ChunkRecord]:
    """Build one claim; any other form is a ValueError or TypeError."""
    array, index, start, stop, crc, sha = values
    record = ChunkRecord(whole(start), whole(stop), whole(crc), digest(sha))
    return (str(array), whole(index)), record
