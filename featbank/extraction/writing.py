"""Filling a bank with the features of images: begun or gone on with, filled, committed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.bank.leakage import find_leaks, refuse_leaks
from featbank.bank.plan import BankPlan, Span
from featbank.bank.writer import BankWriter
from featbank.errors import StaleError
from featbank.extraction.images import KeptImages
from featbank.extraction.runner import Extraction
from featbank.runtime.progress import Reporter
from featbank.runtime.ranks import Ranks
from featbank.store.values import lost_columns

__all__ = ["Target", "Written", "write_bank"]


@dataclass(frozen=True)
class Target:
    """Where a bank is written, and what is done about what is there and about leakage.

    Parameters
    ----------
    out : path
        The bank.
    overwrite : bool
        Whether a bank there is replaced when the new one is whole.
    replace_in_place : bool
        Whether it is removed first.
    check_images : bool
        Whether the images of rows that are there are compared by digest, not only by size.
    strict : bool
        Whether the same image in two splits, or with two labels, is refused.
    """

    out: str | Path
    overwrite: bool = False
    replace_in_place: bool = False
    check_images: bool = False
    strict: bool = False


@dataclass(frozen=True)
class Written:
    """What became of it: whether nothing was missing, and what the digests say of leakage."""

    up_to_date: bool
    leaks: Sequence[str]


def write_bank(
    job: Extraction, target: Target, plan: BankPlan, kept: KeptImages, reporter: Reporter
) -> Written:
    """Write what is missing of a bank, each process its part; the first one commits.

    Parameters
    ----------
    job : Extraction
        The network and how it is run.
    target : Target
        Where the bank is written.
    plan : BankPlan
        What it is to become.
    kept : KeptImages
        The images.
    reporter : Reporter
        Is told about every split and batch, and warned of leakage and lost columns.

    Raises
    ------
    InputError
        An image cannot be read, features cannot be stored, or, where `target` is strict, the
        same image is in two places.
    StaleError
        The bank there was made from something else.
    """
    writer, todo = _begin(target, plan, kept, job.ranks)
    with writer:
        if writer.place.is_beside:
            reporter.say(
                f"{writer.place.out} stays until the new bank is whole, which is built in "
                f"{writer.store}"
            )
        for name in kept.data.splits:
            spans = job.ranks.mine([span for span in todo if span.split == name])
            job.fill(writer, kept, name, spans, reporter)
        reports = job.ranks.gather(writer.report())
        leaks = _commit(writer, reports, reporter, strict=target.strict) if job.ranks.first else []
        job.ranks.share(None)  # the others end well only when the bank is whole
    for line in lost_columns(writer.rounded, plan.dtype):
        reporter.warn(line)
    return Written(writer.up_to_date, leaks)


def _begin(
    target: Target, plan: BankPlan, kept: KeptImages, ranks: Ranks
) -> tuple[BankWriter, list[Span]]:
    """Begin the bank, or go on; return its writer, and the chunks that are missing.

    The first process of a job does it, for all of them; the others join in when it has.
    """
    if not ranks.first:
        begun = ranks.share(None)
        todo = [Span(*each) for each in begun["todo"]]
        return BankWriter.join(target.out, plan, ranks.rank, todo, beside=begun["beside"]), todo
    writer = BankWriter.begin(
        target.out,
        plan,
        overwrite=target.overwrite,
        replace_in_place=target.replace_in_place,
        update=True,
    )
    with writer.place.released_on_error():
        for name in kept.data.splits:
            _drop_changed(writer, kept, name, digests=target.check_images)
        if ranks.size > 1:
            writer.lock.share()
        missing = [*writer.missing()]
        ranks.share({"beside": writer.place.is_beside, "todo": missing})
        return writer, missing


def _drop_changed(writer: BankWriter, kept: KeptImages, name: str, *, digests: bool) -> None:
    """Compare the images of rows that are there with what was recorded when they were decoded.

    In an unfinished bank, rows of changed images are made again; in a complete one they are
    refused, since nobody asked to replace it.
    """
    split, rows = kept.data.splits[name], kept.rows[name]
    for start, stop, sizes, hashes in writer.recorded_images(name):
        now = [split.images.n_bytes(int(row)) for row in rows[start:stop]]
        changed = np.asarray(now) != sizes
        if digests and not changed.any():
            read = [hashlib.sha256(split.images.raw(int(row))).digest() for row in rows[start:stop]]
            changed = (np.frombuffer(b"".join(read), np.uint8).reshape(-1, 32) != hashes).any(
                axis=1
            )
        if not changed.any():
            continue
        if writer.up_to_date:
            first = split.ids[int(rows[start + int(np.flatnonzero(changed)[0])])]
            message = (
                f"{writer.store}: images of split {name!r} have changed since they were extracted "
                f"(first: {first}); add --overwrite to extract them again"
            )
            raise StaleError(message)
        writer.drop(name, start)


def _commit(
    writer: BankWriter, reports: Iterable[Sequence[Any]], reporter: Reporter, *, strict: bool
) -> list[str]:
    """Commit a bank that all processes have filled; return what the digests say of leakage."""
    writer.take_over(reports)
    leaks = find_leaks(writer.plan.rows, _digests(writer))
    if strict:
        refuse_leaks(leaks)
    for leak in leaks:
        reporter.warn(str(leak))
    writer.commit()
    return [str(leak) for leak in leaks]


def _digests(writer: BankWriter) -> dict[str, NDArray[np.uint8]]:
    """Return the digests (N, 32) of the images of every split's rows, all of which are there."""
    return {
        name: np.concatenate([hashes for *_, hashes in writer.recorded_images(name)])
        for name in writer.plan.rows
    }
