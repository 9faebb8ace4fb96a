"""What a head got wrong: its rows, its classes and what it takes for what."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from featbank.results.fit import Tabled
from featbank.results.numbers import percent
from featbank.results.plain import plain
from featbank.results.records import Metrics
from featbank.results.tables import Accuracy, Table, csv_line
from featbank.runtime.names import printable

__all__ = ["ClassReport", "Confused", "Mistake", "Mistakes"]

# The confusion matrix of more classes is written as a list of pairs, since nobody can read it.
MOST_COLUMNS = 100
# Of each mistake, in the table and in the file.
COLUMNS = ("id", "true", "predicted", "confidence", "true_probability")
# Mistakes and classes that are shown where nobody says how many.
SHOWN = 10


@dataclass(frozen=True)
class Mistake:
    """A row that a head gives another class than its own.

    Attributes
    ----------
    id : str
        The row's name in the bank: of an image, its path in the data set.
    true, predicted : str
        The names of its class, and of the class that the head gives it.
    confidence : float
        The probability that the head gives the predicted class.
    true_probability : float
        The one that it gives the row's own class; 0 where the head does not know that class.
    """

    id: str
    true: str
    predicted: str
    confidence: float
    true_probability: float


@dataclass(frozen=True)
class ClassReport:
    """How well a head does on one class, in the terms of scikit-learn's classification report.

    Attributes
    ----------
    name : str
    support : int
        Rows of the class in the split.
    precision : float or None
        The share of the rows that were given this class that are of it; None where none was.
    recall : float or None
        The share of the rows of this class that were given it; None where it has none.
    f1 : float or None
        The harmonic mean of the two, 2 TP / (2 TP + FP + FN); None where both are None.
    train_rows : int
        Training rows of the class.
    group : {"many", "medium", "few"}
        Its shot group.
    """

    name: str
    support: int
    precision: float | None
    recall: float | None
    f1: float | None
    train_rows: int
    group: str


@dataclass(frozen=True)
class Confused:
    """How many rows of one class were given another, or the same, one; classes by their number."""

    true: int
    predicted: int
    count: int


@dataclass(frozen=True)
class Mistakes(Tabled):
    """What a saved head got wrong on one split of a bank.

    Attributes
    ----------
    bank : str
        The bank's path.
    head : str
        The head's name, as a specification has it.
    file : str
        The head's file.
    split : str
    rows : int
        Rows of the split.
    metrics : mapping
        Accuracies by name, as fractions.
    wrong : tuple of Mistake
        Every row that is wrong, the most confident first; of equally confident ones that first to
        whose own class the head gives less.
    classes : tuple of C ClassReport
        In the order of the bank.
    confusion : tuple of Confused
        The cells of the confusion matrix that are not 0, by true and then by predicted class.
    notes : tuple of str
        What a reader has to know beside the numbers.
    """

    bank: str
    head: str
    file: str
    split: str
    rows: int
    metrics: Metrics
    wrong: tuple[Mistake, ...]
    classes: tuple[ClassReport, ...]
    confusion: tuple[Confused, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.table(SHOWN)}\n\n{self.worst_classes()}\n\n{self.sentence()}"

    def _repr_html_(self) -> str:
        """Return the tables for a notebook."""
        tables = self.table(SHOWN)._repr_html_() + self.worst_classes()._repr_html_()
        return f"{tables}<p>{html.escape(printable(self.sentence()))}</p>"

    def table(self, top: int | None = None) -> Table:
        """Return a row for each mistake, or for the `top` most confident ones."""
        rows = tuple(
            (each.id, each.true, each.predicted, Accuracy(each.confidence),
             Accuracy(each.true_probability))
            for each in self.wrong[:top]
        )  # fmt: skip
        title = (
            f"{self.file} on {self.bank}, {self.split}: the {len(rows)} most confident of "
            f"{len(self.wrong)} mistakes, probabilities in %"
        )
        return Table(title, COLUMNS, rows, self.notes)

    def worst_classes(self, top: int = SHOWN) -> Table:
        """Return the `top` classes of the lowest recall; of equals the larger one first."""
        columns = (
            "class", "group", "train rows", "rows", "recall", "precision", "F1", "taken for",
        )  # fmt: skip
        worst = self.by_recall()[:top]
        rows = tuple(
            (each.name, each.group, str(each.train_rows), str(each.support),
             Accuracy(each.recall), Accuracy(each.precision), Accuracy(each.f1),
             self.mostly(number))
            for number, each in worst
        )  # fmt: skip
        title = f"the {len(rows)} classes of the lowest recall on {self.split}, in %"
        return Table(title, columns, rows)

    def by_recall(self) -> list[tuple[int, ClassReport]]:
        """Return the classes that have rows, numbered, from the lowest recall to the highest."""
        there = [(k, each) for k, each in enumerate(self.classes) if each.recall is not None]
        return sorted(there, key=lambda pair: (pair[1].recall, -pair[1].support))

    def mostly(self, number: int) -> str:
        """Name the class that a class is most often taken for, and how often; a dash for none."""
        taken = self.most_taken(number)
        return "-" if taken is None else f"{self.classes[taken.predicted].name} ({taken.count})"

    def most_taken(self, number: int) -> Confused | None:
        """Return what rows of a class are most often taken for, of equals the first class."""
        others = (each for each in self.confusion if each.true == number != each.predicted)
        return max(others, key=lambda each: each.count, default=None)

    def sentence(self) -> str:
        """Say in one sentence how much is wrong, and which class suffers most."""
        if not self.wrong:
            return f"{self.file} is right on all {self.rows:,} rows of {self.split}."
        number, worst = self.by_recall()[0]
        share = percent(len(self.wrong) / self.rows)
        found = round((worst.recall or 0) * worst.support)
        text = (
            f"{self.file} is wrong on {len(self.wrong):,} of {self.rows:,} rows of {self.split} "
            f"({share} %); it does worst on {worst.name} ({worst.group}-shot, {worst.train_rows:,} "
            f"training rows), of which it finds {found:,} of {worst.support:,} rows"
        )
        taken = self.most_taken(number)
        if taken is None:
            return f"{text}."
        other = self.classes[taken.predicted].name
        return f"{text}, and which it most often takes for {other} ({taken.count:,} rows)."

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of schema 1 that ``featbank mistakes --json`` writes."""
        return {
            "schema": 1,
            "bank": self.bank,
            "head": self.head,
            "file": self.file,
            "split": self.split,
            "rows": self.rows,
            "metrics": dict(self.metrics),
            "mistakes": plain(self.wrong),
            "classes": plain(self.classes),
            "confusion": plain(self.confusion),
            "notes": list(self.notes),
        }

    def mistakes_csv(self) -> str:
        """Return the text of ``mistakes.csv``: the rows that are wrong."""
        return csv_text(COLUMNS, (
            (each.id, each.true, each.predicted, short(each.confidence),
             short(each.true_probability))
            for each in self.wrong
        ))  # fmt: skip

    def classes_csv(self) -> str:
        """Return the text of ``classes.csv``; what is None is empty."""
        heading = ("class", "support", "precision", "recall", "f1", "train_rows", "group")
        return csv_text(heading, (
            (each.name, each.support, each.precision, each.recall, each.f1, each.train_rows,
             each.group)
            for each in self.classes
        ))  # fmt: skip

    def confusion_csv(self) -> str:
        """Return the text of ``confusion.csv``.

        Of at most 100 classes it is the matrix, a line for each true class and a column for each
        predicted one. Of more it is a line ``true,predicted,count`` for each cell that is not 0.
        """
        names = [each.name for each in self.classes]
        if len(names) > MOST_COLUMNS:
            pairs = ((names[each.true], names[each.predicted], each.count)
                     for each in self.confusion)  # fmt: skip
            return csv_text(("true", "predicted", "count"), pairs)
        matrix = [[0] * len(names) for _ in names]
        for each in self.confusion:
            matrix[each.true][each.predicted] = each.count
        lines = ((name, *line) for name, line in zip(names, matrix, strict=True))
        return csv_text(("true \\ predicted", *names), lines)


def short(probability: float) -> str:
    """Return a probability with six digits."""
    return f"{probability:.6g}"


def csv_text(heading: Sequence[str], lines: Iterator[Sequence[Any]]) -> str:
    """Return a CSV file."""
    return "".join([csv_line(heading), *map(csv_line, lines)])
