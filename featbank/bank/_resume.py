"""Which chunks of a bank are there already: what its records claim and its files confirm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from featbank.bank.bank import Bank
from featbank.bank.folder import refuse_links
from featbank.bank.plan import BankPlan, identity_of
from featbank.bank.provenance_diff import differences
from featbank.bank.verify import matches, verify
from featbank.errors import StaleError
from featbank.store.chunks import ChunkRecord, chunk_file
from featbank.store.journal import Claims, read_journal
from featbank.store.manifest import ArrayRecord
from featbank.store.schema import JOURNAL, MANIFEST

__all__ = [
    "Records",
    "claimed_file",
    "identity_at",
    "of_complete",
    "of_unfinished",
    "require_same",
    "spans",
    "whole_rows",
]

Records = dict[str, ChunkRecord]
"""Of some rows, by column: the chunk that holds them."""


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
        if name in planned and matches(claimed_file(store, plan, name, index), record)
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


def claimed_file(store: Path, plan: BankPlan, array: str, index: int) -> Path:
    """Return the path of one chunk of an array, as ``train/features`` or ``train/views/0``."""
    split, name, *view = array.split("/")
    shape, _ = plan.columns(split).get(array.partition("/")[2], ((), ""))
    place = int(view[0]) if view else None
    return chunk_file(store / split / name, index, 1 + len(shape), place)


def spans(plan: BankPlan) -> Iterator[tuple[str, int, int]]:
    """Yield (split, start, stop) of every chunk of rows that is to be."""
    for split, rows in plan.rows.items():
        step = plan.step(split)
        for start in range(0, len(rows), step):
            yield split, start, min(start + step, len(rows))


def whole_rows(plan: BankPlan, claims: Claims) -> dict[tuple[str, int], Records]:
    """Return, by split and chunk, the records of those rows of which every array is there."""
    done = {}
    for split, start, stop in spans(plan):
        index = start // plan.step(split)
        found = {name: claims.get((f"{split}/{name}", index)) for name in plan.columns(split)}
        whole = {name: record for name, record in found.items() if record is not None}
        if len(whole) == len(found) and all(
            (record.start, record.stop) == (start, stop) for record in whole.values()
        ):
            done[split, index] = whole
    return done
