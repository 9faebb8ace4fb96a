"""The rows of a split: ids and labels, and the checks that every source of rows must pass."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featbank.errors import InputError

__all__ = ["SplitRows", "check_rows", "class_label", "rows_digest"]


@dataclass(frozen=True)
class SplitRows:
    """Ids (N strings) and labels (N,) int64 of one split, in data-set order."""

    ids: Sequence[str]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.labels):
            message = f"{len(self.ids)} ids for {len(self.labels)} labels"
            raise InputError(message)

    def __len__(self) -> int:
        return len(self.labels)


def rows_digest(rows: SplitRows) -> str:
    """Return the SHA-256 of a split's ids and labels, in their order."""
    listed = [list(rows.ids), rows.labels.tolist()]
    return hashlib.sha256(json.dumps(listed, separators=(",", ":")).encode()).hexdigest()


def class_label(index: int, class_names: Sequence[str]) -> str:
    """Name a class in a message: its index, and its name where that says more."""
    name = class_names[index]
    return f"class {index}" if name == str(index) else f"class {index} ({name!r})"


def require_text(what: str, names: Sequence[str]) -> None:
    """Refuse names that are no Unicode text: bytes that were not UTF-8 come as lone surrogates.

    Such a name can be written neither into a bank nor into JSON.
    """
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        odd = next(place for place, name in enumerate(names) if not is_text(name))
        message = f"{what} {odd} is called {names[odd]!a}, which is no Unicode text; rename it"
        raise InputError(message) from None


def is_text(name: str) -> bool:
    """Tell whether a name can be encoded."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_rows(splits: Mapping[str, SplitRows], class_names: Sequence[str]) -> NDArray[np.int64]:
    """Return the train counts (C,) int64, or say which split, row or class is at fault.

    Raises
    ------
    InputError
        No train split, an empty split, a label outside 0..C-1, a class that no train row has, or
        an id or name that is no Unicode text.
    """
    if "train" not in splits:
        message = f"there is no train split; got {', '.join(splits) or 'no split at all'}"
        raise InputError(message)
    n_classes = len(class_names)
    require_text("class", class_names)
    for name, rows in splits.items():
        require_text(f"split {name!r}, row", rows.ids)
        if not len(rows):
            message = f"split {name!r} is empty; take it out, or give it rows"
            raise InputError(message)
        outside = np.flatnonzero((rows.labels < 0) | (rows.labels >= n_classes))
        if outside.size:
            row = int(outside[0])
            message = (
                f"split {name!r}, row {row} ({rows.ids[row]!r}): label {rows.labels[row]} "
                f"is outside 0..{n_classes - 1} ({outside.size} such rows)"
            )
            raise InputError(message)
    counts = np.bincount(splits["train"].labels, minlength=n_classes)
    absent = np.flatnonzero(counts == 0)
    if absent.size:
        names = ", ".join(class_label(int(c), class_names) for c in absent[:5])
        more = f" and {absent.size - 5} more" if absent.size > 5 else ""
        message = f"no training images for {names}{more}; add some, or renumber without them"
        raise InputError(message)
    return counts.astype(np.int64)
