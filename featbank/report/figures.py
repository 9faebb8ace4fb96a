"""Figures for a paper, of the same numbers as the page: PDF with embedded fonts, and PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featbank.errors import InputError, OutputExistsError
from featbank.files.atomic import refuse_odd_file, replace_files
from featbank.files.replacing import refuse_odd_folder
from featbank.report.page_data import PageCell, PageCurve, PageData
from featbank.results.owned import is_figure
from featbank.runtime.names import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["load_matplotlib", "size_trend", "write_figures"]

# Okabe and Ito, "Color Universal Design" (2008), in the order of the page; yellow is too light.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GROUP_COLOURS = {"many": "#0072B2", "medium": "#009E73", "few": "#D55E00", "all": "#000000"}
DASHES: tuple[Any, ...] = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D")

# 42 embeds TrueType, which publishers ask for; sizes are those of a column of text.
SETTINGS: dict[str, Any] = {
    "pdf.fonttype": 42,
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
}
WIDTH, HEIGHT = 3.5, 2.5
DOTS_PER_INCH = 300
# No date, so that the same numbers give the same bytes; and the mark by which a figure is known.
MADE_BY: dict[str, dict[str, str | None]] = {
    "pdf": {"CreationDate": None, "Creator": "featbank"},
    "png": {"Software": "featbank"},
}
# What fits into a line of the legend; a line's picture takes about 6.
LEGEND_LETTERS = 65


def write_figures(data: PageData, folder: Path) -> list[Path]:
    """Write every figure of what is shown (`data` of `collect`) into a folder; return their paths.

    All are drawn before the first is written, and earlier ones are replaced when all are written.

    Raises
    ------
    InputError
        matplotlib is not installed.
    OutputExistsError
        A file that featbank did not draw has the name of a figure.
    """
    matplotlib = load_matplotlib()
    refuse_odd_folder(folder, "--figures")
    with matplotlib.rc_context(SETTINGS):
        drawn = {folder / name: raw for each in drawings(data) for name, raw in render(*each)}
    for path in drawn:
        refuse_other_figure(path)
    folder.mkdir(parents=True, exist_ok=True)
    replace_files({path: partial(Path.write_bytes, data=raw) for path, raw in drawn.items()})
    return list(drawn)


def refuse_other_figure(path: Path) -> None:
    """Refuse to replace a figure that featbank did not draw."""
    refuse_odd_file(path)
    if path.exists() and not is_figure(path):
        message = (
            f"{path} was not drawn by featbank and is not replaced; choose another folder for "
            "--figures"
        )
        raise OutputExistsError(message)


def load_matplotlib() -> Any:
    """Import matplotlib, or say how to get it."""
    try:
        import matplotlib
    except ImportError as error:
        message = "--figures needs matplotlib: pip install 'featbank[figures]'"
        raise InputError(message) from error
    return matplotlib


def drawings(data: PageData) -> Iterator[tuple[str, Callable[[Axes], None]]]:
    """Yield the name of each figure, and what draws it."""
    yield "comparison", partial(comparison, data=data)
    for index, bank in enumerate(data.banks):
        cells = data.of_bank(index)
        for curve in bank.curves:
            yield (
                f"{curve.head}-{bank.slug}",
                partial(exact_curve, data=data, curve=curve, cells=cells),
            )
        if any(cell.norms is not None for cell in cells):
            yield f"norms-{bank.slug}", partial(weight_norms, data=data, cells=cells)
        if any(cell.hits is not None for cell in cells):
            yield f"classes-{bank.slug}", partial(class_accuracy, data=data, cells=cells)


def render(name: str, draw: Callable[[Axes], None]) -> Iterator[tuple[str, bytes]]:
    """Draw one figure; yield the names and the bytes of its two files."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    draw(axes)
    longest = max((len(name) for name in axes.get_legend_handles_labels()[1]), default=1)
    columns = min(5, max(1, LEGEND_LETTERS // (longest + 6)))
    figure.legend(loc="outside upper left", ncols=columns, fontsize=7, columnspacing=1.2)
    for kind, metadata in MADE_BY.items():
        raw = io.BytesIO()
        figure.savefig(raw, format=kind, dpi=DOTS_PER_INCH, metadata=metadata)
        yield f"{name}.{kind}", raw.getvalue()


def label(text: str) -> str:
    """Return a name as matplotlib shows it: no control characters, no formulas."""
    return printable(text).replace("$", r"\$")


def mark(cell: PageCell) -> str:
    """Return the mark of a head whose parameter was chosen on the reported split."""
    return " (REPORTED)" if cell.dishonest else ""


def of_split(data: PageData, cells: Sequence[PageCell]) -> str:
    """Name the reported split on an axis, marked where a parameter was chosen on it."""
    seen = any(cell.dishonest for cell in cells)
    return f"{data.settings.report}{', chosen on it' if seen else ''}"


def comparison(axes: Axes, data: PageData) -> None:
    """Draw `all` with its 95 % interval, heads across, checkpoints by mark."""
    n_banks = len(data.banks)
    for index, bank in enumerate(data.banks):
        cells = data.of_bank(index)
        at = np.array([cell.head for cell in cells]) + 0.6 * ((index + 0.5) / n_banks - 0.5)
        values = np.array([cell.metrics["all"] for cell in cells], dtype=float)
        spans = np.array([cell.ci95.get("all") or (np.nan, np.nan) for cell in cells])
        ends = np.clip(np.abs(spans.T - values), 0, None)
        axes.errorbar(
            at, 100 * values, yerr=100 * ends, fmt=MARKERS[index % 4], markersize=4,
            color=COLOURS[index % 7], elinewidth=1, label=label(bank.name),
        )  # fmt: skip
    axes.set_xticks(range(len(data.heads)), [label(head) for head in data.heads])
    if max(map(len, data.heads)) > 8:
        axes.tick_params(axis="x", labelrotation=30)
    axes.set_ylabel(f"accuracy on {of_split(data, data.cells)} (%)")
    axes.grid(visible=False, axis="x")


def exact_curve(axes: Axes, data: PageData, curve: PageCurve, cells: Sequence[PageCell]) -> None:
    """Draw accuracy over tau on the reported split by shot group, the chosen tau marked.

    Parameters
    ----------
    axes : Axes
        Where it is drawn.
    data : PageData
        The comparison.
    curve : PageCurve
        The curve of one head on one bank.
    cells : sequence of PageCell
        The results on the bank. The legend tells where one of them chose on the reported split.
    """
    report = data.settings.report
    split = report if report is not None and report in curve.splits else list(curve.splits)[-1]
    for (group, colour), dash in zip(GROUP_COLOURS.items(), DASHES, strict=True):
        values = curve.splits[split].get(group)
        if values is not None:
            axes.plot(curve.parameter, 100 * values, dash, color=colour, label=group)
    if curve.best is not None:
        seen = any(cell.dishonest for cell in cells)
        label_of = "chosen (REPORTED)" if seen else "chosen"
        axes.axvline(curve.best, color="0.4", linewidth=0.8, label=label_of)
    axes.set_xlabel("tau")
    axes.set_ylabel(f"accuracy on {split} (%)")


def weight_norms(axes: Axes, data: PageData, cells: Sequence[PageCell]) -> None:
    """Draw the norm of each class's weight over its head's mean, from the largest class on."""
    linear = [(cell, cell.norms) for cell in cells if cell.norms is not None]
    for index, (cell, norms) in enumerate(linear):
        head = data.heads[cell.head]
        before = head == "joint"
        axes.plot(
            np.linspace(0, 1, len(norms)), norms / norms.mean(), DASHES[index % 4],
            color="#000000" if before else COLOURS[index % 6],
            label="joint (stage 1)" if before else label(head) + mark(cell),
        )  # fmt: skip
    sizes = data.classes_of(linear[0][0].bank).size
    ticks = np.unique(np.rint(np.linspace(0, len(sizes) - 1, 5)).astype(int))
    axes.set_xticks(ticks / max(len(sizes) - 1, 1), [f"{sizes[tick]:.0f}" for tick in ticks])
    axes.set_xlabel("classes, largest to smallest (training images)")
    axes.set_ylabel("weight norm / its mean")


def class_accuracy(axes: Axes, data: PageData, cells: Sequence[PageCell]) -> None:
    """Draw accuracy against class size: means of classes of like size, a line for each head."""
    from matplotlib.ticker import LogLocator, NullLocator

    classes = data.classes_of(cells[0].bank)
    for index, cell in enumerate(cells):
        if cell.hits is None:
            continue
        sizes, values = size_trend(classes.counts, cell.hits, classes.rows)
        axes.plot(
            sizes, 100 * values, DASHES[index % 4], color=COLOURS[index % 7],
            marker=MARKERS[index % 4], markersize=2.5,
            label=label(data.heads[cell.head]) + mark(cell),
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("training images of the class")
    axes.set_ylabel(f"accuracy on {of_split(data, cells)} (%)")


def size_trend(
    counts: NDArray[Any], hits: NDArray[Any], rows: NDArray[Any], most: int = 20
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return size and accuracy of classes of like size: means over runs of neighbours.

    Classes without rows are left out. The others, from the largest on, are cut into at most
    `most` runs; each gives the geometric mean of its sizes and the mean of its accuracies.

    Parameters
    ----------
    counts : array of shape (C,)
        The training rows of each class.
    hits : array of shape (C,)
        The rows of each class that were predicted as it.
    rows : array of shape (C,)
        The evaluated rows of each class.
    most : int
        The number of runs at most.

    Returns
    -------
    two arrays of shape (r,)
        Size and accuracy of each run, r of at most `most`.
    """
    there = np.flatnonzero(rows > 0)
    order = there[np.argsort(-counts[there].astype(np.int64), kind="stable")]
    runs = np.array_split(order, max(1, min(most, len(order))))
    accuracy = hits[order] / rows[order]
    size = np.log(np.maximum(counts[order], 1))
    cuts = np.cumsum([len(run) for run in runs])[:-1]
    means = [[part.mean() for part in np.split(each, cuts)] for each in (size, accuracy)]
    return np.exp(means[0]), np.array(means[1])
