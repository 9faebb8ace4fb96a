"""featbank demo."""

from __future__ import annotations

import time
from pathlib import Path

import click

from cli import options
from cli._progress import reporter
from cli._show import print_table, write_json
from cli.specs import Spec

__all__ = ["HEADS", "command"]

HEADS = ("joint", "ncm", "tau", "crt", "lws")


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("demo-out"), show_default=True,
    help="Folder that gets the run, the bank, the heads and the results.",
)  # fmt: skip
@options.seed
@options.device
@options.overwrite
@options.json_to
@options.quiet
def command(
    out: Path, seed: int, device: str, overwrite: bool, json_to: Path | None, quiet: bool
) -> None:
    """Train, bank, fit and compare on real images, in about a minute.

    The images are scikit-learn's 8x8 digits, made long-tailed: 100 training images of the most
    frequent digit, 5 of the rarest, and 50 of each to test on. Nothing is downloaded.
    """
    from cli._fitting import fit_heads, prepare, results_table
    from cli._splits import roles
    from cli.train import config_for, shot_metrics
    from featbank import Bank
    from featbank.data import open_data
    from featbank.device import resolve_device
    from featbank.extract import extract
    from featbank.train import train

    began = time.monotonic()
    prepare(out, overwrite=overwrite)
    watcher = reporter(quiet=quiet)
    data = Spec("digits-lt", {"seed": seed})
    images = open_data(data.name, data.params)
    watcher.say(f"Digits-LT: {' '.join(str(count) for count in images.counts)} images per class")
    train(
        images,
        {"name": data.name, "params": data.params},
        config_for(data, {"seed": seed}),
        out / "run",
        device=device,
        metrics=shot_metrics(images.shots),
        reporter=watcher,
        overwrite=overwrite,
    )
    extract(out / "run", out / "bank.zarr", device=device, overwrite=overwrite, reporter=watcher)
    bank = Bank.open(out / "bank.zarr")
    parts = roles(bank, None, None)
    results = fit_heads(
        bank,
        [Spec(name, {}) for name in HEADS],
        out / "heads",
        parts,
        seed=seed,
        device=str(resolve_device(device)),
        overwrite=overwrite,
        reporter=watcher,
    )
    write_json(out / "results.json", results)
    if write_json(json_to, results):
        return
    many, few = bank.shots.many_above, bank.shots.few_below
    title = f"Digits-LT, {', '.join(parts.report)}, in % (many > {many}, few < {few} images)"
    print_table(title, *results_table(results, parts))
    click.echo(
        f"{out} holds run, bank.zarr, heads and results.json ({time.monotonic() - began:.0f} s)\n"
        f"next: featbank info {out / 'bank.zarr'}, featbank sweep {out / 'bank.zarr'} --head tau"
    )
