"""The tables of a comparison, in 80 columns of a terminal and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from featbank.results.compared import CellName, ComparedBank, ComparedResult, Difference, SeedGroup
from featbank.results.numbers import percent
from featbank.runtime.names import printable

__all__ = ["TITLES", "Matrix", "difference_lines", "group_lines", "markdown", "matrix_lines"]

WIDTH = 80
GAP = "  "
TITLES = {
    "all": "accuracy, mean over classes (`all`), in %",
    "many": "accuracy on many-shot classes, in %",
    "medium": "accuracy on medium-shot classes, in %",
    "few": "accuracy on few-shot classes, in %",
    "micro": "top-1 accuracy, in %",
    "error": "top-1 error, in %",
}
# The level at which a difference is called clear.
LEVEL = 0.05
# The differences that are shown unless all are asked for.
MOST_DIFFERENCES = 5
# The most characters of a head's and of a bank's name in a column.
HEAD_WIDTH, BANK_WIDTH = 24, 30


@dataclass(frozen=True)
class Matrix:
    """One metric of every head on every bank: what a table shows.

    Attributes
    ----------
    metric : str
        A name of `TITLES`.
    banks, heads
        The banks and the heads' specifications, as the comparison has them.
    cells : mapping
        The results by the names of bank and head.
    """

    metric: str
    banks: Sequence[ComparedBank]
    heads: Sequence[str]
    cells: Mapping[CellName, ComparedResult]

    @classmethod
    def of(
        cls,
        metric: str,
        banks: Sequence[ComparedBank],
        heads: Sequence[str],
        results: Sequence[ComparedResult],
    ) -> Self:
        """Place results by bank and head.

        Parameters
        ----------
        metric, banks, heads
            As in `Matrix`.
        results : sequence of ComparedResult
            One for each bank and head.
        """
        return cls(metric, banks, heads, {entry.place: entry for entry in results})

    @property
    def title(self) -> str:
        """What is shown; it says where a shot group is of other classes in other banks."""
        kinds = {bank.shot_groups for bank in self.banks}
        unlike = len(kinds) > 1 and self.metric in ("many", "medium", "few")
        return TITLES[self.metric] + ("; not the same classes in every bank" if unlike else "")

    def at(self, bank: str, head: str) -> ComparedResult:
        """Return the result of a head on a bank."""
        return self.cells[CellName(bank, head)]

    def value(self, bank: str, head: str) -> float | None:
        """Return the metric of a head on a bank."""
        return self.at(bank, head).value(self.metric)[0]

    def best(self, bank: str) -> set[str]:
        """Return the heads whose value, as shown, is a bank's best."""
        shown = {head: self.value(bank, head) for head in self.heads}
        known = {head: round(1000 * value) for head, value in shown.items() if value is not None}
        if len(known) < 2:
            return set()
        top = min(known.values()) if self.metric == "error" else max(known.values())
        return {head for head, value in known.items() if value == top}

    def ordered_banks(self) -> list[str]:
        """Return the banks, the one with the best value first; of equals the one named first."""
        sign = -1 if self.metric == "error" else 1

        def best(bank: str) -> float:
            values = [self.value(bank, head) for head in self.heads]
            return max((sign * value for value in values if value is not None), default=-2.0)

        return sorted((bank.name for bank in self.banks), key=best, reverse=True)

    def labels(self) -> dict[str, str]:
        """Return banks' names, marked where a head's parameter was chosen on what is reported."""
        seen = {bank for bank, _ in chose_on_reported(self.cells.values())}
        names = [bank.name for bank in self.banks]
        return {name: f"{name} (REPORTED)" if name in seen else name for name in names}

    def texts(self, bank: str, head: str, *, starred: bool) -> tuple[str, str]:
        """Return a value, starred or with the room for a star, and its interval."""
        value, ends = self.at(bank, head).value(self.metric)
        if value is None:
            return "- ", ""
        mark = "*" if starred else " "
        span = "" if ends is None else f"{percent(ends[0])}-{percent(ends[1])}"
        return percent(value) + mark, span

    def width(self, head: str) -> int:
        """Return the width of a head's column, with the gap before it."""
        texts = [text for bank in self.banks for text in self.texts(bank.name, head, starred=True)]
        return max(len(text) for text in (clip(head, HEAD_WIDTH), *texts)) + len(GAP)


def chose_on_reported(results: Collection[ComparedResult]) -> set[tuple[str, str]]:
    """Return bank and head of the results whose parameter was chosen on the reported split."""
    return {(entry.bank_name, entry.spec) for entry in results if entry.chose_on_reported}


def matrix_lines(matrix: Matrix) -> Iterator[str]:
    """Yield the table: a line of values for each bank, its intervals below, the best starred.

    Where the heads do not fit beside each other, they go on in a second table.
    """
    names = matrix.labels()
    first = min(max(len(printable(name)) for name in ("bank", *names.values())), BANK_WIDTH)
    yield matrix.title
    heads = list(matrix.heads)
    while heads:
        shown = [heads.pop(0)]
        room = WIDTH - first - matrix.width(shown[0])
        while heads and room >= matrix.width(heads[0]):
            room -= matrix.width(heads[0])
            shown.append(heads.pop(0))
        yield from block(matrix, shown, first)


