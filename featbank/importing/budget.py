"""The memory that an import may take: a small multiple of the size of its files."""

from __future__ import annotations

from dataclasses import dataclass

from featbank.errors import InputError

__all__ = ["ROW_BYTES", "Budget"]

# Labels, ids and joined arrays are held in memory. An import may take FACTOR times the bytes of its
# files: ids of one letter, for example, become Python strings of fifty bytes. FLOOR is allowed to
# small compressed files too, which expand further: 32 million labels in order deflate to 250 KB.
FACTOR, FLOOR = 16, 256 << 20

# Bytes that a row takes beside its features: a label of eight bytes and an id of a few letters.
ROW_BYTES = 100


@dataclass
class Budget:
    """Counts what is held in memory, for files that have `file_bytes` together."""

    file_bytes: int
    taken: int = 0

    def take(self, n_bytes: int, what: str) -> None:
        """Count bytes that are about to be held; `what` begins the message.

        Raises
        ------
        InputError
            They are more than the files' sizes allow.
        """
        self.taken += n_bytes
        if self.taken > FLOOR + FACTOR * self.file_bytes:
            message = (
                f"{what} would take {self.taken / 1e9:.2f} GB of memory, from "
                f"{self.file_bytes:,} bytes of files; if that is right, save the arrays "
                "uncompressed, features in rows (C order)"
            )
            raise InputError(message)
