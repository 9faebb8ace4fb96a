"""featbank compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import options
from cli._progress import reporter
from cli._show import say, write_json
from featbank.runtime.names import printable

if TYPE_CHECKING:
    from featbank.results.comparison import Comparison

__all__ = ["command"]


@click.command()
@click.argument("banks", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--head", "heads", multiple=True, metavar="SPEC",
    help="Head to fit; may be repeated.  [default: joint, ncm, tau, crt and lws]",
)  # fmt: skip
@options.out
@click.option(
    "--groups",
    is_flag=True,
    help="Also show the accuracies of the many-, medium- and few-shot classes.",
)
@click.option("--error", is_flag=True, help="Also show the top-1 error.")
@click.option(
    "--tests",
    is_flag=True,
    help="Show every paired comparison, not only the clearest ones.",
)
@click.option(
    "--group", "seeds", multiple=True, metavar="NAME=BANK,BANK",
    help="Banks that differ in their seed only, shown as mean and standard deviation over them; "
    "may be repeated.",
)  # fmt: skip
@click.option(
    "--group-seeds", is_flag=True,
    help="Find by their recorded recipes the banks that differ in their seed only, and group "
    "them.",
)  # fmt: skip
@click.option(
    "--baseline", metavar="NAME",
    help="A head or a bank: only comparisons with it are made.  [default: all with all]",
)  # fmt: skip
@click.option(
    "--bootstrap", "draws", type=click.IntRange(min=100), default=1000, show_default=True,
    help="How often the evaluated rows are resampled for the intervals.",
)  # fmt: skip
@click.option(
    "--markdown", "markdown_to", type=click.Path(path_type=Path), metavar="FILE",
    help="Also write the tables as Markdown to this file.",
)  # fmt: skip
@options.select
@options.report
@options.seed
@options.device
@options.overwrite
@options.figures
@options.thumbnails
@options.images
@options.json_to
@options.quiet
def command(
    banks: tuple[Path, ...],
    heads: tuple[str, ...],
    out: Path,
    groups: bool,
    error: bool,
    tests: bool,
    seeds: tuple[str, ...],
    group_seeds: bool,
    baseline: str | None,
    draws: int,
    markdown_to: Path | None,
    select: str | None,
    report: str | None,
    seed: int,
    device: str,
    overwrite: bool,
    figures: Path | None,
    thumbnails: bool,
    images: str | None,
    json_to: Path | None,
    quiet: bool,
) -> None:
    """Compare heads on banks: which checkpoint, which head, and is the difference real.

    Parameters are chosen on val and each head is evaluated once on the reported split. What --out
    holds already, of the same bank, head, seed and version, is not done again, so adding a bank
    costs one bank. --overwrite does everything anew. What is there stays until the new is whole.
    """
    from cli._outputs import COMPARISON_FILES, refuse_outputs
    from featbank.comparing.compare import DEFAULT_HEADS, compare
    from featbank.report import build_report, draw_figures, refuse_figures, refuse_images

    options.check_images(images, thumbnails=thumbnails)
    refuse_images(images)
    refuse_outputs(
        {"--json": json_to, "--markdown": markdown_to},
        overwrite=overwrite, out=out, taken=COMPARISON_FILES,
    )  # fmt: skip
    if figures is not None:
        refuse_figures(figures)
    result = compare(
        banks, heads or DEFAULT_HEADS, out,
        select=select, report=report, seed=seed, draws=draws, baseline=baseline,
        groups=seed_groups(seeds), by_recipe=group_seeds, device=device, overwrite=overwrite,
        reporter=reporter(quiet=quiet),
    )  # fmt: skip
    if figures is not None:
        draw_figures(out, figures)
    if thumbnails:
        build_report(out, thumbnails=True, images=images, reporter=reporter(quiet=quiet))
    metrics = [
        "all",
        *(("many", "medium", "few") if groups else ()),
        *(("error",) if error else ()),
    ]
    if markdown_to is not None:
        write_markdown(markdown_to, result, metrics, overwrite=overwrite)
    if not write_json(json_to, result.to_json(), overwrite=overwrite):
        show(result, metrics, everything=tests)
        page = printable(str(out / "report.html"))
        say(f"everything is in {printable(str(out))}; to look at it, open {page}")


def write_markdown(path: Path, result: Comparison, metrics: list[str], *, overwrite: bool) -> None:
    """Write the tables as Markdown, with the mark by which --overwrite knows the file again.

    Parameters
    ----------
    path : Path
        The file.
    result : Comparison
        What is written.
    metrics : list of str
        The metrics that the table of heads shows.
    overwrite : bool
        Whether a file that featbank wrote may be replaced.
    """
    from cli._outputs import write_output
    from featbank.results.owned import COMPARISON_MARK

    text = f"{result.to_markdown(metrics)}\n{COMPARISON_MARK}\n"
    write_output("--markdown", path, text, overwrite=overwrite)


def show(result: Comparison, metrics: list[str], *, everything: bool = False) -> None:
    """Print the tables of a comparison."""
    for line in result.lines(metrics, everything=everything):
        say(line)


def seed_groups(texts: tuple[str, ...]) -> dict[str, list[str]]:
    """Parse ``NAME=A.zarr,B.zarr``; banks are named as the table names them, or by their path."""
    groups: dict[str, list[str]] = {}
    for text in texts:
        name, equals, banks = text.partition("=")
        if not (name and equals and banks) or name in groups:
            message = f"--group wants NAME=A.zarr,B.zarr, each name once; got {text!r}"
            raise click.UsageError(message)
        groups[name] = banks.split(",")
    return groups
