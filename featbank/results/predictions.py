"""Labels with confidence for many images: what `featbank.Model.predict` returns."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.results.fit import Tabled
from featbank.results.tables import Table, csv_line

__all__ = [
    "Prediction",
    "Predictions",
    "best_classes",
    "csv_heading",
    "csv_lines",
    "is_predictions",
    "json_lines",
]

_HEADING = re.compile(r"path,label,confidence(,label_[0-9]+,confidence_[0-9]+)*,error\n")


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Attributes
    ----------
    path : str
        The image's file, or the id of a row of features.
    label : str or None
        The class; None for an image that could not be read, and for one whose confidence is less
        than was asked for.
    confidence : float or None
        The probability of the most probable class, whether it is the label or not.
    best : tuple of (str, float)
        The most probable classes with their probabilities, the best first.
    error : str or None
        Why the image could not be read.
    """

    path: str
    label: str | None
    confidence: float | None
    best: tuple[tuple[str, float], ...] = ()
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as one line of JSON lines has it."""
        best = [{"label": label, "confidence": share} for label, share in self.best]
        return {
            "path": self.path,
            "label": self.label,
            "confidence": self.confidence,
            **({"top": best} if len(best) > 1 else {}),
            **({} if self.error is None else {"error": self.error}),
        }


class Predictions(tuple[Prediction, ...], Tabled):
    """Labels of several images, in the order in which the images were given."""

    __slots__ = ()

    def __str__(self) -> str:
        return str(self.table())

    @property
    def labels(self) -> list[str | None]:
        """The labels; None where there is none."""
        return [each.label for each in self]

    def table(self) -> Table:
        """Return a row for each image: path, label, confidence, and why it could not be read."""
        failed = any(each.error is not None for each in self)
        columns = ("path", "label", "confidence", *(("error",) if failed else ()))
        rows = tuple(
            (each.path, each.label, each.confidence, *((each.error,) if failed else ()))
            for each in self
        )
        return Table("labels", columns, rows)

    def to_jsonl(self) -> str:
        """Return a JSON object for each image, one a line."""
        return "".join(json_lines(self))


def best_classes(
    probabilities: NDArray[Any], top_k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the most probable columns and their probabilities, (n, k) each, the best first.

    Of equals the first column comes first.
    """
    shares = np.asarray(probabilities, np.float64)
    order = np.argsort(-shares, axis=1, kind="stable")[:, :top_k]
    return order, np.take_along_axis(shares, order, axis=1)


def is_predictions(path: Path) -> bool:
    """Tell whether a file begins as one that this module's lines were written to."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            first = file.readline(1 << 16)
        if _HEADING.fullmatch(first):
            return True
        return list(json.loads(first))[:3] == ["path", "label", "confidence"]
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def csv_heading(top_k: int) -> str:
    """Return the first line of the CSV file."""
    names = ["path", "label", "confidence"]
    names += [f"{name}_{place}" for place in range(2, top_k + 1) for name in names[1:3]]
    return csv_line([*names, "error"])


def csv_lines(found: Sequence[Prediction], top_k: int) -> Iterator[str]:
    """Yield the lines of the CSV file after the first."""
    for each in found:
        others = [value for label, share in each.best[1:top_k] for value in (label, f"{share:.6g}")]
        others += [""] * (2 * (top_k - 1) - len(others))
        sure = "" if each.confidence is None else f"{each.confidence:.6g}"
        yield csv_line([each.path, each.label or "", sure, *others, each.error or ""])


def json_lines(found: Sequence[Prediction]) -> Iterator[str]:
    """Yield the lines of the JSON lines file."""
    for each in found:
        yield json.dumps(each.to_json(), allow_nan=False) + "\n"