def block(matrix: Matrix, shown: Sequence[str], first: int) -> Iterator[str]:
    """Yield the lines of some heads' columns; `first` is the width of the banks' names."""
    names, widths = matrix.labels(), [matrix.width(head) for head in shown]
    yield "bank".ljust(first) + row([clip(head, HEAD_WIDTH) for head in shown], widths)
    yield "-" * (first + sum(widths))
    for bank in matrix.ordered_banks():
        best = matrix.best(bank)
        texts = [matrix.texts(bank, head, starred=head in best) for head in shown]
        values = row([text[0] for text in texts], widths)
        yield clip(names[bank], BANK_WIDTH).ljust(first) + values
        below = " " * first + row([text[1] for text in texts], widths)
        if below.strip():
            yield below.rstrip()
    yield ""


def row(texts: Sequence[str], widths: Sequence[int]) -> str:
    """Align texts to the right."""
    return "".join(text.rjust(width) for text, width in zip(texts, widths, strict=True))


def clip(text: str, most: int) -> str:
    """Escape a name and cut it in its middle where it is too long."""
    safe = printable(text)
    return safe if len(safe) <= most else f"{safe[: most // 2]}~{safe[-(most - most // 2 - 1) :]}"


def difference_lines(
    differences: Sequence[Difference],
    results: Sequence[ComparedResult],
    *,
    everything: bool = False,
) -> Iterator[str]:
    """Yield the differences of `all` with the smallest corrected p-values."""
    found = sorted(differences, key=lambda each: (each.p_adjusted, each.p_bootstrap))
    if not found:
        return
    clear = sum(each.p_adjusted < LEVEL for each in found)
    yield (
        f"differences of `all` in points: {clear} of {len(found)} clear at {LEVEL:.0%}\n"
        "(p and McNemar's mid-p are corrected for their number, by Holm)"
    )
    shown = found if everything else found[:MOST_DIFFERENCES]
    seen = chose_on_reported(results)
    for each in shown:
        yield difference_line(each if each.difference >= 0 else each.turned(), seen)
    if len(shown) < len(found):
        yield f"  and {len(found) - len(shown)} with larger p; --tests shows them"
    yield ""


def difference_line(each: Difference, seen: set[tuple[str, str]]) -> str:
    """Return the line of one difference; `seen` are the results chosen on the reported split."""
    low, high = each.ci95
    mid = each.p_mcnemar_adjusted
    words = stamp({(end.bank, end.head) for end in (each.a, each.b)} & seen)
    words += named_difference(each)
    return (
        f"  {clip(words, 34):34} {100 * each.difference:+5.1f} "
        f"[{100 * low:+.1f}, {100 * high:+.1f}] {p_text(each.p_adjusted)} "
        + ("unpaired" if mid is None else f"mid-{p_text(mid)}")
    )


def p_text(p: float) -> str:
    """Return a p-value to three digits; one that would be 0 is said to be below 0.001."""
    return "p<0.001" if p < 0.001 else f"p={p:.3f}"


def stamp(seen: Collection[tuple[str, str]]) -> str:
    """Return the mark of a line in which something was chosen on the split that is reported."""
    return "REPORTED " if seen else ""


def named_difference(each: Difference) -> str:
    """Name two results that are compared by what differs."""
    a, b = each.a, each.b
    if a.bank == b.bank:
        return f"{a.bank}: {a.head} - {b.head}"
    return f"{a.head}: {a.bank} - {b.bank}"


def group_lines(groups: Sequence[SeedGroup], results: Sequence[ComparedResult]) -> Iterator[str]:
    """Yield mean and standard deviation of `all` over the banks of each group."""
    shown = [each for each in groups if each.metric == "all"]
    if not shown:
        return
    yield "groups: mean and standard deviation of `all` over banks, in %"
    seen = chose_on_reported(results)
    for each in shown:
        name = stamp({(bank, each.head) for bank in each.banks} & seen) + each.name
        yield f"  {clip(name, 30):30} {clip(each.head, 24):24} {spread(each)}  (n = {each.n})"
    yield ""


def spread(group: SeedGroup) -> str:
    """Return mean ± standard deviation in %."""
    if group.mean is None:
        return "-"
    return f"{100 * group.mean:.1f}" + ("" if group.std is None else f" ± {100 * group.std:.1f}")


def markdown(matrices: Sequence[Matrix], notes: Sequence[str]) -> str:
    """Return tables as Markdown: value and interval, the best of each row bold."""
    lines: list[str] = []
    for matrix in matrices:
        lines += [f"{matrix.title}, with 95 % interval", "", *markdown_rows(matrix), ""]
    lines += [f"{note}." for note in map(escape, notes)]
    return "\n".join(lines).rstrip() + "\n"


def markdown_rows(matrix: Matrix) -> Iterator[str]:
    """Yield the lines of one table in Markdown."""
    names = matrix.labels()
    yield f"| bank | {' | '.join(map(escape, matrix.heads))} |"
    yield "|---" * (len(matrix.heads) + 1) + "|"
    for bank in matrix.ordered_banks():
        best = matrix.best(bank)
        texts = [bold(matrix, bank, head, best=head in best) for head in matrix.heads]
        yield f"| {escape(names[bank])} | {' | '.join(texts)} |"


def bold(matrix: Matrix, bank: str, head: str, *, best: bool) -> str:
    """Return one cell in Markdown, with the interval behind the value.

    Parameters
    ----------
    matrix : Matrix
    bank, head : str
        The bank's name and the head's specification.
    best : bool
        Whether the value is the bank's best, which is bold.
    """
    value, ends = matrix.at(bank, head).value(matrix.metric)
    if value is None:
        return "-"
    shown = f"**{percent(value)}**" if best else percent(value)
    return shown if ends is None else f"{shown} ({percent(ends[0])} to {percent(ends[1])})"


def escape(text: str) -> str:
    """Escape a name for Markdown: no control character, no markup, no cell's end."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~&])", r"\\\1", printable(text))
