"""Options that several commands share, so that each has one meaning and one help text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = [
    "backbone",
    "bank",
    "batch_size",
    "check_images",
    "check_overwrite",
    "data",
    "device",
    "dtype",
    "figures",
    "image_size",
    "images",
    "json_to",
    "mean",
    "network",
    "on_bad_image",
    "out",
    "overwrite",
    "overwrite_json",
    "pretrained",
    "quiet",
    "replace_in_place",
    "report",
    "run",
    "seed",
    "select",
    "shots",
    "std",
    "strict",
    "thumbnails",
    "weights",
    "which",
    "workers",
]


Command = TypeVar("Command", bound=Callable[..., Any])


def check_overwrite(*, overwrite: bool, replace_in_place: bool) -> None:
    """Refuse --replace-in-place where nothing is to be overwritten."""
    if replace_in_place and not overwrite:
        message = "--replace-in-place says how to overwrite: add --overwrite"
        raise click.UsageError(message)


def check_images(images: str | None, *, thumbnails: bool) -> None:
    """Refuse --images where no picture is asked for."""
    if images is not None and not thumbnails:
        message = "--images says where the pictures of --thumbnails are: add --thumbnails"
        raise click.UsageError(message)


def three_numbers(
    _ctx: click.Context, param: click.Parameter, text: Any
) -> tuple[float, ...] | None:
    """Parse ``0.5,0.5,0.5``, one number for each channel, or a list of a YAML file."""
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in (text.split(",") if text == str(text) else text))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != 3 or not all(abs(number) < 1e6 for number in numbers):
        message = f"--{param.name} wants three numbers as 0.5,0.5,0.5; got {text!r}"
        raise click.UsageError(message)
    return numbers


bank = click.argument("bank", type=click.Path(path_type=Path))
out = click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Path that the result is written to.",
)
overwrite = click.option(
    "--overwrite", is_flag=True,
    help="Replace what featbank wrote to --out and to --json before. The old stays until the new "
    "is whole, and files that featbank did not write stay.",
)  # fmt: skip
overwrite_json = click.option(
    "--overwrite", is_flag=True, help="Replace what featbank wrote to --json before."
)
replace_in_place = click.option(
    "--replace-in-place", is_flag=True,
    help="With --overwrite, remove the old --out before the new one is written, for disks that "
    "cannot hold both. A failure then leaves neither.",
)  # fmt: skip
seed = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True,
    help="Seed of every random draw; the same seed gives the same result.",
)  # fmt: skip
device = click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:i]",
    help="Device to compute on; auto takes a GPU where there is one.",
)  # fmt: skip
json_to = click.option(
    "--json", "json_to", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE",
    help="Also write the result as JSON to this file; - writes it to standard output, instead of "
    "the table.",
)  # fmt: skip
figures = click.option(
    "--figures", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Also draw figures for a paper into this folder, as PDF and PNG; needs matplotlib, which "
    "comes with featbank[figures].",
)  # fmt: skip
thumbnails = click.option(
    "--thumbnails", is_flag=True,
    help="Also show the most confident mistakes of every head in the page, with pictures where the "
    "images are found, of 2 MB at most together.",
)  # fmt: skip
images = click.option(
    "--images", metavar="DIR|SPEC",
    help="With --thumbnails, where the images are: the folder in which the banks' ids are paths, "
    "or a data set as train's --data has it.  [default: only data sets without a path are found]",
)  # fmt: skip
quiet = click.option(
    "--quiet", is_flag=True, help="Show no progress, only warnings and the result."
)
data = click.option(
    "--data", metavar="SPEC",
    help="Data set: digits-lt, cifar10-lt:root=DIR, cifar100-lt:root=DIR, imagefolder:root=DIR, "
    "imagelist:root=DIR,train=FILE[,val=FILE][,test=FILE]; docs/how-to/data.md lists their keys.  "
    "[required; with --init the default is that training's data set]",
)  # fmt: skip
workers = click.option(
    "--workers", type=click.IntRange(min=0), default=0, show_default=True,
    help="Processes that load images, 0 for none beside this one. The result does not depend on "
    "it.",
)  # fmt: skip
batch_size = click.option(
    "--batch-size", type=click.IntRange(min=1), default=64, show_default=True,
    help="Images that go through the network at a time.",
)  # fmt: skip
dtype = click.option(
    "--dtype", type=click.Choice(["float16", "float32"]),
    help="Number type that features are stored as.  [default: the files' own, float32 at most]",
)  # fmt: skip
on_bad_image = click.option(
    "--on-bad-image", type=click.Choice(["error", "skip"]), default="error", show_default=True,
    help="At an image that cannot be decoded: error stops; skip leaves its row out and records "
    "its id in the bank.",
)  # fmt: skip
strict = click.option(
    "--strict", is_flag=True,
    help="Refuse data in which an image stands in two splits or under two labels, instead of "
    "warning of it.",
)  # fmt: skip
select = click.option(
    "--select", metavar="SPLIT",
    help="Split on which heads' parameters are chosen.  [default: val, else validation, valid or "
    "dev]",
)  # fmt: skip
report = click.option(
    "--report", metavar="SPLIT",
    help="Split that is evaluated and reported. Where it is also named by --select, parameters "
    "are chosen on it, and every line says so.  [default: test where one split is reported, else "
    "every split but train and --select's]",
)  # fmt: skip
shots = click.option(
    "--shots", metavar="MANY,FEW",
    help="Thresholds of the shot groups: a class with more than MANY training rows is many-shot, "
    "one with fewer than FEW is few-shot.  [default: the files' own, else 100,20]",
)  # fmt: skip
backbone = click.option(
    "--backbone", metavar="NAME",
    help="Network: a timm model, as resnext50_32x4d or vit_base_patch14_dinov2; or cifar-resnet32, "
    "resnet10, resnext152_32x4d or tiny-cnn.",
)  # fmt: skip
pretrained = click.option(
    "--pretrained", is_flag=True, default=None, help="Start from the backbone's published weights."
)
weights = click.option(
    "--weights", type=click.Path(path_type=Path), metavar="FILE",
    help="Start from the weights in a file: safetensors, torch.save, or the "
    "final_model_checkpoint.pth of the code of Kang et al.",
)  # fmt: skip
image_size = click.option(
    "--image-size",
    type=click.IntRange(min=8),
    help="Side of the square image that the network sees, in pixels.  [default: the backbone's]",
)
mean = click.option(
    "--mean", metavar="R,G,B", callback=three_numbers, type=click.UNPROCESSED,
    help="Mean of each channel, which is in [0, 1], to subtract.  [default: the backbone's]",
)  # fmt: skip
std = click.option(
    "--std", metavar="R,G,B", callback=three_numbers, type=click.UNPROCESSED,
    help="Standard deviation of each channel, to divide by.  [default: the backbone's]",
)  # fmt: skip
which = click.option(
    "--which", type=click.Choice(["best", "last"]), default="best", show_default=True,
    help="Of a training's folder, the checkpoint that was best on val, or the last.",
)  # fmt: skip
run = click.option(
    "--run", type=click.Path(path_type=Path), metavar="RUN",
    help="The training whose network made the head's features: its folder or a checkpoint.",
)  # fmt: skip


def network(command: Command) -> Command:
    """Add the options that name a network: a backbone's, and which of a run's checkpoints."""
    for option in (which, std, mean, image_size, weights, pretrained, backbone):
        command = option(command)
    return command
