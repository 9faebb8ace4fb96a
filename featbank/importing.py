"""Features that already exist in a file, into a bank."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.errors import InputError, MissingFileError
from featbank.progress import SILENT, Reporter
from featbank.rows import SplitRows, check_rows
from featbank.shots import Shots
from featbank.writer import BankWriter

__all__ = ["FeatureArrays", "import_features", "read_npz"]

Array = NDArray[Any]

# Rows converted and checked at a time: a few MB, so the check runs in cache.
BLOCK_ROWS = 4096


@dataclass(frozen=True)
class FeatureArrays:
    """Features (N, D) and rows of each split, with what else the source knows."""

    features: Mapping[str, Array]
    rows: Mapping[str, SplitRows]
    class_names: tuple[str, ...]
    classifier: tuple[Array, Array] | None


def import_features(
    source: str | Path,
    out: str | Path,
    *,
    dtype: str | None = None,
    shots: Shots | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Path:
    """Make a bank of the features in an ``.npz`` file.

    Keys: ``<split>_features`` (N, D) and ``<split>_labels`` (N,) for every split, of which
    ``train`` is required; optionally ``<split>_ids``, ``weight`` (C, D), ``bias`` (C,) and
    ``class_names`` (C,).

    Parameters
    ----------
    dtype : {"float16", "float32"}, optional
        How features are stored; the source's own precision by default (float64 as float32).

    Raises
    ------
    InputError
        Keys, shapes, labels or values that make no bank; the message names them. Nothing is
        written then.
    """
    arrays = read_npz(Path(source))
    check_rows(arrays.rows, arrays.class_names)
    widths = {name: features.shape[1] for name, features in arrays.features.items()}
    if len(set(widths.values())) > 1:
        listed = ", ".join(f"{name} {width}" for name, width in widths.items())
        message = f"{source}: splits have features of different widths: {listed}"
        raise InputError(message)
    stored = {features.dtype for features in arrays.features.values()}
    writer = BankWriter.create(
        out,
        dim=widths["train"],
        dtype=dtype or ("float16" if stored == {np.dtype(np.float16)} else "float32"),
        class_names=arrays.class_names,
        shots=shots,
        provenance={"imported": {"file": Path(source).name}},
        overwrite=overwrite,
    )
    with writer:
        for split, features in arrays.features.items():
            append_split(writer, split, arrays.rows[split], features, reporter)
        if arrays.classifier is not None:
            writer.set_classifier(*arrays.classifier)
        writer.commit()
    return Path(out)


def append_split(
    writer: BankWriter, split: str, rows: SplitRows, features: Array, reporter: Reporter
) -> None:
    """Append one split block by block."""
    with reporter.track(f"import {split}", len(rows), "rows") as advance:
        for start in range(0, len(rows), BLOCK_ROWS):
            part = slice(start, min(start + BLOCK_ROWS, len(rows)))
            writer.append(split, rows.ids[part], rows.labels[part], features[part])
            advance(part.stop - start)


def read_npz(path: Path) -> FeatureArrays:
    """Read an ``.npz`` of features; nothing in it is ever unpickled."""
    if not path.is_file():
        message = f"{path} does not exist; name an .npz file of features"
        raise MissingFileError(message)
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {key: file[key] for key in file.files}
    except (ValueError, OSError, zipfile.BadZipFile, AttributeError, EOFError) as error:
        message = f"{path} is not an .npz of plain arrays: {error}"
        raise InputError(message) from error
    return arrange(path, content)


def arrange(path: Path, content: Mapping[str, Array]) -> FeatureArrays:
    """Sort the arrays of a file into splits, by their keys."""
    splits = [key.removesuffix("_features") for key in content if key.endswith("_features")]
    if "train" not in splits:
        message = f"{path} has no train_features; its keys are {', '.join(content) or 'none'}"
        raise InputError(message)
    known = {f"{split}_{part}" for split in splits for part in ("features", "labels", "ids")}
    unknown = set(content) - known - {"weight", "bias", "class_names"}
    if unknown:
        message = (
            f"{path} has keys without a meaning: {', '.join(sorted(unknown))}; expected "
            "<split>_features, <split>_labels, <split>_ids, weight, bias, class_names"
        )
        raise InputError(message)
    features = {split: check_features(path, split, content) for split in splits}
    rows = {split: check_labels(path, split, content) for split in splits}
    classifier = check_classifier(path, content)
    return FeatureArrays(features, rows, name_classes(path, content, rows, classifier), classifier)


def check_features(path: Path, split: str, content: Mapping[str, Array]) -> Array:
    """Return the features of a split, (N, D) of a float dtype."""
    features = content[f"{split}_features"]
    if features.ndim != 2 or features.shape[1] < 1 or features.dtype.kind not in "fiu":
        message = (
            f"{path}: {split}_features must be numbers of shape (N, D); "
            f"got {features.dtype} of shape {features.shape}"
        )
        raise InputError(message)
    return features if features.dtype.kind == "f" else features.astype(np.float32)


def check_labels(path: Path, split: str, content: Mapping[str, Array]) -> SplitRows:
    """Return the labels and ids of a split, as many as it has features."""
    key, count = f"{split}_labels", len(content[f"{split}_features"])
    if key not in content:
        message = f"{path} has {split}_features but no {key}"
        raise InputError(message)
    labels = content[key]
    if labels.shape != (count,) or not holds_integers(labels):
        message = (
            f"{path}: {key} must be {count} whole numbers; got {labels.dtype} "
            f"of shape {labels.shape}"
        )
        raise InputError(message)
    ids = content.get(f"{split}_ids")
    if ids is None:
        return SplitRows([str(row) for row in range(count)], labels.astype(np.int64))
    if ids.shape != (count,):
        message = f"{path}: {split}_ids has shape {ids.shape} for {count} rows"
        raise InputError(message)
    return SplitRows([str(name) for name in ids], labels.astype(np.int64))


def holds_integers(labels: Array) -> bool:
    """Tell whether labels are whole numbers, of whatever dtype."""
    if labels.dtype.kind in "iu":
        return True
    return labels.dtype.kind == "f" and bool(np.all(labels == np.floor(labels)))


def check_classifier(path: Path, content: Mapping[str, Array]) -> tuple[Array, Array] | None:
    """Return weight (C, D) and bias (C,); a missing bias is zero."""
    if "weight" not in content:
        if "bias" in content:
            message = f"{path} has bias but no weight"
            raise InputError(message)
        return None
    weight = content["weight"]
    if weight.ndim != 2 or weight.dtype.kind != "f":
        message = (
            f"{path}: weight must be floats of shape (C, D); got {weight.dtype} {weight.shape}"
        )
        raise InputError(message)
    return weight, content.get("bias", np.zeros(len(weight), dtype=weight.dtype))


def name_classes(
    path: Path,
    content: Mapping[str, Array],
    rows: Mapping[str, SplitRows],
    classifier: tuple[Array, Array] | None,
) -> tuple[str, ...]:
    """Return the class names; "0", "1", … for as many classes as the file speaks of."""
    if "class_names" in content:
        return tuple(str(name) for name in content["class_names"].reshape(-1))
    if classifier is not None:
        return tuple(str(index) for index in range(len(classifier[0])))
    if not len(rows["train"]):
        message = f"{path}: split 'train' is empty"
        raise InputError(message)
    return tuple(str(index) for index in range(int(rows["train"].labels.max()) + 1))
