"""Named arrays sorted into splits, and checked."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.bank.rows import SplitRows
from featbank.errors import InputError
from featbank.importing.budget import ROW_BYTES, Budget
from featbank.importing.entries import Pieces, Unusable, join
from featbank.importing.npy import CompressedArray
from featbank.store.schema import SPLIT_NAME
from heads.metrics.shots import Shots

__all__ = ["FeatureArrays", "arrange"]

Array = NDArray[Any]

# The arrays that a file may hold beside those of its splits, and the number of axes of each.
OTHERS = {"weight": 2, "bias": 1, "class_names": 1, "shots": 1}
PARTS = {"features": 2, "labels": 1, "ids": 1}


@dataclass(frozen=True)
class FeatureArrays:
    """The features of every split, with what else the source knows.

    Attributes
    ----------
    features : mapping
        From the split's name to its features (N, D), which may lie in a file.
    rows : mapping
        From the split's name to its labels and ids.
    class_names : tuple of str
        Names of the C classes.
    classifier : pair of ndarray, or None
        Weight (C, D) and bias (C,) of stage 1's classifier.
    shots : Shots
        Thresholds of the shot groups.
    left_out : tuple of str
        For each entry that was not used, its name and what it is.
    """

    features: Mapping[str, Any]
    rows: Mapping[str, SplitRows]
    class_names: tuple[str, ...]
    classifier: tuple[Array, Array] | None
    shots: Shots
    left_out: tuple[str, ...] = ()


def arrange(
    content: Mapping[str, Any],
    mapping: Mapping[str, str],
    source: str,
    budget: Budget | None = None,
) -> FeatureArrays:
    """Sort named entries into splits.

    Parameters
    ----------
    content : mapping of name to entry
        Arrays, `Pieces` of arrays, or `Unusable` entries.
    mapping : mapping of the name that is expected to the name that `content` has for it
    source : str
        What to call it in a message.
    budget : Budget, optional
        What rows and joined pieces may take in memory.
    """
    budget = budget or Budget(sum(getattr(each, "nbytes", 0) for each in content.values()))
    renamed = rename(content, mapping, source)
    splits = split_names(source, renamed)
    meanings = {f"{split}_{part}": axes for split in splits for part, axes in PARTS.items()}
    named, left_out = usable(source, renamed, meanings | OTHERS)
    features = {split: check_features(source, split, named) for split in splits}
    check_widths(source, features)
    rows = {split: check_labels(source, split, named, budget) for split in splits}
    classifier = check_classifier(source, named, features["train"].shape[1], budget)
    names = name_classes(source, named, rows, classifier)
    return FeatureArrays(features, rows, names, classifier, check_shots(source, named), left_out)


def rename(
    content: Mapping[str, Any], mapping: Mapping[str, str], source: str
) -> Mapping[str, Any]:
    """Give entries the names that are expected; with a mapping, only those that it names remain."""
    missing = sorted(theirs for theirs in mapping.values() if theirs not in content)
    if missing:
        message = f"{source} has no {', '.join(missing)}; its names are {shown(content)}"
        raise InputError(message)
    return {name: content[theirs] for name, theirs in mapping.items()} if mapping else content


def shown(names: Iterable[str]) -> str:
    """Return names for a message, the first dozen of them."""
    listed = list(names)
    return (", ".join(listed[:12]) + (", …" if len(listed) > 12 else "")) or "none"


def split_names(source: str, content: Mapping[str, Any]) -> list[str]:
    """Return the splits that have features; train must be among them."""
    splits = [key.removesuffix("_features") for key in content if key.endswith("_features")]
    if "train" not in splits:
        message = (
            f"{source} has no train_features; its names are {shown(content)} "
            "(--map train_features=NAME says which one it is)"
        )
        raise InputError(message)
    for split in splits:
        if not re.fullmatch(SPLIT_NAME, split):
            message = (
                f"{source}: {split}_features names a split {split!r}; use letters, digits, - "
                "and _, at most 64, and not 'classifier'"
            )
            raise InputError(message)
    return splits


def usable(
    source: str, content: Mapping[str, Any], meanings: Mapping[str, int]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the arrays whose names have a meaning, and what is left out, in words.

    Raises
    ------
    InputError
        An entry whose name has a meaning is no array, or an array has a name without one.
    """
    named, left_out, unknown = {}, [], []
    for name, value in content.items():
        if name in meanings:
            named[name] = usable_array(source, name, value, meanings[name])
        elif isinstance(value, Unusable):
            left_out.append(f"{name} (it {value.why})")
        elif getattr(value, "ndim", 1) == 0:
            left_out.append(f"{name} (it is one number)")
        else:
            unknown.append(name)
    if unknown:
        message = (
            f"{source} has names without a meaning: {shown(sorted(unknown))}; expected "
            "<split>_features, <split>_labels, <split>_ids, weight, bias, class_names, shots "
            "(--map NAME=THEIRS takes only what it names)"
        )
        raise InputError(message)
    return named, tuple(left_out)


