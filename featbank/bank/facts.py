"""What a bank holds and where it came from, in one record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from featbank.bank.bank import Bank
from heads.metrics import GROUPS, Shots

__all__ = ["BankFacts", "SplitFacts", "bank_facts"]


@dataclass(frozen=True)
class SplitFacts:
    """What one split holds.

    Attributes
    ----------
    rows : int
        Its rows, each the features of one image.
    skipped : int
        Images that were left out because they could not be decoded.
    views : int
        Augmented views of every row; 0 where there are none.
    """

    rows: int
    skipped: int
    views: int


@dataclass(frozen=True)
class BankFacts:
    """What a bank holds.

    Attributes
    ----------
    bank : str
        Its path.
    digest : str
        The digest of its manifest, which no other content has.
    dim : int
        Features in a row, D.
    dtype : str
        How they are stored: ``float16`` or ``float32``.
    n_bytes : int
        Size of all files in the store.
    splits : mapping
        `SplitFacts` by the split's name.
    class_names : tuple of str
        Names of the C classes.
    class_counts : tuple of int
        Training rows of each class.
    shots : Shots
        The thresholds between the shot groups.
    group_sizes : mapping
        Classes that are many, medium and few by these thresholds.
    classifier : bool
        Whether the bank carries the classifier of stage 1.
    weight_norms : mapping, optional
        Mean Euclidean norm of the classifier's rows in each shot group (None for a group without
        classes): how strongly the classifier favours frequent classes. None without a classifier.
    provenance : mapping
        Where the features came from, as the bank records it.
    """

    bank: str
    digest: str
    dim: int
    dtype: str
    n_bytes: int
    splits: Mapping[str, SplitFacts]
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    shots: Shots
    group_sizes: Mapping[str, int]
    classifier: bool
    weight_norms: Mapping[str, float | None] | None
    provenance: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the object of schema 1 that `featbank info` and `featbank import` write."""
        norms = self.weight_norms
        return {
            "schema": 1,
            "bank": self.bank,
            "digest": self.digest,
            "dim": self.dim,
            "dtype": self.dtype,
            "bytes": self.n_bytes,
            "splits": {name: asdict(split) for name, split in self.splits.items()},
            "classes": len(self.class_counts),
            "class_names": list(self.class_names),
            "class_counts": list(self.class_counts),
            "shots": {**self.shots.to_json(), **self.group_sizes},
            "classifier": self.classifier,
            "weight_norms": None if norms is None else dict(norms),
            "provenance": dict(self.provenance),
        }


def bank_facts(bank: Bank) -> BankFacts:
    """Collect what a bank holds; of its arrays only the classifier is read."""
    counts, skipped = bank.class_counts, bank.manifest.skipped
    groups = bank.shots.groups(counts).tolist()
    return BankFacts(
        bank=str(bank.path),
        digest=bank.digest,
        dim=bank.dim,
        dtype=bank.dtype,
        n_bytes=sum(f.stat().st_size for f in bank.path.rglob("*") if f.is_file()),
        splits={
            name: SplitFacts(len(bank[name]), len(skipped.get(name, ())), bank[name].n_views)
            for name in bank.splits
        },
        class_names=tuple(bank.class_names),
        class_counts=tuple(counts.tolist()),
        shots=bank.shots,
        group_sizes={name: groups.count(group) for group, name in enumerate(GROUPS)},
        classifier="classifier/weight" in bank.manifest.arrays,
        weight_norms=weight_norms(bank),
        provenance=bank.provenance,
    )


def weight_norms(bank: Bank) -> dict[str, float | None] | None:
    """Return the mean norm of the classifier's rows by shot group."""
    if bank.classifier is None:
        return None
    norms = np.linalg.norm(bank.classifier[0], axis=1)
    groups = bank.shots.groups(bank.class_counts)
    parts = {name: norms[groups == group] for group, name in enumerate(GROUPS)}
    return {name: float(part.mean()) if len(part) else None for name, part in parts.items()}
