"""The manifest: what a complete bank holds, committed last, and the only word that counts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from featbank.errors import DamagedError, NotABankError
from featbank.files.atomic import replace_file, sync
from featbank.files.plain_files import read_plain
from featbank.store.chunks import ChunkRecord, chunk_file
from featbank.store.format_checks import check_layout, digest, parse, text, whole
from featbank.store.journal import rank_journals
from featbank.store.schema import ATTRIBUTE, FORMAT, JOURNAL, MANIFEST, SPLIT_NAME
from heads.canonical import canonical
from heads.metrics.shots import Shots

# Some hundred bytes for each chunk of a bank and each image that was left out.
MANIFEST_BYTES = 256 << 20

__all__ = ["ArrayRecord", "Manifest", "commit"]


@dataclass(frozen=True)
class ArrayRecord:
    """One array: shape, dtype ("string" for ids), rows of a full chunk, metadata and chunks.

    An array of three axes is one of views, (K, N, D): each view is cut into chunks of rows, and
    the chunks of the first view come first. `view` tells which of them a record is of alone.
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


@dataclass(frozen=True)
class Manifest:
    """Everything that a complete bank says of itself.

    `arrays` and `groups` record every file of the store but the root's own metadata, which holds
    this manifest and its digest; `rows` is the digest of each split's ids and labels, in order;
    `batch` is the number of rows that were computed together.
    """

    arrays: Mapping[str, ArrayRecord]
    class_names: Sequence[str]
    class_counts: Sequence[int]
    shots: Shots = field(default_factory=Shots)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    skipped: Mapping[str, Sequence[str]] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, str] = field(default_factory=dict)
    batch: int = 1

    def body(self) -> dict[str, Any]:
        """Return the manifest as JSON, without its digest."""
        return {
            "format": FORMAT,
            "complete": True,
            "arrays": {name: record.to_json() for name, record in self.arrays.items()},
            "class_names": list(self.class_names),
            "class_counts": [int(count) for count in self.class_counts],
            "shots": self.shots.to_json(),
            "provenance": dict(self.provenance),
            "skipped": {name: list(ids) for name, ids in self.skipped.items()},
            "groups": dict(self.groups),
            "rows": dict(self.rows),
            "batch": self.batch,
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical body: two banks with the same digest are the same bank."""
        return hashlib.sha256(canonical(self.body())).hexdigest()

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits: train, val and test first, then others by name."""
        names = {name.split("/")[0] for name in self.arrays if name.endswith("/features")}
        first = tuple(name for name in ("train", "val", "test") if name in names)
        return (*first, *sorted(names - set(first)))

    def files(self) -> Iterator[Path]:
        """Yield every file of the bank but the manifest, relative to the store."""
        for name in (*self.groups, *self.arrays):
            yield Path(name, "zarr.json")
        for name, record in self.arrays.items():
            yield from (record.file(Path(name), index) for index in range(len(record.chunks)))

    @classmethod
    def read(cls, store: Path) -> Manifest:
        """Read and check the manifest of the bank at `store`."""
        path = store / MANIFEST
        try:
            raw = read_plain(store, path, MANIFEST_BYTES)
            outer = parse(raw)
            record = outer["attributes"][ATTRIBUTE]
            body, claimed = record["body"], record["digest"]
            version = body["format"]
        except OSError as error:
            message = f"{path} cannot be read: {error.strerror}"
            raise NotABankError(message) from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            message = f"{path} holds no featbank manifest, or is torn ({type(error).__name__})"
            raise NotABankError(message) from error
        if type(version) is not int or version != FORMAT:
            message = f"{path} has bank format {version!r:.20}; this featbank reads format {FORMAT}"
            raise NotABankError(message)
        try:
            intact = hashlib.sha256(canonical(body)).hexdigest() == claimed
            if not (intact and raw == root_text(body, claimed)):
                message = f"{path} does not match its own digest: it was damaged or edited"
                raise DamagedError(message)
            return cls.from_body(body)
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
            message = f"{path} does not describe a bank: {error!r:.200}"
            raise DamagedError(message) from error

    @classmethod
    def recognise(cls, store: Path) -> Manifest | None:
        """Return the manifest in a folder, also where its digest does not fit.

        It tells which files there are featbank's. None: what is there describes no bank.
        """
        try:
            raw = read_plain(store, store / MANIFEST, MANIFEST_BYTES)
            body = parse(raw)["attributes"][ATTRIBUTE]["body"]
            return cls.from_body(body) if body["format"] == FORMAT else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
            return None
        except RecursionError:
            return None

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Manifest:
        """Build from parsed JSON; any other form is a KeyError, TypeError or ValueError."""
        arrays = {name: ArrayRecord.from_json(raw) for name, raw in body["arrays"].items()}
        for name in arrays:
            if not re.fullmatch(rf"(classifier|{SPLIT_NAME})/[a-z0-9_]+", name):
                message = f"array name {name!r}"
                raise ValueError(message)
        manifest = cls(
            arrays=arrays,
            class_names=tuple(text(name) for name in body["class_names"]),
            class_counts=tuple(whole(count) for count in body["class_counts"]),
            shots=Shots(**body["shots"]),
            provenance=dict(body["provenance"]),
            skipped={name: tuple(map(text, ids)) for name, ids in body["skipped"].items()},
            groups={name: digest(value) for name, value in body["groups"].items()},
            rows={name: digest(value) for name, value in body["rows"].items()},
            batch=whole(body["batch"]),
        )
        check_layout(manifest)
        return manifest


def root_text(body: Mapping[str, Any], digest: str) -> bytes:
    """Return the root group's metadata with the manifest in it, to the byte."""
    record = {"digest": digest, "body": body}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {ATTRIBUTE: record}}
    return canonical(group) + b"\n"


def commit(store: Path, manifest: Manifest) -> None:
    """Make the bank complete: all its bytes to disk first, then the manifest, in one rename."""
    files = [*manifest.files()]
    folders = {parent for file in files for parent in file.parents}
    for path in (*files, *sorted(folders, reverse=True)):
        sync(store / path)
    text = root_text(manifest.body(), manifest.digest)
    replace_file(store / MANIFEST, lambda part: part.write_bytes(text))
    for journal in (*rank_journals(store), store / JOURNAL):
        journal.unlink(missing_ok=True)