def usable_array(source: str, name: str, value: Any, ndim: int) -> Any:
    """Return the array of an entry; what is compressed stays so until its shape is known good.

    Parameters
    ----------
    source, name : str
        What a message calls the file and the entry.
    value : entry
        An array, `Pieces` that are joined, or an `Unusable` entry, which is refused.
    ndim : int
        Axes that the array should have.
    """
    if isinstance(value, Unusable):
        message = f"{source}: {name} {value.why}; save it as one array (numpy.savez)"
        raise InputError(message)
    if isinstance(value, Pieces):
        return join(value, ndim, f"{source}: {name}")
    return value


def check_widths(source: str, features: Mapping[str, Any]) -> None:
    """Refuse splits of different widths."""
    widths = {name: array.shape[1] for name, array in features.items()}
    if len(set(widths.values())) > 1:
        listed = ", ".join(f"{name} {width}" for name, width in widths.items())
        message = f"{source}: splits have features of different widths: {listed}"
        raise InputError(message)


def check_features(source: str, split: str, content: Mapping[str, Any]) -> Any:
    """Return the features of a split, (N, D) of a float dtype."""
    features = content[f"{split}_features"]
    if features.ndim != 2 or features.shape[1] < 1 or features.dtype.kind not in "fiu":
        message = (
            f"{source}: {split}_features must be numbers of shape (N, D); "
            f"got {features.dtype} of shape {features.shape}"
        )
        raise InputError(message)
    if isinstance(features, CompressedArray) and not features.by_rows:
        return np.asarray(features)
    return features


def check_labels(source: str, split: str, content: Mapping[str, Any], budget: Budget) -> SplitRows:
    """Return the labels and ids of a split, as many as it has features.

    Parameters
    ----------
    source, split : str
        What a message calls the file, and the split's name.
    content : mapping
        The arrays by name.
    budget : Budget
        Counts the memory that labels and ids take.

    Raises
    ------
    InputError
        There are no labels, they are not N whole numbers, or there are not N ids.
    """
    key, count = f"{split}_labels", content[f"{split}_features"].shape[0]
    if key not in content:
        message = f"{source} has {split}_features but no {key}"
        raise InputError(message)
    budget.take(count * ROW_BYTES, f"{source}: {count:,} rows of {split}")
    labels = content[key]
    if labels.shape != (count,) or not holds_integers(labels := np.asarray(labels)):
        message = (
            f"{source}: {key} must be {count} whole numbers; got {labels.dtype} "
            f"of shape {labels.shape}"
        )
        raise InputError(message)
    ids = content.get(f"{split}_ids")
    if ids is not None and ids.shape != (count,):
        message = f"{source}: {split}_ids has shape {ids.shape} for {count} rows"
        raise InputError(message)
    ids = np.arange(count) if ids is None else np.asarray(ids)
    return SplitRows(texts(source, f"{split}_ids", ids), labels.astype(np.int64))


def holds_integers(labels: Array) -> bool:
    """Tell whether labels are whole numbers that fit int64, of whatever dtype."""
    if labels.dtype.kind == "i":
        return True
    if labels.dtype.kind == "u":
        return not labels.size or int(labels.max()) <= np.iinfo(np.int64).max
    if labels.dtype.kind != "f" or not np.isfinite(labels).all():
        return False
    return bool(np.all(labels == np.floor(labels)) and np.all(np.abs(labels) < 2.0**53))


