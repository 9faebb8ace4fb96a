"""What an unfinished bank remembers: what it is to become, and the chunks it has so far.

One line of JSON each, framed by the line's own checksum, so that a line torn by a kill is seen and
dropped. The journal claims; only a chunk whose file matches its claim counts as done.

Of several processes each has a journal of its own. Whoever goes on first gathers them into one, so
what stands in another process's journal is newer than what stands in the first's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c

from featbank._chunks import ChunkRecord
from featbank._layout import digest, parse, whole
from featbank._plain import read_plain
from featbank.errors import NotABankError
from featbank.schema import JOURNAL, RANK_JOURNALS

__all__ = ["Claims", "Journal", "claim", "rank_journals", "read_journal"]

# Some hundred bytes for each chunk, and the plan.
JOURNAL_BYTES = 256 << 20

Claims = dict[tuple[str, int], ChunkRecord]


class Journal:
    """Appends lines; the first is the plan. Process number `rank` of a job writes it."""

    def __init__(self, store: Path, rank: int = 0) -> None:
        self.path = store / (RANK_JOURNALS.replace("*", str(rank)) if rank else JOURNAL)

    def begin(self, plan: Mapping[str, Any], claims: Claims) -> None:
        """Start anew with the plan and what is there, in one rename; without other journals."""
        lines = [line_of(array, index, chunk) for (array, index), chunk in claims.items()]
        part = self.path.with_name(f".{JOURNAL}.partial")
        part.write_bytes(b"".join([frame({"plan": plan}), *lines]))
        part.replace(self.path)
        for other in rank_journals(self.path.parent):
            other.unlink()

    def record(self, array: str, index: int, chunk: ChunkRecord) -> None:
        """Claim that a chunk is written.

        The claim begins with a line end of its own, in case a kill tore the line before it.
        """
        with self.path.open("ab", buffering=0) as handle:
            handle.write(b"\n" + line_of(array, index, chunk))


def rank_journals(store: Path) -> list[Path]:
    """Return the journals of a job's other processes."""
    return sorted(store.glob(RANK_JOURNALS))


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
        paths = [path, *rank_journals(store)]
        raw = b"\n".join(read_plain(store, each, JOURNAL_BYTES) for each in paths)
        lines = list(unframe(raw))
        (plan,) = (line["plan"] for line in lines if "plan" in line)
        claims = dict(claim(line["chunk"]) for line in lines if "chunk" in line)
        return {**plan}, claims
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise NotABankError(message) from error
    except (ValueError, TypeError, RecursionError) as error:
        message = f"{path} is torn: begin again with --overwrite"
        raise NotABankError(message) from error


def claim(values: Sequence[Any]) -> tuple[tuple[str, int], ChunkRecord]:
    """Build one claim; any other form is a ValueError or TypeError."""
    array, index, start, stop, crc, sha = values
    record = ChunkRecord(whole(start), whole(stop), whole(crc), digest(sha))
    return (str(array), whole(index)), record
