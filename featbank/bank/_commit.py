"""The end of a bank's writing: all that is not written chunk by chunk, and the manifest last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from featbank.bank.folder import clear_small
from featbank.bank.plan import BankPlan
from featbank.store.array_record import ArrayRecord
from featbank.store.background import Done
from featbank.store.manifest import Manifest, commit
from featbank.store.schema import CLASSIFIER_BIAS, CLASSIFIER_WEIGHT, IDS, LABELS, VIEWS
from featbank.store.whole_arrays import sha256_of, write_array, write_ids
from featbank.store.zarr_arrays import create_array, create_group

__all__ = ["commit_bank"]


def commit_bank(store: Path, plan: BankPlan, done: Done) -> None:
    """Write labels, ids, classifier and metadata, then the manifest that makes it a bank.

    `done` has every chunk of the plan.
    """
    clear_small(store, plan)
    arrays: dict[str, ArrayRecord] = {}
    for split in plan.rows:
        arrays |= split_records(store, plan, done, split)
    arrays |= classifier_records(store, plan)
    groups = [*plan.rows, *([] if plan.classifier is None else ["classifier"])]
    for name in groups:
        create_group(store, name)
    commit(store, manifest_of(store, plan, arrays, groups))


def split_records(store: Path, plan: BankPlan, done: Done, split: str) -> dict[str, ArrayRecord]:
    """Write a split's labels, ids and metadata; return its records.

    Parameters
    ----------
    store, plan, done
        As `commit_bank` takes them.
    split : str
        The split's name.
    """
    rows, step = plan.rows[split], plan.step(split)
    written = [done[split, index] for index in range(-(-len(rows) // step))]
    records = {}
    for name in dict.fromkeys(column.split("/")[0] for column in plan.columns(split)):
        parts = [each for each in plan.columns(split) if each.split("/")[0] == name]
        row_shape, dtype = plan.columns(split)[parts[0]]
        stacked = (len(parts),) if name == VIEWS else ()
        shape = (*stacked, len(rows), *row_shape)
        create_array(store, f"{split}/{name}", shape, dtype, step)
        metadata = sha256_of(store / split / name / "zarr.json")
        chunks = tuple(each[column] for column in parts for each in written)
        records[f"{split}/{name}"] = ArrayRecord(shape, dtype, step, metadata, chunks)
    return {
        **records,
        f"{split}/{LABELS}": write_array(store, f"{split}/{LABELS}", rows.labels),
        f"{split}/{IDS}": write_ids(store, f"{split}/{IDS}", rows.ids),
    }


def classifier_records(store: Path, plan: BankPlan) -> dict[str, ArrayRecord]:
    """Write stage 1's classifier, where there is one; return its records."""
    if plan.classifier is None:
        return {}
    return {
        name: write_array(store, name, np.ascontiguousarray(values, dtype=np.float32))
        for name, values in zip((CLASSIFIER_WEIGHT, CLASSIFIER_BIAS), plan.classifier, strict=True)
    }


def manifest_of(
    store: Path, plan: BankPlan, arrays: Mapping[str, ArrayRecord], groups: Sequence[str]
) -> Manifest:
    """Return the manifest of what was written.

    Parameters
    ----------
    store, plan
        As `commit_bank` takes them.
    arrays : mapping
        The record of every array, by name.
    groups : sequence of str
        The names of the groups, whose metadata is written.
    """
    return Manifest(
        arrays=arrays,
        class_names=plan.class_names,
        class_counts=plan.counts.tolist(),
        shots=plan.shots,
        provenance=plan.provenance,
        skipped={name: ids for name, ids in plan.skipped.items() if ids},
        groups={name: sha256_of(store / name / "zarr.json") for name in groups},
        rows=plan.digests,
        batch=plan.batch,
    )
