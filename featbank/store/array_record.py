"""What a manifest says of one array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from featbank.store.chunks import ChunkRecord, chunk_file
from featbank.store.strict_json import digest, whole

__all__ = ["ArrayRecord"]


@dataclass(frozen=True)
class ArrayRecord:
    """One array of a bank.

    Parameters
    ----------
    shape : tuple of int
        An array of three axes is one of views, (K, N, D): each view is cut into chunks of rows.
    dtype : str
        The stored dtype, "string" for ids.
    chunk_rows : int
        Rows of a full chunk.
    metadata_sha256 : str
        Digest of the array's metadata file.
    chunks : tuple of ChunkRecord
        In the order of rows, those of the first view first.
    view : int, optional
        Which view a record is of, where it is of one alone.
    """

    shape: tuple[int, ...]
    dtype: str
    chunk_rows: int
    metadata_sha256: str
    chunks: tuple[ChunkRecord, ...]
    view: int | None = None

    def __post_init__(self) -> None:
        if not self.shape or min(self.shape) < 1 or self.chunk_rows < 1:
            message = f"shape {self.shape} in chunks of {self.chunk_rows} rows"
            raise ValueError(message)
        if self.n_views * -(-self.n_rows // self.chunk_rows) != len(self.chunks):
            message = f"{len(self.chunks)} chunks of {self.chunk_rows} rows for {self.shape}"
            raise ValueError(message)
        starts = range(0, self.n_rows, self.chunk_rows)
        rows = [(start, min(start + self.chunk_rows, self.n_rows)) for start in starts]
        if rows * self.n_views != [(chunk.start, chunk.stop) for chunk in self.chunks]:
            message = f"chunks do not cover {self.n_rows} rows in steps of {self.chunk_rows}"
            raise ValueError(message)

    @property
    def n_views(self) -> int:
        """K of an array of views; 1 of any other."""
        return self.shape[0] if len(self.shape) == 3 else 1

    @property
    def n_rows(self) -> int:
        """N."""
        return self.shape[1] if len(self.shape) == 3 else self.shape[0]

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self.shape[2:] if len(self.shape) == 3 else self.shape[1:]

    def of_view(self, view: int) -> ArrayRecord:
        """Return the record of one view: an array (N, D)."""
        per_view = len(self.chunks) // self.n_views
        chunks = self.chunks[view * per_view : (view + 1) * per_view]
        return replace(self, shape=self.shape[1:], chunks=chunks, view=view)

    def place(self, index: int) -> tuple[int | None, int]:
        """Return the view (None where there are none) and the number along the rows of a chunk."""
        if len(self.shape) == 3:
            return divmod(index, len(self.chunks) // self.n_views)
        return self.view, index

    def file(self, array: Path, index: int) -> Path:
        """Return the path of a chunk of the array in folder `array`."""
        view, row = self.place(index)
        return chunk_file(array, row, 1 + len(self.row_shape), view)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> ArrayRecord:
        """Build from parsed JSON; any other form is a KeyError, TypeError or ValueError."""
        chunks = tuple(
            ChunkRecord(whole(a), whole(b), whole(crc), digest(sha))
            for a, b, crc, sha in raw["chunks"]
        )
        shape = tuple(whole(n) for n in raw["shape"])
        dtype, step = str(raw["dtype"]), whole(raw["chunk_rows"])
        return cls(shape, dtype, step, digest(raw["metadata_sha256"]), chunks)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types; a chunk is [first row, row after its last, crc32c, sha256]."""
        chunks = [[c.start, c.stop, c.crc32c, c.sha256] for c in self.chunks]
        plain = {key: value for key, value in asdict(self).items() if key != "view"}
        return {**plain, "shape": list(self.shape), "chunks": chunks}
