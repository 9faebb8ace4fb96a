"""Beginning a bank, or going on with one: what its records claim and its files confirm is kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featbank.bank._done import claims_of, column_file, whole_rows
from featbank.bank._place import Place
from featbank.bank.bank import Bank
from featbank.bank.folder import refuse_links
from featbank.bank.plan import BankPlan, identity_of
from featbank.bank.provenance_diff import differences
from featbank.bank.verify import matches, verify
from featbank.errors import DamagedError, InputError, OutputExistsError, StaleError
from featbank.files.atomic import storage_errors
from featbank.files.folders import not_ours
from featbank.store.array_record import ArrayRecord
from featbank.store.background import Done
from featbank.store.journal import Claims, Journal, begun_plan, rank_journals, read_journal
from featbank.store.manifest import Manifest
from featbank.store.schema import JOURNAL, MANIFEST

__all__ = ["Begun", "begin_or_resume", "identity_at", "require_same"]


@dataclass(frozen=True)
class Begun:
    """What is there of a bank when its writing begins.

    `done` has the chunks that are kept; `up_to_date` tells that the bank is complete and sound.
    """

    done: Done = field(default_factory=dict)
    up_to_date: bool = False


@storage_errors()
def begin_or_resume(place: Place, plan: BankPlan, journal: Journal, *, update: bool) -> Begun:
    """Take over what the records in the folder claim and its files confirm, or begin.

    Parameters
    ----------
    place : Place
        Where the bank is written, locked.
    plan : BankPlan
        What it is to become.
    journal : Journal
        The journal of the job's first process there.
    update : bool
        Whether a complete bank of the same plan is taken as it is.

    Raises
    ------
    OutputExistsError
        A complete bank is there and `update` is not set, or a file of the user's has the name of
        a record.
    StaleError
        The bank there was made from something else.
    StorageError
        The disk has too little room, or cannot be written.
    """
    if place.is_beside:
        return resume_beside(place, plan, journal)
    if Manifest.recognise(place.store) is not None:
        if not update:
            message = f"{place.store} exists; choose another path for --out, or add --overwrite"
            raise OutputExistsError(message)
        return keep_complete(place.store, plan, journal)
    if begun_plan(place.store) is not None:
        return keep_unfinished(place.store, plan, journal)
    place.require_room(plan)
    journal.begin(plan.identity(), {})
    return Begun()


def resume_beside(place: Place, plan: BankPlan, journal: Journal) -> Begun:
    """Go on with the replacement that an interrupted attempt left, or begin it.

    Where that was to become another bank, or is damaged, it is made anew: nobody misses it.
    """
    done: Done = {}
    try:
        if Manifest.recognise(place.store) is not None:
            done = whole_rows(plan, of_complete(place.store, plan)[0])
        elif begun_plan(place.store) is not None:
            done = whole_rows(plan, of_unfinished(place.store, plan))
    except (StaleError, DamagedError, InputError):
        done = {}
    if not done:
        place.clear()
    place.require_room(plan)
    journal.begin(plan.identity(), claims_of(done))
    (place.store / MANIFEST).unlink(missing_ok=True)
    return Begun(done)


def keep_complete(store: Path, plan: BankPlan, journal: Journal) -> Begun:
    """Keep a complete bank of the same plan; where it is damaged, reopen it without that."""
    claims, sound = of_complete(store, plan)
    done = whole_rows(plan, claims)
    if not sound:
        if os.path.lexists(store / JOURNAL) and begun_plan(store) is None:
            raise not_ours(store / JOURNAL)
        journal.begin(plan.identity(), claims_of(done))
        (store / MANIFEST).unlink()
    return Begun(done, up_to_date=sound)


def keep_unfinished(store: Path, plan: BankPlan, journal: Journal) -> Begun:
    """Keep the chunks whose files match what the journals claim; leave one journal."""
    if os.path.lexists(store / MANIFEST):
        raise not_ours(store / MANIFEST)
    done = whole_rows(plan, of_unfinished(store, plan))
    if rank_journals(store):
        journal.begin(plan.identity(), claims_of(done))
    return Begun(done)


def of_complete(store: Path, plan: BankPlan) -> tuple[Claims, bool]:
    """Return the chunks of a complete bank of this plan that are sound, and whether all are."""
    refuse_links(store)
    bank = Bank.open(store)
    require_same(store, identity_of(bank), plan)
    damage = verify(bank).damage
    bad = {(place.array, place.index) for place in damage}
    claims = {
        claim_key(name, record, index): chunk
        for name, record in bank.manifest.arrays.items()
        for index, chunk in enumerate(record.chunks)
        if (name, index) not in bad
    }
    return claims, not damage


def claim_key(array: str, record: ArrayRecord, index: int) -> tuple[str, int]:
    """Return how claims name a chunk: ``train/views/2`` is the third view of train."""
    view, row = record.place(index)
    return (array if view is None else f"{array}/{view}", row)


def of_unfinished(store: Path, plan: BankPlan) -> Claims:
    """Return the chunks that the journals claim and whose files match."""
    refuse_links(store)
    begun, claims = read_journal(store)
    require_same(store, begun, plan)
    planned = {f"{split}/{column}" for split in plan.rows for column in plan.columns(split)}
    return {
        (name, index): record
        for (name, index), record in claims.items()
        if name in planned and matches(column_file(store, plan, name, index), record)
    }


def identity_at(store: Path) -> Mapping[str, Any]:
    """Return what the bank at `store` is made from, finished or not."""
    if (store / MANIFEST).is_file() and not (store / JOURNAL).exists():
        return identity_of(Bank.open(store))
    return read_journal(store)[0]


def require_same(store: Path, identity: Mapping[str, Any], plan: BankPlan) -> None:
    """Refuse to go on with a bank that was made from something else."""
    differing = differences(identity, plan.identity())
    if differing:
        message = (
            f"{store} was made from something else, by {', '.join(differing)}; "
            "choose another path for --out, or add --overwrite to make it anew"
        )
        raise StaleError(message)
