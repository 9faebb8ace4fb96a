"""featbank export."""

from __future__ import annotations

from pathlib import Path

import click

from cli import options
from cli._progress import reporter
from cli._show import say
from featbank.runtime.names import printable

__all__ = ["command"]


@click.command()
@click.argument("what", type=click.Path(path_type=Path), metavar="BANK|HEAD")
@options.out
@click.option(
    "--format", "form", type=click.Choice(["npz", "timm", "onnx", "pt2"]),
    help="Of a bank npz, its features. Of a head a model: timm, a folder that timm loads; onnx; or "
    "pt2, a program of torch.export.  [default: npz for a bank, timm for a head]",
)  # fmt: skip
@options.run
@options.network
@click.option(
    "--license", "license_name", metavar="TEXT",
    help="Licence of the weights, for the model's README, which says nothing otherwise.",
)  # fmt: skip
@options.overwrite
@options.replace_in_place
@options.quiet
def command(
    what: Path,
    out: Path,
    form: str | None,
    run: Path | None,
    backbone: str | None,
    pretrained: bool | None,
    weights: Path | None,
    image_size: int | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    which: str,
    license_name: str | None,
    overwrite: bool,
    replace_in_place: bool,
    quiet: bool,
) -> None:
    """Write a bank's features, or a head with its network.

    BANK is written into an .npz, with the names that featbank import reads.

    HEAD is a file that featbank fit saved. With the network that made its features (--run RUN, or
    --backbone NAME with --pretrained or --weights FILE) it becomes a folder with weights, class
    names, the exact preprocessing, results and a self-test, and featbank predict --model labels
    images with it.
    """
    options.check_overwrite(overwrite=overwrite, replace_in_place=replace_in_place)
    given = {
        "weights": weights, "pretrained": pretrained, "image_size": image_size, "mean": mean,
        "std": std,
    }  # fmt: skip
    if what.is_dir() or form == "npz":
        named = [run, backbone, *given.values()]
        if form not in (None, "npz") or any(value is not None for value in named):
            message = f"{what} is no head: a bank is exported as npz, without a network"
            raise click.UsageError(printable(message))
        path = export_bank(what, out, overwrite, replace_in_place, quiet=quiet)
        say(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
        return
    from cli._network import source_of
    from featbank.serving.exporting import export_model

    folder = export_model(
        source_of(run, backbone, given, "--run RUN"), what, out, form or "timm", which=which,
        license_name=license_name, overwrite=overwrite, replace_in_place=replace_in_place,
    )  # fmt: skip
    n_bytes = sum(path.stat().st_size for path in folder.iterdir())
    say(
        f"{printable(str(folder))}: {n_bytes / 1e6:.1f} MB, proved on its own pictures; next: "
        f"featbank predict IMAGES --model {printable(str(folder))}"
    )


def export_bank(
    bank: Path, out: Path, overwrite: bool, replace_in_place: bool, *, quiet: bool
) -> Path:
    """Write a bank's features, labels and ids into an .npz.

    Parameters
    ----------
    bank, out : Path
        The bank's folder, and the file.
    overwrite, replace_in_place : bool
        As the command takes them.
    quiet : bool
        Whether no progress is shown.
    """
    from featbank import Bank
    from featbank.bank.export import export_npz

    return export_npz(
        Bank.open(bank), out, overwrite=overwrite, replace_in_place=replace_in_place,
        reporter=reporter(quiet=quiet),
    )  # fmt: skip
