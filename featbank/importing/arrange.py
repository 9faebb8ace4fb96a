"""Named arrays sorted into splits, and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.errors import InputError
from featbank.rows import SplitRows
from featbank.shots import Shots

__all__ = ["FeatureArrays", "arrange"]

Array = NDArray[Any]


@dataclass(frozen=True)
class FeatureArrays:
    """Features (N, D) and rows of each split, with what else the source knows."""

    features: Mapping[str, Array]
    rows: Mapping[str, SplitRows]
    class_names: tuple[str, ...]
    classifier: tuple[Array, Array] | None
    shots: Shots


def arrange(content: Mapping[str, Array], mapping: Mapping[str, str], source: str) -> FeatureArrays:
    """Sort named arrays into splits.

    Parameters
    ----------
    content : mapping of name to array
    mapping : mapping of the name that is expected to the name that `content` has for it
    source : str
        What to call it in a message.
    """
    named = rename(content, mapping, source)
    splits = [key.removesuffix("_features") for key in named if key.endswith("_features")]
    if "train" not in splits:
        message = (
            f"{source} has no train_features; its names are {', '.join(named) or 'none'} "
            "(--map train_features=NAME says which one it is)"
        )
        raise InputError(message)
    known = {f"{split}_{part}" for split in splits for part in ("features", "labels", "ids")}
    unknown = set(named) - known - {"weight", "bias", "class_names", "shots"}
    if unknown:
        message = (
            f"{source} has names without a meaning: {', '.join(sorted(unknown))}; expected "
            "<split>_features, <split>_labels, <split>_ids, weight, bias, class_names "
            "(--map NAME=THEIRS takes only what it names)"
        )
        raise InputError(message)
    features = {split: check_features(source, split, named) for split in splits}
    check_widths(source, features)
    rows = {split: check_labels(source, split, named) for split in splits}
    classifier = check_classifier(source, named)
    names = name_classes(source, named, rows, classifier)
    return FeatureArrays(features, rows, names, classifier, check_shots(source, named))


def rename(
    content: Mapping[str, Array], mapping: Mapping[str, str], source: str
) -> Mapping[str, Array]:
    """Give arrays the names that are expected; with a mapping, only those that it names remain."""
    missing = sorted(theirs for theirs in mapping.values() if theirs not in content)
    if missing:
        message = f"{source} has no {', '.join(missing)}; its names are {', '.join(content)}"
        raise InputError(message)
    return {name: content[theirs] for name, theirs in mapping.items()} if mapping else content


def check_widths(source: str, features: Mapping[str, Array]) -> None:
    """Refuse splits of different widths."""
    widths = {name: array.shape[1] for name, array in features.items()}
    if len(set(widths.values())) > 1:
        listed = ", ".join(f"{name} {width}" for name, width in widths.items())
        message = f"{source}: splits have features of different widths: {listed}"
        raise InputError(message)


def check_features(source: str, split: str, content: Mapping[str, Array]) -> Array:
    """Return the features of a split, (N, D) of a float dtype."""
    features = content[f"{split}_features"]
    if features.ndim != 2 or features.shape[1] < 1 or features.dtype.kind not in "fiu":
        message = (
            f"{source}: {split}_features must be numbers of shape (N, D); "
            f"got {features.dtype} of shape {features.shape}"
        )
        raise InputError(message)
    return features


def check_labels(source: str, split: str, content: Mapping[str, Array]) -> SplitRows:
    """Return the labels and ids of a split, as many as it has features."""
    key, count = f"{split}_labels", len(content[f"{split}_features"])
    if key not in content:
        message = f"{source} has {split}_features but no {key}"
        raise InputError(message)
    labels = content[key]
    if labels.shape != (count,) or not holds_integers(labels):
        message = (
            f"{source}: {key} must be {count} whole numbers; got {labels.dtype} "
            f"of shape {labels.shape}"
        )
        raise InputError(message)
    ids = content.get(f"{split}_ids", np.arange(count))
    if ids.shape != (count,):
        message = f"{source}: {split}_ids has shape {ids.shape} for {count} rows"
        raise InputError(message)
    return SplitRows([str(name) for name in ids], labels.astype(np.int64))


def holds_integers(labels: Array) -> bool:
    """Tell whether labels are whole numbers, of whatever dtype."""
    if labels.dtype.kind in "iu":
        return True
    return labels.dtype.kind == "f" and bool(np.all(labels == np.floor(labels)))


def check_classifier(source: str, content: Mapping[str, Array]) -> tuple[Array, Array] | None:
    """Return weight (C, D) and bias (C,); a missing bias is zero."""
    if "weight" not in content:
        if "bias" in content:
            message = f"{source} has bias but no weight"
            raise InputError(message)
        return None
    weight = content["weight"]
    if weight.ndim != 2 or weight.dtype.kind != "f":
        message = (
            f"{source}: weight must be floats of shape (C, D); got {weight.dtype} {weight.shape}"
        )
        raise InputError(message)
    return weight, content.get("bias", np.zeros(len(weight), dtype=weight.dtype))


def check_shots(source: str, content: Mapping[str, Array]) -> Shots:
    """Return the thresholds that the file states, or the usual ones."""
    stated = content.get("shots")
    if stated is None:
        return Shots()
    if stated.shape != (2,) or not holds_integers(stated):
        message = f"{source}: shots must be two whole numbers, many above and few below"
        raise InputError(message)
    return Shots(int(stated[0]), int(stated[1]))


def name_classes(
    source: str,
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
        message = f"{source}: split 'train' is empty"
        raise InputError(message)
    return tuple(str(index) for index in range(int(rows["train"].labels.max()) + 1))
