"""Options that several commands share: same name, same meaning, same help everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

__all__ = [
    "backbone",
    "bank",
    "batch_size",
    "check_overwrite",
    "data",
    "device",
    "dtype",
    "figures",
    "image_size",
    "json_to",
    "mean",
    "on_bad_image",
    "out",
    "overwrite",
    "overwrite_json",
    "pretrained",
    "quiet",
    "replace_in_place",
    "report",
    "seed",
    "select",
    "shots",
    "std",
    "strict",
    "weights",
    "workers",
]


def check_overwrite(*, overwrite: bool, replace_in_place: bool) -> None:
    """Refuse --replace-in-place where nothing is to be overwritten."""
    if replace_in_place and not overwrite:
        message = "--replace-in-place says how to overwrite: add --overwrite"
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
    "--out", required=True, type=click.Path(path_type=Path), help="Where the result goes."
)
overwrite = click.option(
    "--overwrite", is_flag=True,
    help="Replace what featbank wrote to --out and to --json before; the old stays until the new "
    "is whole.",
)  # fmt: skip
overwrite_json = click.option(
    "--overwrite", is_flag=True, help="Replace what featbank wrote to --json before."
)
replace_in_place = click.option(
    "--replace-in-place", is_flag=True,
    help="With --overwrite: remove the old --out first, where the disk cannot hold both; a failure "
    "then leaves neither.",
)  # fmt: skip
seed = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True,
    help="Seed of every random draw.",
)  # fmt: skip
device = click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:i]",
    help="Where to compute; auto takes a GPU where there is one.",
)  # fmt: skip
json_to = click.option(
    "--json", "json_to", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE",
    help="Also write the result as JSON (- for standard output, instead of the table).",
)  # fmt: skip
figures = click.option(
    "--figures", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Also draw figures for a paper there, as PDF and PNG (needs featbank[figures]).",
)  # fmt: skip
quiet = click.option("--quiet", is_flag=True, help="No progress, only the result.")
data = click.option(
    "--data", metavar="SPEC",
    help="Data set: digits-lt, cifar10-lt:root=DIR, cifar100-lt:root=DIR, imagefolder:root=DIR, "
    "imagelist:root=DIR,train=FILE[,val=FILE][,test=FILE]; docs/how-to/data.md has their keys.  "
    "[required; with --init, else its own]",
)  # fmt: skip
workers = click.option(
    "--workers", type=click.IntRange(min=0), default=0, show_default=True,
    help="Processes that load images; results do not depend on it.",
)  # fmt: skip
batch_size = click.option(
    "--batch-size", type=click.IntRange(min=1), default=64, show_default=True,
    help="Images per step.",
)  # fmt: skip
dtype = click.option(
    "--dtype", type=click.Choice(["float16", "float32"]), help="How features are stored."
)
on_bad_image = click.option(
    "--on-bad-image", type=click.Choice(["error", "skip"]), default="error", show_default=True,
    help="Stop at an image that cannot be decoded, or leave its row out and record its id.",
)  # fmt: skip
strict = click.option(
    "--strict", is_flag=True,
    help="Refuse, rather than note, the same image in two splits or with two labels.",
)  # fmt: skip
select = click.option(
    "--select", metavar="SPLIT",
    help="Split on which parameters are chosen.  [default: val, else validation, valid or dev]",
)  # fmt: skip
report = click.option(
    "--report", metavar="SPLIT",
    help="Split that is reported; the same as --select means choosing on it, and is marked so.",
)  # fmt: skip
shots = click.option(
    "--shots", metavar="MANY,FEW",
    help="Classes with more than MANY training rows are many, with fewer than FEW few.",
)  # fmt: skip
backbone = click.option(
    "--backbone", metavar="NAME",
    help="A timm model, as resnext50_32x4d or vit_base_patch14_dinov2; or cifar-resnet32, "
    "resnet10, resnext152_32x4d, tiny-cnn.",
)  # fmt: skip
pretrained = click.option(
    "--pretrained", is_flag=True, default=None, help="Start from the backbone's published weights."
)
weights = click.option(
    "--weights", type=click.Path(path_type=Path), metavar="FILE",
    help="Start from a file: safetensors, torch.save, or the paper code's "
    "final_model_checkpoint.pth.",
)  # fmt: skip
image_size = click.option(
    "--image-size", type=click.IntRange(min=8), help="Side in pixels.  [default: the backbone's]"
)
mean = click.option(
    "--mean", metavar="R,G,B", callback=three_numbers, type=click.UNPROCESSED,
    help="Subtracted from the channels, which are in [0, 1].  [default: the backbone's]",
)  # fmt: skip
std = click.option(
    "--std", metavar="R,G,B", callback=three_numbers, type=click.UNPROCESSED,
    help="What the channels are then divided by.  [default: the backbone's]",
)  # fmt: skip
