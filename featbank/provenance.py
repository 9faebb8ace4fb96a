"""What a feature is made from: digests, and where two records of them differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from featbank.data.transforms import Transform, fingerprint
from featbank.data.types import ImageData
from featbank.rows import SplitRows

__all__ = [
    "INFORMATIVE",
    "data_record",
    "differences",
    "flattened",
    "rows_digest",
    "tensors_digest",
    "transform_record",
    "versions",
]

# Recorded for a reader; a difference here does not make a bank another one.
INFORMATIVE = ("versions", "device")

_PACKAGES = ("featbank", "torch", "torchvision", "timm", "pillow", "numpy", "scikit-learn")


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors: names, dtypes, shapes and bytes, in order of name.

    It depends on what they hold and not on the file, the device or the order they come in.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        head = [name, str(tensor.dtype), list(tensor.shape)]
        digest.update(json.dumps(head).encode() + b"\n")
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def rows_digest(rows: SplitRows) -> str:
    """Return the SHA-256 of a split's ids and labels, in their order."""
    listed = [list(rows.ids), rows.labels.tolist()]
    return hashlib.sha256(json.dumps(listed, separators=(",", ":")).encode()).hexdigest()


def data_record(data: ImageData) -> dict[str, Any]:
    """Return name and split digests of a data set; no path, so a moved one is still the same."""
    lists = {name: rows_digest(split) for name, split in data.splits.items()}
    return {"name": data.name, "lists": lists}


def transform_record(transform: Transform) -> dict[str, str]:
    """Return a transform spelled out, and the digest of its output on a fixed image."""
    return {"spec": " ".join(repr(transform).split()), "fingerprint": fingerprint(transform)}


def versions() -> dict[str, str]:
    """Return the installed versions of what a feature's bits depend on."""
    return {name: _version(name) for name in _PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the dotted names of the fields in which two provenance records differ.

    The `INFORMATIVE` ones are left out. An empty list: the same images, seen the same way by the
    same weights, stored in the same dtype.
    """
    left, right = flattened(one), flattened(other)
    names = [name for name in left | right if name.partition(".")[0] not in INFORMATIVE]
    return sorted(name for name in names if left.get(name) != right.get(name))


def flattened(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested record with dotted names: ``{"a": {"b": 1}}`` gives ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        nested = isinstance(value, Mapping)
        flat |= flattened(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat
