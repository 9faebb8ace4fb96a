"""featbank extract."""

from __future__ import annotations

from pathlib import Path

import click

from cli import options
from cli._progress import reporter
from cli._show import write_json
from cli.specs import parse_spec

__all__ = ["command"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@options.out
@click.option(
    "--data", metavar="SPEC",
    help="Images to extract instead of those that were trained on; the same classes.",
)  # fmt: skip
@click.option(
    "--which", type=click.Choice(["best", "last"]), default="best", show_default=True,
    help="Of a training's folder, the checkpoint best on val or the last.",
)  # fmt: skip
@click.option(
    "--dtype", type=click.Choice(["float16", "float32"]), default="float16", show_default=True,
    help="How features are stored.",
)  # fmt: skip
@click.option("--amp", is_flag=True, help="bfloat16 on CUDA: faster and coarser; recorded.")
@options.batch_size
@options.workers
@options.device
@options.on_bad_image
@click.option(
    "--check-images", is_flag=True,
    help="For rows that are there already, compare the images' digests, not only their sizes.",
)  # fmt: skip
@options.overwrite
@options.json_to
@options.quiet
def command(
    run: Path,
    out: Path,
    data: str | None,
    which: str,
    dtype: str,
    amp: bool,
    batch_size: int,
    workers: int,
    device: str,
    on_bad_image: str,
    check_images: bool,
    overwrite: bool,
    json_to: Path | None,
    quiet: bool,
) -> None:
    """Write a trained backbone's frozen features into a bank.

    RUN is a training's folder or one checkpoint file. Features are those that the last linear
    layer sees, in eval mode; that layer goes into the bank beside them. Interrupted, the same
    command goes on where it stopped.
    """
    from featbank.data import open_data
    from featbank.extract import extract

    spec = parse_spec(data) if data else None
    summary = extract(
        run,
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
        overwrite=overwrite,
        reporter=reporter(quiet=quiet),
    )
    if write_json(json_to, {"schema": 1, **summary}):
        return
    rows = ", ".join(f"{name} {count:,}" for name, count in summary["rows"].items())
    if summary["up_to_date"]:
        click.echo(f"{out} is up to date: every byte checked, nothing to do ({rows})")
        return
    skipped = sum(summary["skipped"].values())
    click.echo(f"{out}: {rows}; {summary['dim']} features a row; {skipped} images left out")
