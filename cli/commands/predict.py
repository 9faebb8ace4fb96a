"""featbank predict."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli._progress import reporter
from cli._streams import complain

if TYPE_CHECKING:
    from featbank.serving.model import Model
    from featbank.serving.predict import Counts

__all__ = ["command"]


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "--model", "model_folder", type=click.Path(path_type=Path), metavar="DIR",
    help="The folder of a model that featbank export wrote.",
)  # fmt: skip
@options.run
@click.option(
    "--head", type=click.Path(path_type=Path), metavar="FILE",
    help="A head that featbank fit saved.",
)  # fmt: skip
@options.network
@click.option(
    "--out", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE", default="-",
    help="Where the labels go; standard output by default.",
)  # fmt: skip
@click.option(
    "--format", "form", type=click.Choice(["csv", "jsonl"]),
    help="CSV or JSON lines; by default what --out's name ends in, else CSV.",
)  # fmt: skip
@click.option(
    "--top-k", type=click.IntRange(min=1), default=1, show_default=True,
    help="How many classes to name for each image, the most probable first.",
)  # fmt: skip
@click.option(
    "--min-confidence", type=click.FloatRange(0, 1), default=0.0, show_default=True,
    help="Leave images undecided whose best class has a smaller probability.",
)  # fmt: skip
@click.option(
    "--prior", metavar="train|uniform|FILE",
    help="How often the classes come where the model is used: as in training, all alike, or by a "
    "CSV file of lines class,probability. By default probabilities are the head's own.",
)  # fmt: skip
@click.option(
    "--on-bad-image", type=click.Choice(["skip", "error"]), default="skip", show_default=True,
    help="An image that cannot be read: give it no label and say why, or stop.",
)  # fmt: skip
@click.option("--split", help="Of a bank or a feature file: the split to label.  [default: test]")
@click.option(
    "--trust", is_flag=True,
    help="Also load a pt2 program, which can run code of whoever wrote it.",
)  # fmt: skip
@options.batch_size
@options.workers
@options.device
@click.option(
    "--overwrite", is_flag=True, help="Replace labels that featbank wrote to --out before."
)
@options.quiet
def command(
    sources: tuple[str, ...],
    model_folder: Path | None,
    run: Path | None,
    head: Path | None,
    backbone: str | None,
    pretrained: bool | None,
    weights: Path | None,
    image_size: int | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    which: str,
    out: Path,
    form: str | None,
    top_k: int,
    min_confidence: float,
    prior: str | None,
    on_bad_image: str,
    split: str | None,
    trust: bool,
    batch_size: int,
    workers: int,
    device: str,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Label new images with a model, or a bank with a head.

    Writes path, label and confidence, a line for each.

    SOURCE is an image, a folder of any depth, a .txt list of paths, or - for such a list on
    standard input; or one bank or feature file, for which --head is enough.

    With --model DIR of featbank export; or with --head FILE and its network: --run RUN, or
    --backbone NAME with --pretrained or --weights FILE.
    """
    from featbank.files.atomic import refuse_other_file
    from featbank.results.predictions import is_predictions
    from featbank.serving.predict import How, label_all

    if str(out) != "-":
        refuse_other_file(out, overwrite=overwrite, ours=is_predictions)
    given = {
        "backbone": backbone, "weights": weights, "pretrained": pretrained,
        "image_size": image_size, "mean": mean, "std": std,
    }  # fmt: skip
    network = {name: value for name, value in given.items() if value is not None}
    model = opened(sources, model_folder, run, head, network, which, device, trust=trust)
    how = How(
        form=form or ("jsonl" if out.suffix in (".jsonl", ".ndjson") else "csv"),
        top_k=top_k,
        min_confidence=min_confidence,
        prior=prior,
        on_bad_image=on_bad_image,
        batch_size=batch_size,
        workers=workers,
        split=split,
    )
    label = partial(label_all, model, sources, how, reporter=reporter(quiet=quiet))
    if str(out) == "-":
        report(label(to_standard_output), "standard output")
    else:
        report(into_file(out, label), str(out))


def into_file(out: Path, label: Callable[[Callable[[str], object]], Counts]) -> Counts:
    """Write labels into a file, in one step; `label` is given what takes its lines."""
    from featbank.files.atomic import replace_file, storage_errors

    counts: list[Counts] = []

    def write(part: Path) -> None:
        with open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            counts.append(label(file.write))

    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_file(out, write)
    return counts[0]


def opened(
    sources: tuple[str, ...],
    model_folder: Path | None,
    run: Path | None,
    head: Path | None,
    network: dict[str, Any],
    which: str,
    device: str,
    *,
    trust: bool,
) -> Model:
    """Return the model that the options name, or say which are missing or too many.

    Parameters
    ----------
    sources : tuple of str
        What is to be labelled: features need no network.
    model_folder, run, head : Path, optional
        The folder of an exported model; or a training, and a head's file.
    network : dict
        The options that name a backbone and its weights, those that were given.
    which : {"best", "last"}
        Which checkpoint of a training.
    device : str
        Where scores are computed.
    trust : bool
        Whether a pt2 program may be loaded.
    """
    from cli._network import source_of
    from featbank.serving.loading import head_alone
    from featbank.serving.model import Model
    from featbank.serving.predict import is_features

    if model_folder is not None:
        if head or run or network:
            message = "--model is a whole model: give it without --head, --run and --backbone"
            raise click.UsageError(message)
        return Model.load(model_folder, device=device, trust=trust)
    if head is None:
        message = "give --model DIR, or --head FILE with --run RUN or --backbone NAME"
        raise click.UsageError(message)
    if run is None and not network and is_features(sources[0]):
        return Model.of(head_alone(head))
    backbone = network.pop("backbone", None)
    return Model.load(
        source_of(run, backbone, network, "--run RUN"), head, which=which, device=device
    )


def to_standard_output(text: str) -> None:
    """Print lines; escaped on a terminal, which a path's control characters would steer."""
    from cli._show import printing, say

    if sys.stdout.isatty():
        say(text, end="")
        return
    with printing():
        click.echo(text.encode("utf-8", "surrogateescape"), nl=False)


def report(counts: Counts, where: str) -> None:
    """Say on standard error how many rows were labelled, undecided and unreadable."""
    undecided = f", {counts.undecided:,} undecided" if counts.undecided else ""
    bad = f", {len(counts.unreadable):,} could not be read" if counts.unreadable else ""
    complain(f"{counts.labelled:,} labelled{undecided}{bad}: {where}")
