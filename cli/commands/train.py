"""featbank train."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli._progress import first_of_job, reporter
from cli._show import say, write_json
from featbank.results.numbers import percent
from featbank.runtime.spec import Spec, load_yaml, parse_spec

if TYPE_CHECKING:
    from featbank.stage1.config import TrainConfig

__all__ = ["command", "config_for", "shot_metrics"]


# What a file may not set, because it may be a stranger's: where is written, what is replaced there,
# what is shown, and where is computed.
NOT_IN_CONFIG = frozenset({
    "config", "debug", "device", "json_to", "out", "overwrite", "quiet", "replace_in_place",
    "resume", "strict",
})  # fmt: skip


def read_config(ctx: click.Context, _param: click.Parameter, path: Path | None) -> None:
    """Take a YAML file's values for the options that the command line does not give."""
    if path is None:
        return
    try:
        content = load_yaml(path)
    except ValueError as error:
        message = f"cannot read --config {path}: {error}"
        raise click.UsageError(message) from error
    if not isinstance(content, dict):
        message = f"--config {path} must be a mapping of options, as a run's run.yaml"
        raise click.UsageError(message)
    values = {str(key).replace("-", "_"): value for key, value in content.items()}
    known = {param.name for param in ctx.command.params}
    for name in values:
        if name in NOT_IN_CONFIG | {"json"}:
            message = f"--config {path}: {name} is not part of a recipe; give it as an option"
            raise click.UsageError(message)
        if name not in known:
            message = f"--config {path}: train has no option {name!r}"
            raise click.UsageError(message)
    ctx.default_map = {**(ctx.default_map or {}), **values}


def whole_numbers(
    _ctx: click.Context, param: click.Parameter, value: object
) -> tuple[int, ...] | None:
    """Parse ``160,180``, or a list of a YAML file."""
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else value
    try:
        return tuple(int(part) for part in parts)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        message = f"--{param.name} wants whole numbers as 160,180; got {value!r}"
        raise click.UsageError(message) from None


