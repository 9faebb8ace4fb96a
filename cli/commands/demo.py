"""featbank demo."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli._progress import reporter
from cli._show import print_notes, print_table, say, write_json
from featbank.runtime.names import printable
from featbank.runtime.spec import Spec

if TYPE_CHECKING:
    from featbank import Bank
    from featbank.results.comparison import Comparison
    from featbank.runtime.progress import Reporter
    from featbank.study.splits import Roles

__all__ = ["HEADS", "RECIPES", "command", "own_demo"]

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
    from cli._outputs import DEMO_FILES, refuse_outputs
    from featbank.results.fit_table import results_table
    from featbank.runtime.device import resolve_device

    began = time.monotonic()
    refuse_outputs({"--json": json_to}, overwrite=overwrite, out=out, taken=DEMO_FILES)
    if overwrite:
        refuse_others(out)
    where = str(resolve_device(device))
    bank, parts, results, compared = make_all(out, seed, where, overwrite, reporter(quiet=quiet))
    if write_json(json_to, results, overwrite=overwrite):
        return
    many, few = bank.shots.many_above, bank.shots.few_below
    title = f"Digits-LT, {', '.join(parts.report)}, in % (many > {many}, few < {few} images)"
    print_table(title, *results_table(results, parts))
    print_notes(results["notes"])
    show_comparison(compared)
    say(
        f"{printable(str(out))} holds runs, banks, heads and results.json; open "
        f"{printable(str(out / 'comparison' / 'report.html'))} ({time.monotonic() - began:.0f} s)\n"
        f"next: featbank sweep {printable(str(out / 'instance.zarr'))} --head tau"
    )


def make_all(
    out: Path, seed: int, device: str, overwrite: bool, watcher: Reporter
) -> tuple[Bank, Roles, dict[str, Any], Comparison]:
    """Make everything in a folder beside `out`, and put it in its place when it is whole.

    Banks are recorded by the paths that they have then. Returned are the first bank, its splits'
    roles, the results of the heads and the comparison.
    """
    from featbank import Bank
    from featbank.files.atomic import replace_text
    from featbank.files.placing import placing
    from featbank.results.owned import RESULTS
    from featbank.study.fitting import fit_heads
    from featbank.study.splits import roles

    wanted = [Spec(name, {}) for name in HEADS]
    with placing(out, own_demo, overwrite=overwrite) as new:
        paths = [make_bank(new.work, name, seed, device, watcher) for name in RECIPES]
        shown = {path: out / path.name for path in paths}
        bank = Bank.open(paths[0])
        parts = roles(bank, None, None)
        results = fit_heads(
            bank, wanted, new.work / "heads", parts,
            seed=seed, device=device, reporter=watcher, shown=shown[paths[0]],
        )  # fmt: skip
        for entry in results["results"]:
            entry["file"] = f"heads/{entry['file']}"
        compared = compare_banks(
            paths, wanted, new.work / "comparison", seed, device, shown, watcher
        )
        replace_text(new.work / RESULTS, json.dumps(results, indent=2, allow_nan=False) + "\n")
        new.finish()
    return bank, parts, results, compared


def part_owners() -> dict[str, Callable[[Path], Sequence[Path] | None]]:
    """Return the folders of a demo, and what tells which files in them are featbank's."""
    from featbank.results.owned import own_bank, own_comparison, own_heads, own_run

    runs, banks = [f"run-{name}" for name in RECIPES], [f"{name}.zarr" for name in RECIPES]
    return {
        **dict.fromkeys(runs, own_run),
        **dict.fromkeys(banks, own_bank),
        "heads": own_heads,
        "comparison": own_comparison,
    }


def own_demo(folder: Path) -> list[Path] | None:
    """Name the files of a demo in a folder: those that the records of its parts name.

    An earlier version wrote its parts one after the other, and its heads without their own record;
    what it left when it was killed has no results.json.
    """
    from featbank.files.replacing import WITHIN, is_folder
    from featbank.results.owned import RESULTS, is_fit, is_head, old_head_names, read_json

    results = read_json(folder / RESULTS)
    if not is_fit(results) and any(os.path.lexists(folder / each) for each in (RESULTS, WITHIN)):
        return None
    names = [
        Path(part, name)
        for part, own in part_owners().items()
        if is_folder(folder / part)
        for name in own(folder / part) or ()
    ]
    old = [f"{name}.head" for name in HEADS] if results is None else old_head_names(results)
    heads = [Path("heads", name) for name in old]
    names += [name for name in heads if name not in names and is_head(folder / name)]
    names += [] if results is None else [Path(RESULTS)]
    return names or None


def refuse_others(out: Path) -> None:
    """Refuse, before any work, a folder in which something of the user's is in the way."""
    from featbank.files.placing import refuse_strangers, used_bytes
    from featbank.files.replacing import recover, refuse_odd_folder, require_room
    from featbank.results.owned import RESULTS

    recover(out)
    refuse_odd_folder(out)
    for part in part_owners():
        refuse_odd_folder(out / part)
    records = ("run.json", "zarr.json", "results.json", "compare.json", "report.html")
    names = [f"{part}/{name}" for part in part_owners() for name in records]
    heads = [f"heads/{name}.head" for name in HEADS]
    refuse_strangers(out, own_demo, (RESULTS, *names, *heads))
    n_bytes = used_bytes(out, own_demo)
    if n_bytes is not None:  # the new one is as large
        require_room(out, n_bytes, remedy="")


def make_bank(out: Path, name: str, seed: int, device: str, watcher: Reporter) -> Path:
    """Train with one recipe and bank the features; return the bank."""
    from cli.commands.train import config_for, shot_metrics
    from featbank.data import open_data
    from featbank.extraction.extract import extract
    from featbank.stage1.train import train

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
    )
    extract(run, bank, device=device, reporter=watcher)
    return bank


def compare_banks(
    paths: list[Path],
    wanted: list[Spec],
    out: Path,
    seed: int,
    device: str,
    shown: dict[Path, Path],
    watcher: Reporter,
) -> Comparison:
    """Compare the banks and build the page."""
    from featbank.study.comparing import Settings, compare_into

    settings = Settings(seed=seed, device=device)
    return compare_into(paths, wanted, out, settings, reporter=watcher, shown=shown)


def show_comparison(compared: Comparison) -> None:
    """Print the table of banks and heads, and the clearest differences."""
    from cli.commands.compare import show

    show(compared, ["all"])
