"""featbank train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli._progress import first_of_job, reporter
from cli._show import say, write_json
from featbank.results.numbers import percent
from featbank.runtime.spec import load_yaml, parse_spec

if TYPE_CHECKING:
    from featbank.stage1.train import Trained

__all__ = ["command"]


# Options that --config may not set, because the file may be a stranger's: where to write, what to
# replace there, what to show, and where to compute.
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
    help="Read options of the data and the recipe from a YAML file, as the run.yaml of every run; "
    "options that are given beside it win. The file cannot name --out or replace anything.",
)  # fmt: skip
@options.data
@click.option(
    "--preset", metavar="NAME",
    help="Published recipe to begin with (docs/how-to/train.md): imagenet-lt-resnext50 (Kang et "
    "al., ICLR 2020: 90 epochs, batch 512, rate 0.2, cosine) or cifar100-lt-resnet32 (Cao et al., "
    "NeurIPS 2019: 200 epochs, batch 128, rate 0.1, x0.01 at 160 and 180).",
)  # fmt: skip
@options.backbone
@options.out
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help="Passes over the training images.  [default: 90]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=2),
    help="Images in a training step, over all processes.  [default: 256]",
)
@click.option(
    "--optimizer",
    type=click.Choice(["sgd", "adamw"]),
    help="Optimizer of the weights.  [default: sgd]",
)
@click.option(
    "--lr",
    type=float,
    help="Learning rate of the first epoch after the warm-up, the highest.  [default: 0.1]",
)
@click.option("--momentum", type=float, help="Momentum; needs --optimizer sgd.  [default: 0.9]")
@click.option(
    "--weight-decay",
    type=float,
    help="Weight decay: strength of the penalty that draws weights towards 0.  [default: 0.0005]",
)
@click.option(
    "--warmup-epochs",
    type=click.IntRange(min=0),
    help="Epochs at the beginning in which the learning rate rises linearly to --lr.  [default: 0]",
)
@click.option(
    "--sampler", metavar="NAME",
    help="How often training images of each class are drawn: instance (as they come), class "
    "(classes equally often), sqrt, progressive, reversed, class-aware, or q=NUMBER for class j "
    "with probability proportional to n_j^q.  [default: instance]",
)  # fmt: skip
@click.option(
    "--loss", metavar="NAME[:KEY=VALUE,…]",
    help="Loss that is minimised: ce (cross-entropy), focal:gamma=2, cb-ce:beta=0.9999, cb-focal, "
    "ldam:margin=0.5,scale=30, balanced-softmax or logit-adjusted:tau=1.  [default: ce]",
)  # fmt: skip
@click.option(
    "--label-smoothing",
    type=float,
    help="Label smoothing: the share of each label that is spread over all classes.  [default: 0]",
)
@click.option(
    "--defer", metavar="NAME[:KEY=VALUE,…]",
    help="Balance the classes late in training: none, drw:start=0.8,beta=0.9999 (weights of the "
    "classes from this share of the epochs on) or drs:start=0.8 (class-balanced sampling from "
    "there).  [default: none]",
)  # fmt: skip
@click.option(
    "--mixup", metavar="NAME[:KEY=VALUE,…]",
    help="Mix pairs of images: none, input:alpha=0.2 or manifold:alpha=2 (hidden states too). The "
    "second image is one of the batch; with partner=class it is drawn by that sampler.  "
    "[default: none]",
)  # fmt: skip
@click.option(
    "--method", type=click.Choice(["plain", "bbn"]),
    help="plain trains one network; bbn trains two branches, one on images drawn as they come and "
    "one on images drawn by the reversed sampler.  [default: plain]",
)  # fmt: skip
@click.option(
    "--init", metavar="RUN",
    help="Retrain from the best checkpoint of another training, with a fresh classifier. Options "
    "that are left out are that training's, except for --sampler class and --loss ce.",
)  # fmt: skip
@click.option(
    "--retrain", type=click.Choice(["none", "classifier", "last-block", "all"]),
    help="Part of the network that --init retrains: the classifier, the last block with it, or "
    "all.  [default: none]",
)  # fmt: skip
@click.option(
    "--backbone-lr-scale", type=float,
    help="Factor of the learning rate of all but the classifier.  [default: 1]",
)  # fmt: skip
@click.option(
    "--shift-bn/--no-shift-bn", default=None,
    help="Let the batch normalisation of frozen layers adapt to the new batches, as in the code of "
    "Kang et al.  [default: off]",
)  # fmt: skip
@click.option(
    "--schedule", type=click.Choice(["step", "epoch", "milestones"]),
    help="How the learning rate falls: by a cosine, updated at each step or each epoch, or by a "
    "factor at each of --milestones.  [default: step]",
)  # fmt: skip
@click.option(
    "--milestones", metavar="EPOCHS", callback=whole_numbers, type=click.UNPROCESSED,
    help="Epochs after which the learning rate is multiplied by --decay; needs --schedule "
    "milestones.  [default: 160,180]",
)  # fmt: skip
@click.option(
    "--decay",
    type=float,
    help="Factor of the learning rate at each of --milestones.  [default: 0.01]",
)
@click.option(
    "--augment", type=click.Choice(["auto", "resized-crop", "pad-crop"]),
    help="How training images are varied at random: resized-crop, pad-crop, or auto for pad-crop "
    "on small photographs and resized-crop on others.  [default: auto]",
)  # fmt: skip
@options.image_size
@options.mean
@options.std
@options.pretrained
@options.weights
@click.option(
    "--amp/--no-amp",
    default=None,
    help="Train under bfloat16 autocast on CUDA.  [default: on]",
)
@click.option(
    "--channels-last/--no-channels-last", default=None,
    help="Hold images channels last in the memory of a CUDA device, which is faster.  "
    "[default: on]",
)  # fmt: skip
@click.option(
    "--compile/--no-compile",
    default=None,
    help="Compile the network by torch.compile first.  [default: off]",
)
@click.option(
    "--accumulate", type=click.IntRange(min=1),
    help="Parts in which each batch goes through the network, to save memory; a step still takes "
    "--batch-size images.  [default: 1]",
)  # fmt: skip
@click.option(
    "--sync-bn/--no-sync-bn", default=None,
    help="Under torchrun on GPUs, let BatchNorm see the whole batch instead of each process's "
    "part.  [default: off]",
)  # fmt: skip
@click.option(
    "--checkpoint-every", metavar="N|Nm",
    help="Save also within an epoch, every N steps, or every N minutes as 10m.  [default: 10m]",
)  # fmt: skip
@options.seed
@options.device
@options.workers
@click.option(
    "--resume",
    is_flag=True,
    help="Go on from the last checkpoint in --out; begin where there is none.",
)
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
    batch 256), whose values are shown as defaults; --preset, --init and digits-lt bring their own.
    Every epoch is validated by shot group
    where there is a val split, and the best one is kept beside the last. Interrupted by Ctrl-C or
    SIGTERM it saves after the step under way; --resume goes on to the same bits on a CPU.
    """
    from cli._outputs import RUN_FILES, refuse_outputs
    from featbank.stage1.recipe import train_by_name

    refuse_outputs({"--json": json_to}, overwrite=overwrite, out=out, taken=RUN_FILES)
    options.check_overwrite(overwrite=overwrite, replace_in_place=replace_in_place)
    if data is None and settings.get("init") is None:
        message = "Missing option '--data'."
        raise click.UsageError(message)
    trained = train_by_name(
        None if data is None else parse_spec(data),
        out,
        settings,
        preset=preset,
        device=device,
        resume=resume,
        overwrite=overwrite,
        replace_in_place=replace_in_place,
        strict=strict,
        reporter=reporter(quiet=quiet),
    )
    if first_of_job() and not write_json(json_to, trained.to_json(), overwrite=overwrite):
        say(line(trained))


def line(trained: Trained) -> str:
    """Return one line about a finished training."""
    text = f"{trained.checkpoint}: {trained.epochs} epochs, {trained.seconds:.0f} s"
    best = trained.best
    if best is None:
        return text
    shown = ", ".join(f"{name} {percent(value)}" for name, value in best.val.items())
    return f"{text}; best on val in epoch {best.epoch}: {shown} (%)"