@click.command()
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", is_eager=True,
    expose_value=False, callback=read_config,
    help="YAML file of the data and the recipe, as every run writes into its run.yaml; options "
    "given beside it win. It cannot say where is written.",
)  # fmt: skip
@options.data
@click.option(
    "--preset", metavar="NAME",
    help="A published recipe (docs/how-to/train.md): imagenet-lt-resnext50 (Kang et al., ICLR "
    "2020: 90 epochs, batch 512, rate 0.2, cosine) or cifar100-lt-resnet32 (Cao et al., NeurIPS "
    "2019: 200 epochs, batch 128, rate 0.1, x0.01 at 160 and 180).",
)  # fmt: skip
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
@click.option(
    "--loss", metavar="NAME[:KEY=VALUE,…]",
    help="ce, focal:gamma=2, cb-ce:beta=0.9999, cb-focal, ldam:margin=0.5,scale=30, "
    "balanced-softmax or logit-adjusted:tau=1.",
)  # fmt: skip
@click.option("--label-smoothing", type=float, help="Probability spread over all classes.")
@click.option(
    "--defer", metavar="NAME[:KEY=VALUE,…]",
    help="Re-balance late: none, drw:start=0.8,beta=0.9999 (weights of the classes from that "
    "share of the epochs on) or drs:start=0.8 (class-balanced sampling from there).",
)  # fmt: skip
@click.option(
    "--mixup", metavar="NAME[:KEY=VALUE,…]",
    help="none, input:alpha=0.2 or manifold:alpha=2 (hidden states too); partner=class draws the "
    "second image by that sampler, else it is one of the batch.",
)  # fmt: skip
@click.option(
    "--method", type=click.Choice(["plain", "bbn"]),
    help="bbn: two branches, for images drawn uniformly and reversed.",
)  # fmt: skip
@click.option(
    "--init", metavar="RUN",
    help="Retrain from another training's best checkpoint, with a fresh classifier; all options "
    "that are left out are that training's, but --sampler is class and the loss plain.",
)  # fmt: skip
@click.option(
    "--retrain", type=click.Choice(["none", "classifier", "last-block", "all"]),
    help="What learns, with --init: last-block is with the classifier.",
)  # fmt: skip
@click.option(
    "--backbone-lr-scale", type=float, help="Factor of the rate of all but the classifier."
)
@click.option(
    "--shift-bn/--no-shift-bn", default=None,
    help="Let batch normalisation of frozen layers adapt, as in the code of Kang et al.",
)  # fmt: skip
@click.option(
    "--schedule", type=click.Choice(["step", "epoch", "milestones"]),
    help="Cosine moved each step or each epoch, or a factor at each of --milestones.",
)  # fmt: skip
@click.option(
    "--milestones", metavar="EPOCHS", callback=whole_numbers, type=click.UNPROCESSED,
    help="Epochs after which the rate is multiplied by --decay, as 160,180.",
)  # fmt: skip
@click.option("--decay", type=float, help="Factor at a milestone.")
@click.option(
    "--augment", type=click.Choice(["auto", "resized-crop", "pad-crop"]),
    help="How training images are varied; auto pads and crops small photographs.",
)  # fmt: skip
@options.image_size
@options.mean
@options.std
@options.pretrained
@options.weights
@click.option("--amp/--no-amp", default=None, help="bfloat16 autocast on CUDA.  [default: on]")
@click.option(
    "--channels-last/--no-channels-last", default=None, help="Layout on CUDA.  [default: on]"
)
@click.option("--compile/--no-compile", default=None, help="Run through torch.compile.")
@click.option(
    "--accumulate", type=click.IntRange(min=1),
    help="Put a batch through the network in so many parts; --batch-size stays what a step has.",
)  # fmt: skip
@click.option(
    "--sync-bn/--no-sync-bn", default=None,
    help="Under torchrun on GPUs: BatchNorm sees the whole batch, not each process's part.",
)  # fmt: skip
@click.option(
    "--checkpoint-every", metavar="N|Nm",
    help="Save within an epoch every N steps, or every N minutes as 10m.  [default: 10m]",
)  # fmt: skip
@options.seed
@options.device
@options.workers
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out, if any.")
@options.strict
@options.overwrite
@options.replace_in_place
@options.json_to
@options.quiet
def command(
    data: str | None,
    preset: str | None,
    out: Path,
    device: str,
    resume: bool,
    strict: bool,
    overwrite: bool,
    replace_in_place: bool,
    json_to: Path | None,
    quiet: bool,
    **settings: Any,
) -> None:
    """Train a backbone on long-tailed images.

    Options that are left out take the published ImageNet-LT recipe (90 epochs of SGD at rate 0.1,
    batch 256), or for digits-lt one that suits its size. Every epoch is validated by shot group
    where there is a val split, and the best one is kept beside the last. Interrupted by Ctrl-C or
    SIGTERM it saves after the step under way; --resume goes on to the same bits on a CPU.
    """
    from cli._outputs import RUN_FILES, refuse_outputs
    from featbank.data import located, open_data
    from featbank.stage1.train import train

    refuse_outputs({"--json": json_to}, overwrite=overwrite, out=out, taken=RUN_FILES)
    options.check_overwrite(overwrite=overwrite, replace_in_place=replace_in_place)
    started = started_from(settings.get("init"))
    spec = data_of(data, started)
    images = open_data(spec.name, spec.params)
    summary = train(
        images,
        {"name": spec.name, "params": located(spec.name, spec.params)},
        config_for(spec, settings, preset, started),
        out,
        device=device,
        metrics=shot_metrics(images.shots),
        reporter=reporter(quiet=quiet),
        resume=resume,
        overwrite=overwrite,
        strict=strict,
        replace_in_place=replace_in_place,
    )
    value = {"schema": 1, **summary}
    if first_of_job() and not write_json(json_to, value, overwrite=overwrite):
        say(line(summary))


def started_from(init: str | None) -> Mapping[str, Any] | None:
    """Return the record of the training that --init names."""
    if init is None:
        return None
    from featbank.stage1.retraining import read_init

    return read_init(init).record


def data_of(data: str | None, started: Mapping[str, Any] | None) -> Spec:
    """Return the data set that is named, or else that of the training to start from."""
    if data is not None:
        return parse_spec(data)
    if started is None or "name" not in started["data_spec"]:
        message = "Missing option '--data'."
        raise click.UsageError(message)
    return Spec(started["data_spec"]["name"], started["data_spec"]["params"])


def config_for(
    data: Spec,
    settings: dict[str, Any],
    preset: str | None = None,
    started: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """Return the recipe that is named, or the data set's, with the settings that were given.

    A retraining begins with the settings of the training that it starts from.
    """
    from featbank.runtime.names import require_known
    from featbank.stage1.config import PRESETS, RECIPES, TrainConfig, retraining

    given = {name: value for name, value in settings.items() if value is not None}
    if preset is not None:
        require_known("preset", preset, RECIPES)
        base = RECIPES[preset]
    elif started is not None:
        base = TrainConfig.from_json(started["config"])
    else:
        base = PRESETS.get(data.name, TrainConfig())
    given = {**(retraining() if started is not None else {}), **given}
    for name in ("weights", "init"):
        if given.get(name) is not None:
            given[name] = str(Path(given[name]).absolute())  # run.yaml is read from anywhere
    return dataclasses.replace(base, **given)


def shot_metrics(shots: Any) -> Any:
    """Return the function that validates an epoch: accuracies by shot group."""
    from heads.metrics import ShotGroups, evaluate

    def metrics(labels: Any, predicted: Any, counts: Any) -> dict[str, float | None]:
        found = evaluate(labels, predicted, ShotGroups(counts, shots))
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
