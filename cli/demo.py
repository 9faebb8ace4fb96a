"""featbank demo."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli._progress import reporter
from cli._show import plain, print_notes, print_table, write_json
from cli.specs import Spec

if TYPE_CHECKING:
    from featbank.progress import Reporter

__all__ = ["HEADS", "RECIPES", "command"]

HEADS = ("joint", "ncm", "tau", "crt", "lws")
# Stage-1 recipes that are compared: which images the network sees how often.
RECIPES = {"instance": "instance", "balanced": "class"}


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("demo-out"), show_default=True,
    help="Folder that gets the runs, the banks, the heads, the results and the report.",
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
    frequent digit, 5 of the rarest, and 50 of each to test on. Two networks are trained, one on
    images as they come and one on classes equally often. Nothing is downloaded.
    """
    from cli._fitting import fit_heads, prepare, results_table
    from cli._splits import roles
    from featbank import Bank
    from featbank.device import resolve_device

    began = time.monotonic()
    prepare(out, overwrite=overwrite)
    watcher = reporter(quiet=quiet)
    where = str(resolve_device(device))
    paths = [make_bank(out, name, seed, where, overwrite, watcher) for name in RECIPES]
    bank = Bank.open(paths[0])
    parts = roles(bank, None, None)
    wanted = [Spec(name, {}) for name in HEADS]
    results = fit_heads(
        bank, wanted, out / "heads", parts,
        seed=seed, device=where, overwrite=overwrite, reporter=watcher,
    )  # fmt: skip
    write_json(out / "results.json", results)
    compared = compare_banks(paths, wanted, out / "comparison", seed, where, overwrite, watcher)
    if write_json(json_to, results):
        return
    many, few = bank.shots.many_above, bank.shots.few_below
    title = f"Digits-LT, {', '.join(parts.report)}, in % (many > {many}, few < {few} images)"
    print_table(title, *results_table(results, parts))
    print_notes(results["notes"])
    show_comparison(compared)
    click.echo(
        f"{plain(str(out))} holds runs, banks, heads and results.json; open "
        f"{plain(str(out / 'comparison' / 'report.html'))} ({time.monotonic() - began:.0f} s)\n"
        f"next: featbank sweep {plain(str(paths[0]))} --head tau"
    )


def make_bank(
    out: Path, name: str, seed: int, device: str, overwrite: bool, watcher: Reporter
) -> Path:
    """Train with one recipe and bank the features; return the bank."""
    from cli.train import config_for, shot_metrics
    from featbank.data import open_data
    from featbank.extract import extract
    from featbank.train import train

    data = Spec("digits-lt", {"seed": seed})
    images = open_data(data.name, data.params)
    counts = " ".join(str(count) for count in images.counts)
    watcher.say(f"Digits-LT: {counts} images per class, sampled by {RECIPES[name]}")
    run, bank = out / f"run-{name}", out / f"{name}.zarr"
    train(
        images,
        {"name": data.name, "params": data.params},
        config_for(data, {"seed": seed, "sampler": RECIPES[name]}),
        run,
        device=device,
        metrics=shot_metrics(images.shots),
        reporter=watcher,
        overwrite=overwrite,
    )
    extract(run, bank, device=device, overwrite=overwrite, reporter=watcher)
    return bank


def compare_banks(
    paths: list[Path],
    wanted: list[Spec],
    out: Path,
    seed: int,
    device: str,
    overwrite: bool,
    watcher: Reporter,
) -> dict[str, Any]:
    """Compare the banks and build the page."""
    from cli._comparing import Settings, compare
    from cli._report import build_report

    settings = Settings(seed=seed, device=device)
    found = compare(paths, wanted, out, settings, overwrite=overwrite, reporter=watcher)
    build_report(out)
    return found


def show_comparison(compared: dict[str, Any]) -> None:
    """Print the table of banks and heads, and the clearest differences."""
    from cli.compare import show

    show(compared, ["all"])
