"""The whole job on real images that ship with a dependency: train, extract, fit and compare."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from featbank.bank.bank import Bank
from featbank.bank.folder import own_bank
from featbank.comparing.compare import Settings, compare_into
from featbank.data import open_data
from featbank.files.atomic import replace_text
from featbank.files.exchanging import recover
from featbank.files.folders import is_folder
from featbank.files.marks import WITHIN
from featbank.files.placing import placing, refuse_strangers, used_bytes
from featbank.files.replacing import refuse_odd_folder, require_room
from featbank.results.comparison import Comparison
from featbank.results.fit import Fits
from featbank.results.owned import (
    RESULTS,
    is_fit,
    is_head,
    old_head_names,
    own_comparison,
    own_heads,
    read_json,
)
from featbank.runs.run_files import own_run
from featbank.runtime.device import resolve_device
from featbank.runtime.progress import SILENT, Reporter
from featbank.runtime.spec import Spec
from featbank.study.arrays import BankArrays
from featbank.study.fitting import fit_into
from featbank.study.splits import roles

__all__ = ["HEADS", "RECIPES", "Demo", "demo", "own_demo"]

HEADS = ("joint", "ncm", "tau", "crt", "lws")
# The two stage-1 recipes that are compared: a bank's name, and how its training images are drawn.
RECIPES = {"instance": "instance", "balanced": "class"}


@dataclass(frozen=True)
class Demo:
    """What a demo gives.

    Attributes
    ----------
    bank : Bank
        The features of the network that was trained on images as they come.
    fits : Fits
        The heads that were fitted on it.
    comparison : Comparison
        The same heads on it and on the bank of class-balanced training.
    """

    bank: Bank
    fits: Fits
    comparison: Comparison


def demo(
    out: str | Path = "demo-out",
    *,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Demo:
    """Train two networks on Digits-LT, bank their features, and fit and compare heads.

    The images are scikit-learn's 8x8 digits, made long-tailed: 100 training images of the most
    frequent digit, 5 of the rarest, and 50 of each to test on. Nothing is downloaded; on two CPU
    cores it takes about a minute.

    Parameters
    ----------
    out : path
        Folder that gets the runs, the banks, the heads, the results and the report.
    seed : int
        Seed of the images that are kept, of both trainings and of every head.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
    overwrite : bool
        Replace an earlier demo in `out` when the new one is whole. Other files there stay.
    reporter : Reporter
        Is told of every step.

    Raises
    ------
    OutputExistsError
        `out` holds something that is not to be replaced.
    StorageError
        The disk is full, read-only or failing.
    """
    out, where = Path(out), str(resolve_device(device))
    if overwrite:
        refuse_others(out)
    return make_all(out, seed, where, reporter, overwrite=overwrite)


def make_all(out: Path, seed: int, device: str, reporter: Reporter, *, overwrite: bool) -> Demo:
    """Make everything in a folder beside `out`, and put it in its place when it is whole.

    Banks are recorded by the paths that they have then.

    Parameters
    ----------
    out, seed, reporter, overwrite
        As in `demo`.
    device : str
        The device that was chosen: ``cpu``, ``cuda`` or ``cuda:i``.
    """
    wanted = [Spec(name, {}) for name in HEADS]
    with placing(out, own_demo, overwrite=overwrite) as new:
        paths = [make_bank(new.work, name, seed, device, reporter) for name in RECIPES]
        shown = {path: out / path.name for path in paths}
        bank = Bank.open(paths[0])
        parts = roles(bank, None, None)
        arrays = BankArrays(bank, device, parts.select, shown=shown[paths[0]])
        fits = fit_into(new.work / "heads", arrays, wanted, parts, seed=seed, reporter=reporter)
        fits = seen_from_above(fits)
        compared = compare_into(
            paths, wanted, new.work / "comparison", Settings(seed=seed, device=device),
            reporter=reporter, shown=shown,
        )  # fmt: skip
        replace_text(
            new.work / RESULTS, json.dumps(fits.to_json(), indent=2, allow_nan=False) + "\n"
        )
        new.finish()
    return Demo(bank, fits, compared)


def seen_from_above(fits: Fits) -> Fits:
    """Return fits whose files are named from the folder above theirs, as ``results.json`` there."""
    moved = [
        replace(fit, results=tuple(replace(one, file=f"heads/{one.file}") for one in fit.results))
        for fit in fits
    ]
    return replace(fits, fits=tuple(moved))


def make_bank(folder: Path, name: str, seed: int, device: str, reporter: Reporter) -> Path:
    """Train with one recipe and bank the features; return the bank.

    Parameters
    ----------
    folder : Path
        The folder that gets the run and the bank.
    name : str
        One of `RECIPES`.
    seed, device, reporter
        As in `make_all`.
    """
    # torch is loaded here, after everything that a user's mistake could stop.
    from featbank.extraction.extract import extract
    from featbank.stage1.recipe import train_by_name

    data = Spec("digits-lt", {"seed": seed})
    counts = " ".join(str(count) for count in open_data(data.name, data.params).counts)
    reporter.say(f"Digits-LT: {counts} images per class, sampled by {RECIPES[name]}")
    run, bank = folder / f"run-{name}", folder / f"{name}.zarr"
    settings = {"seed": seed, "sampler": RECIPES[name]}
    train_by_name(data, run, settings, device=device, reporter=reporter)
    extract(run, bank, device=device, reporter=reporter)
    return bank


def part_owners() -> dict[str, Callable[[Path], Sequence[Path] | None]]:
    """Return the folders of a demo, and what tells which files in them are featbank's."""
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
