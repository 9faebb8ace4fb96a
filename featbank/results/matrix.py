"""The table of a comparison, in 80 columns of a terminal and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from featbank.results.numbers import percent
from featbank.runtime.names import printable

__all__ = ["comparison_lines", "group_lines", "markdown", "matrix_lines", "ordered_banks"]

WIDTH = 80
GAP = "  "
TITLES = {
    "all": "accuracy, mean over classes (`all`), in %",
    "many": "accuracy on many-shot classes, in %",
    "medium": "accuracy on medium-shot classes, in %",
    "few": "accuracy on few-shot classes, in %",
    "error": "top-1 error, in %",
}
# The level at which a difference is called clear.
LEVEL = 0.05
# The comparisons that are shown unless all are asked for.
MOST_COMPARISONS = 5

Cells = Mapping[tuple[str, str], Mapping[str, Any]]


def cells_of(result: Mapping[str, Any]) -> Cells:
    """Return the results by bank and head."""
    return {(entry["bank_name"], entry["spec"]): entry for entry in result["results"]}


def value_of(entry: Mapping[str, Any], metric: str) -> tuple[float | None, list[float] | None]:
    """Return a metric and its interval; `error` is one minus `micro`."""
    if metric != "error":
        return entry["metrics"][metric], entry["ci95"][metric]
    value, ends = entry["metrics"]["micro"], entry["ci95"]["micro"]
    return (
        None if value is None else 1 - value,
        None if ends is None else [1 - ends[1], 1 - ends[0]],
    )


def best_of(cells: Cells, bank: str, heads: Sequence[str], metric: str) -> set[str]:
    """Return the heads whose value, as shown, is a bank's best."""
    shown = {head: value_of(cells[bank, head], metric)[0] for head in heads}
    known = {head: round(1000 * value) for head, value in shown.items() if value is not None}
    if len(known) < 2:
        return set()
    top = min(known.values()) if metric == "error" else max(known.values())
    return {head for head, value in known.items() if value == top}


def ordered_banks(result: Mapping[str, Any], metric: str = "all") -> list[str]:
    """Return the banks, the one with the best cell first; of equals the one named first."""
    cells, sign = cells_of(result), -1 if metric == "error" else 1

    def best(bank: str) -> float:
        values = [value_of(cells[bank, head], metric)[0] for head in result["heads"]]
        return max((sign * value for value in values if value is not None), default=-2.0)

    return sorted((bank["name"] for bank in result["banks"]), key=best, reverse=True)


def labels_of(result: Mapping[str, Any]) -> dict[str, str]:
    """Return each bank's name, marked where a head's parameter was chosen on what is reported."""
    seen = {entry["bank_name"] for entry in result["results"] if chose_on_reported(entry)}
    names = [bank["name"] for bank in result["banks"]]
    return {name: f"{name} (REPORTED)" if name in seen else name for name in names}


def chose_on_reported(entry: Mapping[str, Any]) -> bool:
    """Tell whether a head's parameter was chosen on the split on which it is reported."""
    return entry.get("selected_on") is not None and entry["selected_on"] == entry.get("split")


def title_of(result: Mapping[str, Any], metric: str) -> str:
    """Return a table's title; it says where a shot group is of other classes in other banks."""
    kinds = {bank.get("shot_groups", 0) for bank in result["banks"]}
    unlike = len(kinds) > 1 and metric in ("many", "medium", "few")
    return TITLES[metric] + ("; not the same classes in every bank" if unlike else "")


def matrix_lines(result: Mapping[str, Any], metric: str = "all") -> Iterator[str]:
    """Yield the table: a line of values for each bank, its intervals below, the best starred.

    Where the heads do not fit beside each other, they go on in a second table.
    """
    cells, heads = cells_of(result), list(result["heads"])
    banks = ordered_banks(result)
    names = labels_of(result)
    first = min(max(len(printable(name)) for name in ("bank", *names.values())), 30)
    yield title_of(result, metric)
    shown_names = {bank: names[bank] for bank in banks}
    while heads:
        shown, room = [heads.pop(0)], WIDTH - first
        room -= column_width(cells, banks, shown[0], metric)
        while heads and room >= column_width(cells, banks, heads[0], metric):
            room -= column_width(cells, banks, heads[0], metric)
            shown.append(heads.pop(0))
        yield from block(cells, shown_names, shown, first, metric, result["heads"])


def column_width(cells: Cells, banks: Sequence[str], head: str, metric: str) -> int:
    """Return the width of a head's column, with the gap before it."""
    texts = [text for bank in banks for text in texts_of(cells[bank, head], metric, starred=True)]
    return max(len(text) for text in (clip(head, 24), *texts)) + len(GAP)


def block(
    cells: Cells,
    names: Mapping[str, str],
    shown: Sequence[str],
    first: int,
    metric: str,
    every: Sequence[str],
) -> Iterator[str]:
    """Yield the lines of some heads' columns; `names` has the banks in order, as they are shown."""
    widths = [column_width(cells, list(names), head, metric) for head in shown]
    yield "bank".ljust(first) + row([clip(head, 24) for head in shown], widths)
    yield "-" * (first + sum(widths))
    for bank, name in names.items():
        best = best_of(cells, bank, every, metric)
        texts = [texts_of(cells[bank, head], metric, starred=head in best) for head in shown]
        yield clip(name, 30).ljust(first) + row([text[0] for text in texts], widths)
        below = " " * first + row([text[1] for text in texts], widths)
        if below.strip():
            yield below.rstrip()
    yield ""


