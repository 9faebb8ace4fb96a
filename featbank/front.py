"""The front door: heads fitted, swept and evaluated on a bank, in one call each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featbank.bank.bank import Bank
from featbank.errors import InputError
from featbank.results.fit import Evaluated, Fit, Fits
from featbank.results.mistakes import Mistakes
from featbank.results.sweep import Sweep
from featbank.runtime.device import resolve_device
from featbank.runtime.progress import SILENT, Reporter
from featbank.runtime.spec import Spec, parse_spec
from featbank.study.arrays import BankArrays
from featbank.study.choosing import TAU_RANGE
from featbank.study.fitting import fit_heads, fit_into
from featbank.study.mistakes import find_mistakes, mistakes_into
from featbank.study.saved_heads import evaluate_heads
from featbank.study.splits import roles
from featbank.study.sweeping import check_sweep, sweep_splits

__all__ = ["evaluate", "fit", "mistakes", "sweep"]


@overload
def fit(
    bank: str | Path | Bank,
    head: str | Spec = ...,
    *,
    sample_weight: ArrayLike | None = ...,
    select: str | None = ...,
    report: str | None = ...,
    seed: int = ...,
    device: str = ...,
    out: str | Path | None = ...,
    overwrite: bool = ...,
    replace_in_place: bool = ...,
    reporter: Reporter = ...,
) -> Fit: ...
@overload
def fit(
    bank: str | Path | Bank,
    head: list[str | Spec] | list[str] | tuple[str | Spec, ...],
    *,
    sample_weight: ArrayLike | None = ...,
    select: str | None = ...,
    report: str | None = ...,
    seed: int = ...,
    device: str = ...,
    out: str | Path | None = ...,
    overwrite: bool = ...,
    replace_in_place: bool = ...,
    reporter: Reporter = ...,
) -> Fits: ...
def fit(
    bank: str | Path | Bank,
    head: str | Spec | Sequence[str | Spec] = "crt",
    *,
    sample_weight: ArrayLike | None = None,
    select: str | None = None,
    report: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    out: str | Path | None = None,
    overwrite: bool = False,
    replace_in_place: bool = False,
    reporter: Reporter = SILENT,
) -> Fit | Fits:
    """Fit a head on a bank, choose what it leaves open on val, and evaluate it once.

    Parameters
    ----------
    bank : path or Bank
    head : str, Spec, or a sequence of these
        ``crt``, ``crt:weight_decay=0.1``: a name with parameters, as on the command line. Of a
        sequence all are fitted, and the features are read once.
    sample_weight : array of shape (N,), optional
        The weight of each training row, in the bank's order: a row of weight 2 counts as two rows,
        one of weight 0 as none.
    select : str, optional
        The split on which parameters are chosen; ``val`` where there is one.
    report : str, optional
        The split that is evaluated; every split but train and the selecting one, if none is named.
    seed : int
        Seed of every draw: the same seed gives the same head.
    device : str
        ``cpu``, ``cuda``, ``cuda:0`` or ``auto``.
    out : path, optional
        A folder that gets a file for each head, and ``results.json``. None writes nothing.
    overwrite : bool
        Whether heads that are in `out` may be replaced; they are when the new ones are whole, and
        other files stay.
    replace_in_place : bool
        With `overwrite`, remove the old heads first, where the disk cannot hold both: a failure
        then leaves neither.
    reporter : Reporter
        Is told what takes time; silent by default.

    Returns
    -------
    Fit, or Fits for a sequence of heads
        The fitted head, its metrics with intervals, and how it was chosen. Prints as a table.

    Raises
    ------
    UsageError
        The bank lacks a split that was named.
    HeadSpecError
        An unknown head or parameter, or a value that is not allowed.
    InputError
        `sample_weight` does not belong to the training rows.
    OutputExistsError
        `out` holds something, and `overwrite` is not set or it is not featbank's.
    LockedError, StorageError
        Another process is writing to `out`; its disk is full, read-only or failing.

    Examples
    --------
    >>> fit = featbank.fit(bank, "tau")
    >>> sorted(fit.metrics)[:2], fit.selection.split
    (['all', 'few'], 'val')
    >>> print(featbank.fit(bank, ["ncm", "tau:tau=1"]).to_markdown().splitlines()[2])
    | head | many | medium | few | all | parameters | chosen on | seconds |
    """
    opened, alone = opened_bank(bank), isinstance(head, str | Spec)
    wanted = [spec_of(each) for each in ([head] if isinstance(head, str | Spec) else head)]
    parts = roles(opened, select, report)
    weights = None if sample_weight is None else checked_weights(opened, sample_weight)
    where = str(resolve_device(device))
    arrays = BankArrays(opened, where, parts.select, sample_weight=weights)
    if out is None:
        fits = fit_heads(arrays, wanted, parts, seed=seed, reporter=reporter)
    else:
        fits = fit_into(
            Path(out), arrays, wanted, parts,
            seed=seed, overwrite=overwrite, in_place=replace_in_place, reporter=reporter,
        )  # fmt: skip
    return fits[0] if alone else fits


def sweep(
    bank: str | Path | Bank,
    head: str | Spec = "tau",
    *,
    span: tuple[float, float] = TAU_RANGE,
    grid: Sequence[float] | None = None,
    rule: str = "one-se",
    select: str | None = None,
    report: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    full: bool = False,
    reporter: Reporter = SILENT,
) -> Sweep:
    """Return accuracy over a head's parameter, exactly, and the value chosen on val.

    Parameters
    ----------
    bank : path or Bank
    head : str or Spec
        ``tau`` or ``logit-adjust``.
    span : tuple of two floats
        The range of the exact curve.
    grid : sequence of float, optional
        Points to try in place of the exact curve; of tau only.
    rule : {"one-se", "bootstrap", "maximum"}
        How the exact curve's parameter is chosen: see `heads.curves.rules`.
    select, report : str, optional
        The split that chooses, and the one that is reported, as in `fit`.
    seed : int
        Seed of the rule that draws.
    device : str
        As in `fit`.
    full : bool
        Keep every breakpoint of the exact curves, in `Sweep.steps`.
    reporter : Reporter
        As in `fit`.

    Raises
    ------
    UsageError
        The head has no such curve, or there is no split to choose on.

    Examples
    --------
    >>> curve = featbank.sweep(bank, "tau")
    >>> 0 <= curve.best <= 2
    True
    >>> curve.at(0.7)["all"] >= 0.5
    True
    """
    opened, spec = opened_bank(bank), spec_of(head)
    check_sweep(spec, exact=grid is None)
    return sweep_splits(
        opened,
        spec,
        roles(opened, select, report),
        span=span,
        grid=grid,
        rule=rule,
        seed=seed,
        device=str(resolve_device(device)),
        full=full,
        reporter=reporter,
    )


def evaluate(
    bank: str | Path | Bank,
    heads: str | Path | Sequence[str | Path],
    *,
    report: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    reporter: Reporter = SILENT,
) -> Evaluated:
    """Evaluate saved heads on a bank.

    Parameters
    ----------
    bank : path or Bank
    heads : path or sequence of paths
        Files that `Fit.save`, or the command line, wrote.
    report : str, optional
        The split to evaluate on; every split that is there to test on, if none is named.
    seed : int
        Seed of the intervals.
    device : str
        As in `fit`.
    reporter : Reporter
        As in `fit`.

    Raises
    ------
    StaleError
        A head was fitted on other features or classes; the message names what differs.
    UsageError
        The bank lacks the split.

    Examples
    --------
    >>> featbank.fit(bank, "ncm").save(folder / "ncm.head")
    >>> again = featbank.evaluate(bank, folder / "ncm.head")
    >>> again[0].metrics == featbank.fit(bank, "ncm").metrics
    True
    """
    files = [heads] if isinstance(heads, str | Path) else heads
    return evaluate_heads(
        opened_bank(bank),
        [Path(file) for file in files],
        report,
        seed=seed,
        device=str(resolve_device(device)),
        reporter=reporter,
    )


def mistakes(
    bank: str | Path | Bank,
    head: str | Path,
    *,
    report: str | None = None,
    device: str = "cpu",
    out: str | Path | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Mistakes:
    """Return what a saved head gets wrong: rows, classes, and what it takes for what.

    Parameters
    ----------
    bank : path or Bank
    head : path
        A file that `Fit.save`, or the command line, wrote.
    report : str, optional
        The split to look at; ``test`` where there is one.
    device : str
        As in `fit`.
    out : path, optional
        A folder that gets ``mistakes.csv``, ``classes.csv``, ``confusion.csv`` and
        ``mistakes.json``. None writes nothing.
    overwrite : bool
        Whether what an earlier call wrote there may be replaced; other files stay.
    reporter : Reporter
        As in `fit`.

    Raises
    ------
    StaleError
        The head was fitted on other features or classes; the message names what differs.
    UsageError
        The bank lacks the split.
    OutputExistsError
        `out` holds something, and `overwrite` is not set or it is not featbank's.
    LockedError, StorageError
        Another process is writing to `out`; its disk is full, read-only or failing.

    Examples
    --------
    >>> featbank.fit(bank, "ncm").save(folder / "ncm.head")
    >>> found = featbank.mistakes(bank, folder / "ncm.head")
    >>> found.wrong[0].confidence == max(each.confidence for each in found.wrong)
    True
    >>> found.classes[0].recall > 0.5
    True
    """
    opened, file, where = opened_bank(bank), Path(head), str(resolve_device(device))

    def find() -> Mistakes:
        return find_mistakes(opened, file, report, device=where, reporter=reporter)

    return find() if out is None else mistakes_into(Path(out), find, overwrite=overwrite)


def checked_weights(bank: Bank, sample_weight: ArrayLike) -> NDArray[np.float64]:
    """Return the weight of each training row of a bank, which must be a number of 0 or more."""
    weights = np.asarray(sample_weight)
    n_rows = len(bank["train"])
    if weights.shape != (n_rows,) or weights.dtype.kind not in "fiu":
        message = (
            f"sample_weight: {bank.path} has {n_rows} training rows, so it takes as many numbers; "
            f"got an array of shape {weights.shape} and type {weights.dtype}"
        )
        raise InputError(message)
    return weights.astype(np.float64)


def opened_bank(bank: str | Path | Bank) -> Bank:
    """Return an open bank."""
    return bank if isinstance(bank, Bank) else Bank.open(bank)


def spec_of(head: str | Spec) -> Spec:
    """Return a head's name and parameters."""
    return head if isinstance(head, Spec) else parse_spec(head)