def texts(source: str, name: str, values: Array) -> list[str]:
    """Return ids or names as text: bytes are UTF-8, and numbers are written out.

    Raises
    ------
    InputError
        Bytes that are not UTF-8, or values that are neither text nor numbers; with their place.
    """
    if values.dtype.kind not in "USOiuf":
        message = f"{source}: {name} must be text or numbers; got {values.dtype}"
        raise InputError(message)
    listed = values.tolist()
    if values.dtype.kind not in "SO":
        return [str(each) for each in listed]
    return [decoded(source, name, place, each) for place, each in enumerate(listed)]


def decoded(source: str, name: str, place: int, value: Any) -> str:
    """Return one text; bytes must be UTF-8.

    Parameters
    ----------
    source, name : str
        What a message calls the file and the entry.
    place : int
        The text's place in the entry.
    value : bytes or str
    """
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        message = (
            f"{source}: {name}, entry {place}: {value[:60]!r} is not UTF-8; "
            "decode such names before saving them"
        )
        raise InputError(message) from None


def check_classifier(
    source: str, content: Mapping[str, Any], dim: int, budget: Budget
) -> tuple[Array, Array] | None:
    """Return weight (C, D) and bias (C,) of a file, or None where it has none.

    Parameters
    ----------
    source : str
        What a message calls the file.
    content : mapping
        The arrays by name; a missing bias is zero.
    dim : int
        Width D of the features.
    budget : Budget
        Counts the memory that the weight takes.

    Raises
    ------
    InputError
        Shapes or dtypes that are no classifier of these features, or a bias alone.
    """
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
    if weight.shape[1] != dim:
        message = f"{source}: weight has {weight.shape[1]} columns, and the features have {dim}"
        raise InputError(message)
    budget.take(4 * math.prod(weight.shape), f"{source}: weight of shape {weight.shape}")
    bias = content.get("bias", np.zeros(len(weight), dtype=weight.dtype))
    if bias.shape != (len(weight),) or bias.dtype.kind not in "fiu":
        message = (
            f"{source}: bias must be {len(weight)} numbers, one for each row of weight; "
            f"got {bias.dtype} of shape {bias.shape}"
        )
        raise InputError(message)
    return np.asarray(weight), np.asarray(bias)


def check_shots(source: str, content: Mapping[str, Any]) -> Shots:
    """Return the thresholds that the file states, or the usual ones."""
    stated = content.get("shots")
    if stated is None:
        return Shots()
    if stated.shape != (2,) or not holds_integers(stated := np.asarray(stated)):
        message = f"{source}: shots must be two whole numbers, many above and few below"
        raise InputError(message)
    return Shots(int(stated[0]), int(stated[1]))


def name_classes(
    source: str,
    content: Mapping[str, Any],
    rows: Mapping[str, SplitRows],
    classifier: tuple[Array, Array] | None,
) -> tuple[str, ...]:
    """Return the class names; "0", "1", … for as many classes as the file speaks of.

    Parameters
    ----------
    source : str
        What a message calls the file.
    content : mapping
        The arrays by name, ``class_names`` among them where the file has names.
    rows : mapping
        Labels and ids by the split's name.
    classifier : pair of ndarray, or None
        Weight (C, D) and bias (C,), by which classes are counted where there are no names.

    Raises
    ------
    InputError
        The names are no list of text, train is empty, or a label means more classes than train
        has rows: a mistyped label, or an identifier, must not make 10^9 names.
    """
    train = rows["train"].labels
    if not len(train):
        message = f"{source}: split 'train' is empty"
        raise InputError(message)
    if "class_names" in content:
        names = content["class_names"]
        if names.ndim != 1:
            message = f"{source}: class_names must be a list of names; got shape {names.shape}"
            raise InputError(message)
        return tuple(texts(source, "class_names", np.asarray(names)))
    largest = int(train.argmax())
    known = int(train[largest]) + 1 if classifier is None else len(classifier[0])
    if known > len(train):
        what = (
            f"train_labels, row {largest}: label {known - 1}"
            if classifier is None
            else f"weight of shape {classifier[0].shape}"
        )
        message = (
            f"{source}: {what} means {known} classes, more than the {len(train)} training rows; "
            "labels count from 0 without gaps"
        )
        raise InputError(message)
    return tuple(str(index) for index in range(known))