def row(texts: Sequence[str], widths: Sequence[int]) -> str:
    """Align texts to the right."""
    return "".join(text.rjust(width) for text, width in zip(texts, widths, strict=True))


def texts_of(entry: Mapping[str, Any], metric: str, *, starred: bool) -> tuple[str, str]:
    """Return a cell's value, starred or with the room for a star, and its interval."""
    value, ends = value_of(entry, metric)
    if value is None:
        return "- ", ""
    mark = "*" if starred else " "
    return percent(value) + mark, "" if ends is None else f"{percent(ends[0])}-{percent(ends[1])}"


def clip(text: str, most: int) -> str:
    """Escape a name and cut it in its middle where it is too long."""
    safe = printable(text)
    return safe if len(safe) <= most else f"{safe[: most // 2]}~{safe[-(most - most // 2 - 1) :]}"


def comparison_lines(result: Mapping[str, Any], *, everything: bool = False) -> Iterator[str]:
    """Yield the differences of `all` with the smallest corrected p-values."""
    found = sorted(
        result["comparisons"], key=lambda each: (each["p_adjusted"], each["p_bootstrap"])
    )
    if not found:
        return
    clear = sum(each["p_adjusted"] < LEVEL for each in found)
    yield (
        f"differences of `all` in points: {clear} of {len(found)} clear at {LEVEL:.0%}\n"
        "(p and McNemar's mid-p are corrected for their number, by Holm)"
    )
    shown = found if everything else found[:MOST_COMPARISONS]
    seen = {(e["bank_name"], e["spec"]) for e in result["results"] if chose_on_reported(e)}
    for each in map(greater_first, shown):
        low, high = each["ci95"]
        mid = each["p_mcnemar_adjusted"]
        words = stamp({(each[end]["bank"], each[end]["head"]) for end in "ab"} & seen)
        words += named_difference(each)
        numbers = (
            f"{100 * each['difference']:+5.1f} [{100 * low:+.1f}, {100 * high:+.1f}] "
            f"p={each['p_adjusted']:.3f} " + ("unpaired" if mid is None else f"mid-p={mid:.3f}")
        )
        yield f"  {clip(words, 34):34} {numbers}"
    if len(shown) < len(found):
        yield f"  and {len(found) - len(shown)} with larger p; --tests shows them"
    yield ""


def stamp(seen: Collection[Any]) -> str:
    """Return the mark of a line in which something was chosen on the split that is reported."""
    return "REPORTED " if seen else ""


def greater_first(each: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a comparison the other way round where its difference is negative."""
    if each["difference"] >= 0:
        return each
    low, high = each["ci95"]
    turned = {"a": each["b"], "b": each["a"], "difference": -each["difference"]}
    return {**each, **turned, "ci95": [-high, -low]}


def named_difference(each: Mapping[str, Any]) -> str:
    """Name two cells that are compared by what differs."""
    a, b = each["a"], each["b"]
    if a["bank"] == b["bank"]:
        return f"{a['bank']}: {a['head']} - {b['head']}"
    return f"{a['head']}: {a['bank']} - {b['bank']}"


def group_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield mean and standard deviation of `all` over the banks of each group."""
    shown = [each for each in result["groups"] if each["metric"] == "all"]
    if not shown:
        return
    yield "groups: mean and standard deviation of `all` over banks, in %"
    seen = {(e["bank_name"], e["spec"]) for e in result["results"] if chose_on_reported(e)}
    for each in shown:
        name = stamp({(bank, each["head"]) for bank in each["banks"]} & seen) + each["name"]
        spread = "" if each["std"] is None else f" ± {100 * each['std']:.1f}"
        mean = "-" if each["mean"] is None else f"{100 * each['mean']:.1f}{spread}"
        yield f"  {clip(name, 30):30} {clip(each['head'], 24):24} {mean}  (n = {each['n']})"
    yield ""


def markdown(result: Mapping[str, Any], metrics: Sequence[str]) -> str:
    """Return the tables as Markdown: value and interval, the best of each row bold."""
    cells, heads = cells_of(result), list(result["heads"])
    names = labels_of(result)
    lines: list[str] = []
    for metric in metrics:
        lines += [f"{title_of(result, metric)}, with 95 % interval", ""]
        lines += [f"| bank | {' | '.join(escape(head) for head in heads)} |"]
        lines += ["|---" * (len(heads) + 1) + "|"]
        for bank in ordered_banks(result):
            best = best_of(cells, bank, heads, metric)
            texts = [bold(cells[bank, head], metric, head in best) for head in heads]
            lines.append(f"| {escape(names[bank])} | {' | '.join(texts)} |")
        lines.append("")
    lines += [f"{note}." for note in map(escape, result["notes"])]
    return "\n".join(lines).rstrip() + "\n"


def bold(entry: Mapping[str, Any], metric: str, best: bool) -> str:
    """Return one cell in Markdown."""
    value, ends = value_of(entry, metric)
    if value is None:
        return "-"
    shown = f"**{percent(value)}**" if best else percent(value)
    return shown if ends is None else f"{shown} ({percent(ends[0])} to {percent(ends[1])})"


def escape(text: str) -> str:
    """Escape a name for Markdown: no control character, no markup, no cell's end."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~&])", r"\\\1", printable(text))
