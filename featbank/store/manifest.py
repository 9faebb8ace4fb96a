"""The manifest: what a complete bank holds, committed last, and the only word that counts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featbank.errors import DamagedError, NotABankError
from featbank.files.atomic import replace_file, sync
from featbank.files.plain_files import read_plain
from featbank.store.array_record import ArrayRecord
from featbank.store.format_checks import check_record, expect
from featbank.store.journal import rank_journals
from featbank.store.schema import (
    ATTRIBUTE,
    CLASSIFIER_BIAS,
    CLASSIFIER_WEIGHT,
    FEATURE_DTYPES,
    FEATURES,
    FORMAT,
    IDS,
    IMAGE_BYTES,
    IMAGE_SHA256,
    JOURNAL,
    LABELS,
    MANIFEST,
    SPLIT_NAME,
    VIEWS,
)
from featbank.store.strict_json import digest, parse, text, whole
from heads.canonical import canonical
from heads.metrics.shots import Shots

# Some hundred bytes for each chunk of a bank and each image that was left out.
MANIFEST_BYTES = 256 << 20

__all__ = ["Manifest", "commit"]


@dataclass(frozen=True)
class Manifest:
    """Everything that a complete bank says of itself.

    `arrays` and `groups` record every file of the store but the root's own metadata, which holds
    this manifest and its digest.

    Parameters
    ----------
    arrays : mapping
        The record of every array, by name.
    class_names : sequence of C strings
    class_counts : sequence of C ints
        Training rows of each class.
    shots : Shots
        Thresholds of the shot groups.
    provenance : mapping
        What the features are made from; JSON types.
    skipped : mapping
        By split, the ids of rows that were left out.
    groups : mapping
        By name, the digest of each group's metadata file.
    rows : mapping
        By split, the digest of its ids and labels, in order.
    batch : int
        Rows that were computed together.
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


def check_layout(manifest: Manifest) -> None:
    """Refuse arrays that do not belong together, or whose shape or dtype no bank has.

    Raises
    ------
    ValueError
        The first of them.
    """
    arrays, n_classes = manifest.arrays, len(manifest.class_names)
    for name, record in arrays.items():
        check_record(name, record)
    if set(manifest.groups) != {name.split("/")[0] for name in arrays}:
        message = f"groups {sorted(manifest.groups)!r:.80}"
        raise ValueError(message)
    if "train" not in manifest.splits or set(manifest.rows) != set(manifest.splits):
        message = f"splits {manifest.splits} with row digests of {sorted(manifest.rows)!r:.80}"
        raise ValueError(message)
    dim, dtype = arrays[f"train/{FEATURES}"].shape[1], arrays[f"train/{FEATURES}"].dtype
    for split in manifest.splits:
        n_rows = arrays[f"{split}/{FEATURES}"].shape[0]
        expect(arrays, f"{split}/{FEATURES}", (n_rows, dim), dtype)
        expect(arrays, f"{split}/{LABELS}", (n_rows,), "int64")
        expect(arrays, f"{split}/{IDS}", (n_rows,), "string")
        if f"{split}/{VIEWS}" in arrays:
            n_views = arrays[f"{split}/{VIEWS}"].shape[0]
            expect(arrays, f"{split}/{VIEWS}", (n_views, n_rows, dim), dtype)
        if f"{split}/{IMAGE_SHA256}" in arrays or f"{split}/{IMAGE_BYTES}" in arrays:
            expect(arrays, f"{split}/{IMAGE_SHA256}", (n_rows, 32), "uint8")
            expect(arrays, f"{split}/{IMAGE_BYTES}", (n_rows,), "int64")
    if dtype not in FEATURE_DTYPES or len(manifest.class_counts) != n_classes:
        message = f"features of {dtype}, {len(manifest.class_counts)} counts of {n_classes} classes"
        raise ValueError(message)
    if CLASSIFIER_WEIGHT in arrays or CLASSIFIER_BIAS in arrays:
        expect(arrays, CLASSIFIER_WEIGHT, (n_classes, dim), "float32")
        expect(arrays, CLASSIFIER_BIAS, (n_classes,), "float32")
