"""Saving a fitted head as one file."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from heads._arrays import as_tensor
from heads._saved_labels import labels_to_json
from heads.canonical import canonical
from heads.errors import HeadFileError, HeadInputError
from heads.head_file import (
    FORMAT,
    head_bytes,
    read_head,
    refuse_no_head,
    sync_folder,
    write_new,
)

__all__ = ["packed", "save"]


class Saved(Protocol):
    """What can be saved: an estimator that says which parameters it was fitted with."""

    def fitted_params(self) -> dict[str, Any]:
        """Return the parameters by name."""


def save(head: Saved, path: str | Path, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a fitted head to one file, replacing a head that is there in one step.

    Parameters
    ----------
    head : Head
        Fitted. Where its arrays live (numpy, CPU, GPU) is not kept: they load as numpy arrays.
    path : path
    metadata : mapping, optional
        Anything JSON can hold, such as the digest of the bank it was fitted on.

    Raises
    ------
    HeadInputError
        A parameter, label or entry of `metadata` that JSON cannot hold; or `path` is something
        else than a head: a link, a pipe, a folder, a file with other contents.
    HeadFileError
        What was written does not read back as it was.
    OSError
        The disk is full, read-only or failing; it names the file.
    """
    check_is_fitted(head)
    refuse_no_head(Path(path))
    tensors, record = packed(head, dict(metadata or {}))
    path = Path(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(16)}.partial")
    try:
        write_new(part, head_bytes(tensors, record))
        if canonical(read_head(part)[1]) != canonical(record):
            message = f"{path}: what was written does not read back as it was; is the disk sound?"
            raise HeadFileError(message)
        refuse_no_head(path)
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)  # a failing write does not say which file it is about
        raise
    finally:
        part.unlink(missing_ok=True)


def packed(head: Saved, metadata: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a fitted head as tensors, and a record that JSON can hold.

    Tensors are named ``params.weight``, ``fitted.centroids_`` and so on; the record is the object
    {"format", "class", "params", "fitted", "labels", "metadata"}.
    """
    state = {name: value for name, value in vars(head).items() if name.endswith("_")}
    tensors: dict[str, Tensor] = {}
    record: dict[str, Any] = {
        "format": FORMAT,
        "class": type(head).__name__,
        "params": {},
        "fitted": {},
        "labels": {},
        "metadata": metadata,
    }
    for group, values in (("params", head.fitted_params()), ("fitted", state)):
        for name, value in values.items():
            if name in ("classes_", "feature_names_in_"):
                record["labels"][name] = labels_to_json(value)
            elif isinstance(value, np.ndarray | Tensor | list | tuple):
                tensors[f"{group}.{name}"] = _plain(as_tensor(value))
            else:
                record[group][name] = value.item() if isinstance(value, np.generic) else value
    _refuse_what_json_cannot_hold(record)
    return tensors, record


def _plain(tensor: Tensor) -> Tensor:
    """Copy to the host, contiguous (safetensors garbles other layouts), in a dtype numpy has."""
    host = tensor.cpu()
    host = host.float() if host.dtype == torch.bfloat16 else host
    return host.clone(memory_format=torch.contiguous_format)


def _refuse_what_json_cannot_hold(record: dict[str, Any]) -> None:
    """Refuse a record that would not read back from JSON as it is."""
    try:
        same = json.loads(canonical(record)) == record
    except (TypeError, ValueError, UnicodeEncodeError) as error:
        message = f"a head file holds what JSON can hold, in its parameters and metadata: {error}"
        raise HeadInputError(message) from error
    if not same:
        message = (
            "parameters and metadata must survive JSON: use string keys, lists, finite numbers"
        )
        raise HeadInputError(message)
