"""featbank extract."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import options
from cli._progress import first_of_job, reporter
from cli._show import say, write_json
from featbank.runtime.spec import parse_spec

if TYPE_CHECKING:
    from featbank.extraction.extract import Extracted

__all__ = ["command"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@options.out
@click.option(
    "--data", metavar="SPEC",
    help="Data set whose images are extracted; --data of featbank train lists the kinds.  "
    "[default: the one that RUN was trained on; required with --backbone]",
)  # fmt: skip
@options.network
@click.option(
    "--dtype", type=click.Choice(["float16", "float32"]), default="float16", show_default=True,
    help="Number type that features are stored as.",
)  # fmt: skip
@click.option(
    "--amp",
    is_flag=True,
    help="Compute in bfloat16 on CUDA: faster, and less precise; the bank records it.",
)
@options.batch_size
@options.workers
@options.device
@options.on_bad_image
@click.option(
    "--check-images", is_flag=True,
    help="Where the bank is there already, read every image and compare its digest, not only its "
    "size.",
)  # fmt: skip
@click.option(
    "--views", type=click.IntRange(min=0), default=0, show_default=True, metavar="K",
    help="Also store the features of K augmented views of each training image; heads fitted by "
    "sgd go through them epoch by epoch.",
)  # fmt: skip
@click.option(
    "--bn-refresh", type=click.Choice(["none", "class-balanced"]), default="none",
    show_default=True,
    help="class-balanced first computes the BatchNorm statistics anew, on class-balanced batches "
    "of augmented training images.",
)  # fmt: skip
@options.seed
@options.strict
@options.overwrite
@options.replace_in_place
@options.json_to
@options.quiet
def command(
    run: Path | None,
    out: Path,
    data: str | None,
    backbone: str | None,
    pretrained: bool | None,
    weights: Path | None,
    image_size: int | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    which: str,
    dtype: str,
    amp: bool,
    batch_size: int,
    workers: int,
    device: str,
    on_bad_image: str,
    check_images: bool,
    views: int,
    bn_refresh: str,
    seed: int,
    strict: bool,
    overwrite: bool,
    replace_in_place: bool,
    json_to: Path | None,
    quiet: bool,
) -> None:
    """Write a trained backbone's frozen features into a bank.

    RUN is a training's folder or one checkpoint file. Features are those that the last linear
    layer sees, in eval mode; that layer goes into the bank beside them. Interrupted, the same
    command goes on where it stopped.

    Several GPUs or machines: torchrun --nproc-per-node=N -m cli extract …
    (docs/how-to/gpus.md). The bank is the same to the bit.

    Without RUN, --backbone NAME with --pretrained or --weights FILE banks the features of a
    network that was trained elsewhere; heads that need a stage-1 classifier then fit one first.
    """
    from cli._network import source_of
    from cli._outputs import BANK_FILES, refuse_outputs
    from featbank.data import open_data
    from featbank.extraction.extract import extract

    refuse_outputs({"--json": json_to}, overwrite=overwrite, out=out, taken=BANK_FILES)
    options.check_overwrite(overwrite=overwrite, replace_in_place=replace_in_place)
    network = {
        "weights": weights, "pretrained": pretrained, "image_size": image_size,
        "mean": mean, "std": std,
    }  # fmt: skip
    spec = parse_spec(data) if data else None
    made = extract(
        source_of(run, backbone, network),
        out,
        which=which,
        data=open_data(spec.name, spec.params) if spec else None,
        dtype=dtype,
        device=device,
        batch_size=batch_size,
        workers=workers,
        use_autocast=amp,
        on_bad_image=on_bad_image,
        check_images=check_images,
        views=views,
        bn_refresh=bn_refresh,
        seed=seed,
        overwrite=overwrite,
        strict=strict,
        replace_in_place=replace_in_place,
        reporter=reporter(quiet=quiet),
    )
    if not first_of_job():
        return
    if not write_json(json_to, made.to_json(), overwrite=overwrite):
        say(summary_line(out, made))


def summary_line(out: Path, made: Extracted) -> str:
    """Return what to print of an extraction."""
    rows = ", ".join(f"{name} {count:,}" for name, count in made.rows.items())
    if made.up_to_date:
        return f"{out} is up to date: every byte checked, nothing to do ({rows})"
    kind = "a classifier" if made.classifier else "no stage-1 classifier"
    skipped = sum(made.skipped.values())
    return f"{out}: {rows}; {made.dim} features a row, {kind}; {skipped} images left out"
