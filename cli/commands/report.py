"""featbank report."""

from __future__ import annotations

from pathlib import Path

import click

from cli import options
from cli._progress import reporter
from cli._show import say, write_json

__all__ = ["command"]


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@options.figures
@click.option(
    "--tsne",
    is_flag=True,
    help="Also show the features by t-SNE, for which the banks are read again.",
)
@options.thumbnails
@options.images
@options.overwrite_json
@options.json_to
@options.quiet
def command(
    folder: Path,
    figures: Path | None,
    tsne: bool,
    thumbnails: bool,
    images: str | None,
    overwrite: bool,
    json_to: Path | None,
    quiet: bool,
) -> None:
    """Build the page of saved results anew; nothing is fitted.

    FOLDER is what featbank compare wrote to --out. The page, report.html in it, is one file that
    loads nothing and can be sent to anyone. An earlier page and earlier figures are replaced; a
    file that featbank did not write is not.
    """
    from cli._outputs import COMPARISON_FILES, refuse_outputs
    from featbank.report import build_report

    options.check_images(images, thumbnails=thumbnails)
    refuse_outputs({"--json": json_to}, overwrite=overwrite, out=folder, taken=COMPARISON_FILES)
    page = build_report(
        folder, figures=figures, tsne=tsne, thumbnails=thumbnails, images=images,
        reporter=reporter(quiet=quiet),
    )  # fmt: skip
    facts = {"schema": 1, "page": str(page), "bytes": page.stat().st_size}
    if not write_json(json_to, facts, overwrite=overwrite):
        say(f"{page}: {page.stat().st_size / 1e6:.2f} MB")
