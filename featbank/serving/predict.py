"""Labels of whatever a command line names, written as they come: images, a bank, feature files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featbank.bank.bank import Bank
from featbank.errors import InputError, StaleError, UsageError
from featbank.importing.sources import SUFFIXES, read_source
from featbank.results.predictions import Prediction, csv_heading, csv_lines, json_lines
from featbank.runtime.names import printable
from featbank.runtime.progress import SILENT, Reporter
from featbank.serving.images import gathered, on_disk, paths_listed
from featbank.serving.model import Labelling, Model

__all__ = ["FORMATS", "Counts", "How", "is_features", "label_all"]

FORMATS = ("csv", "jsonl")
# Rows of features that are labelled at a time.
ROWS = 4096


@dataclass(frozen=True)
class How:
    """How labels are chosen and written.

    Attributes
    ----------
    form : {"csv", "jsonl"}
        The form of the lines.
    top_k : int
        How many classes a line names.
    min_confidence : float
        A row whose best class has a smaller probability gets no label.
    prior : str, optional
        ``train``, ``uniform`` or a file of class probabilities, see `featbank.Model.predict`.
    on_bad_image : {"skip", "error"}
        What is done about an image that cannot be read.
    batch_size, workers : int
        Images at a time, and processes that decode them.
    split : str, optional
        Of a bank or a feature file; its test split where none is named.
    """

    form: str = "csv"
    top_k: int = 1
    min_confidence: float = 0.0
    prior: str | None = None
    on_bad_image: str = "skip"
    batch_size: int = 64
    workers: int = 0
    split: str | None = None


@dataclass
class Counts:
    """How many rows were labelled, how many were left undecided, and which could not be read."""

    labelled: int = 0
    undecided: int = 0
    unreadable: list[str] = field(default_factory=list)

    def add(self, found: Sequence[Prediction]) -> None:
        """Count some predictions."""
        for each in found:
            if each.error is not None:
                self.unreadable.append(each.error)
            elif each.label is None:
                self.undecided += 1
            else:
                self.labelled += 1


def is_features(source: str | Path) -> bool:
    """Tell whether a source holds features and no images: a bank, or a file of arrays."""
    path = Path(source)
    is_array = path.suffix.lower() in SUFFIXES and not os.path.isdir(path)
    return is_array or os.path.exists(path / "zarr.json")


def label_all(
    model: Model,
    sources: Sequence[str],
    how: How,
    write: Callable[[str], object],
    reporter: Reporter = SILENT,
) -> Counts:
    """Label what sources name, and write a line for each row.

    Parameters
    ----------
    model : Model
    sources : sequence of str
        Image files, folders, ``.txt`` lists of paths, and ``-`` for such a list on standard input;
        or one bank or file of features.
    how : How
    write : callable
        Is given the text, some lines at a time.
    reporter : Reporter
        Is told how far the work is, and which images cannot be read.

    Raises
    ------
    UsageError
        Features and images are named together.
    InputError
        There is nothing to label, or what is there cannot be used.
    """
    labelling = Labelling(model, how.top_k, how.min_confidence, how.prior)
    features = [source for source in sources if is_features(source)]
    if features and len(sources) > 1:
        message = f"{features[0]} holds features; label it by itself"
        raise UsageError(printable(message))
    found = (
        of_features(model, labelling, Path(features[0]), how, reporter)
        if features
        else of_images(model, labelling, sources, how, reporter)
    )
    counts = Counts()
    heading = csv_heading(how.top_k) if how.form == "csv" else ""
    for some in found:
        counts.add(some)
        lines = csv_lines(some, how.top_k) if how.form == "csv" else json_lines(some)
        write(heading + "".join(lines))
        heading = ""
    return counts


def of_images(
    model: Model, labelling: Labelling, sources: Sequence[str], how: How, reporter: Reporter
) -> Iterator[list[Prediction]]:
    """Yield the predictions of image files, batch by batch.

    Parameters
    ----------
    model, sources, how, reporter
        As in `label_all`; the sources are those of images alone.
    labelling : Labelling
        How labels are chosen.
    """
    paths: list[str] = []
    for source in sources:
        if source == "-":
            found, note = paths_listed(sys.stdin.buffer.read(), "standard input", Path())
            notes = [note] if note else []
        else:
            found, notes = gathered([source])
        paths += found
        for each in notes:
            reporter.warn(each)
    if not paths:
        message = "there are no images to label"
        raise InputError(message)
    split = on_disk(paths)
    batches = model.scored(
        split, batch_size=how.batch_size, workers=how.workers, on_bad_image=how.on_bad_image
    )
    with reporter.track("predict", len(split), "images") as advance:
        for batch in batches:
            for row in batch.rows:
                if int(row) in batch.bad:
                    reporter.warn(batch.bad[int(row)])
            yield labelling.of(batch, split)
            advance(len(batch.rows))


def of_features(
    model: Model, labelling: Labelling, source: Path, how: How, reporter: Reporter
) -> Iterator[list[Prediction]]:
    """Yield the predictions of rows of features, some at a time.

    Parameters
    ----------
    model, how, reporter
        As in `label_all`.
    labelling : Labelling
        How labels are chosen.
    source : Path
        A bank, or a file of arrays.
    """
    rows, ids = rows_of(model, source, how.split)
    if not ids:
        message = f"{source} holds no rows to label"
        raise InputError(printable(message))
    with reporter.track("predict", len(ids), "rows") as advance:
        for start in range(0, len(ids), ROWS):
            some = slice(start, min(start + ROWS, len(ids)))
            scores = model.of_features(np.asarray(rows[some], dtype=np.float32))
            yield labelling.of_scores(scores, ids[some])
            advance(some.stop - start)


def rows_of(model: Model, source: Path, split: str | None) -> tuple[Any, list[str]]:
    """Return features (n, D) that can be sliced, and an id for each row.

    Raises
    ------
    StaleError
        A bank holds features of another network than the head's.
    UsageError
        There is no such split.
    """
    if source.is_dir():
        bank = Bank.open(source)
        name = split or ("test" if "test" in bank.splits else next(iter(bank.splits)))
        if name not in bank.splits:
            message = f"{source} has no split {name!r}; it has {', '.join(bank.splits)}"
            raise UsageError(printable(message))
        require_features(model, bank)
        return bank[name].read(dtype="float32"), [str(each) for each in bank[name].ids]
    content = read_source(source)
    wanted = [f"{split or 'test'}_features", "features", "arr_0", source.stem]
    name = next((each for each in wanted if each in content), "")
    if not name and len(content) == 1:
        name = next(iter(content))
    array = content.get(name)
    if array is None or len(getattr(array, "shape", ())) != 2:
        known = ", ".join(content) or "nothing"
        message = (
            f"{source} holds no features (n, D) called {wanted[0]} or features; it has {known}"
        )
        raise InputError(printable(message))
    if np.dtype(array.dtype).kind not in "fiu":
        message = f"the features in {source} are {array.dtype}, and must be numbers"
        raise InputError(printable(message))
    return array, [str(row) for row in range(array.shape[0])]


def require_features(model: Model, bank: Bank) -> None:
    """Refuse a bank whose features are not those that the head was fitted on."""
    from featbank.bank.provenance_diff import differences, feature_identity

    own = model.record.provenance.get("features")
    differing = differences(own or {}, feature_identity(bank.provenance))
    if differing:
        message = (
            f"{bank.path} holds other features than those that the head was fitted on: "
            f"{', '.join(differing)} differ"
        )
        raise StaleError(printable(message))
