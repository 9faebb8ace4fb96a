"""featbank train."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli._progress import reporter
from cli._show import percent, write_json
from cli.specs import Spec, parse_spec

if TYPE_CHECKING:
    from featbank.config import TrainConfig

__all__ = ["command", "config_for", "shot_metrics"]


@click.command()
@options.data
@options.backbone
@options.out
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training images.")
@click.option("--batch-size", type=click.IntRange(min=2), help="Images per step.")
@click.option("--optimizer", type=click.Choice(["sgd", "adamw"]), help="How weights move.")
@click.option("--lr", type=float, help="Learning rate at its highest; a cosine takes it to 0.")
@click.option("--momentum", type=float, help="Of sgd.")
@click.option("--weight-decay", type=float, help="Pull of the weights towards 0.")
@click.option("--warmup-epochs", type=click.IntRange(min=0), help="Epochs of rising rate first.")
@click.option(
    "--sampler", metavar="NAME",
    help="instance, class, sqrt, progressive, reversed, class-aware, or q=NUMBER: class j is "
    "drawn with p_j proportional to n_j^q.",
)  # fmt: skip
@options.image_size
@options.mean
@options.std
@options.pretrained
@options.weights
@options.seed
@options.device
@options.workers
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out, if any.")
@options.overwrite
@options.json_to
@options.quiet
def command(
    data: str,
    out: Path,
    device: str,
    resume: bool,
    overwrite: bool,
    json_to: Path | None,
    quiet: bool,
    **settings: Any,
) -> None:
    """Train a backbone on long-tailed images.

    Options that are left out take the published ImageNet-LT recipe (90 epochs of SGD at rate 0.1,
    batch 256), or for digits-lt one that suits its size. Every epoch is validated by shot group
    where there is a val split, and the best one is kept beside the last.
    """
    from featbank.data import open_data
    from featbank.train import train

    spec = parse_spec(data)
    images = open_data(spec.name, spec.params)
    summary = train(
        images,
        {"name": spec.name, "params": spec.params},
        config_for(spec, settings),
        out,
        device=device,
        metrics=shot_metrics(images.shots),
        reporter=reporter(quiet=quiet),
        resume=resume,
        overwrite=overwrite,
    )
    if not write_json(json_to, {"schema": 1, **summary}):
        click.echo(line(summary))


def config_for(data: Spec, settings: dict[str, Any]) -> TrainConfig:
    """Return the data set's preset with the settings that were given."""
    from featbank.config import PRESETS, TrainConfig

    given = {name: value for name, value in settings.items() if value is not None}
    return dataclasses.replace(PRESETS.get(data.name, TrainConfig()), **given)


def shot_metrics(shots: Any) -> Any:
    """Return the function that validates an epoch: accuracies by shot group."""
    from heads.metrics import evaluate

    def metrics(labels: Any, predicted: Any, counts: Any) -> dict[str, float | None]:
        found = evaluate(labels, predicted, counts, shots.many_above, shots.few_below)
        return {name: found[name] for name in ("all", "many", "medium", "few", "micro")}

    return metrics


def line(summary: dict[str, Any]) -> str:
    """Return one line about a finished training."""
    text = f"{summary['checkpoint']}: {summary['epochs']} epochs, {summary['seconds']:.0f} s"
    if summary["best"] is None:
        return text
    best = summary["best"]
    shown = ", ".join(f"{name} {percent(value)}" for name, value in best["val"].items())
    return f"{text}; best on val in epoch {best['epoch']}: {shown} (%)"
