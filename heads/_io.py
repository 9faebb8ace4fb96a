"""A fitted head as one file: safetensors, with everything that is no tensor as JSON beside them.

The header holds one entry, `featbank.head`: {"sha256", "head": {"format", "class", "params",
"fitted", "labels", "metadata"}}. The digest covers that inner object and every tensor's name,
dtype, shape and bytes, so that a changed bit anywhere is refused; safetensors itself has no
checksum. Tensors are named `params.weight`, `fitted.centroids_` and so on. Loading executes
nothing from the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from heads._arrays import as_tensor
from heads.errors import HeadFileError, HeadInputError, MissingHeadError
from heads.estimators._base import Head
from heads.estimators.balanced_softmax import BalancedSoftmax
from heads.estimators.crt import ClassifierRetraining
from heads.estimators.joint import JointClassifier
from heads.estimators.logit_adjust import LogitAdjustment
from heads.estimators.lws import LearnableWeightScaling
from heads.estimators.ncm import NearestClassMean
from heads.estimators.tau_norm import TauNorm

__all__ = ["FORMAT", "is_head_file", "load", "read_metadata", "save"]

FORMAT = 1

# What a file that is no head, or one made up by somebody, can make of Python's own operations.
_ODD = (
    KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError,
    MemoryError, RuntimeError,
)  # fmt: skip

_KEY = "featbank.head"
# Neither follow a link nor wait for a pipe's other end, where the system can be told so.
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
# How every head's header begins, after the eight bytes of its length.
_BEGINNING = b'{"__metadata__":{"featbank.head":'
_CLASSES: dict[str, type[Head]] = {
    cls.__name__: cls
    for cls in (
        BalancedSoftmax,
        ClassifierRetraining,
        JointClassifier,
        LearnableWeightScaling,
        LogitAdjustment,
        NearestClassMean,
        TauNorm,
    )
}
# Labels and feature names: numbers, truth values, strings of a fixed length, or Python strings.
_LABEL_DTYPE = re.compile(r"int(8|16|32|64)|uint(8|16|32|64)|float(16|32|64)|bool|<U\d{1,6}|object")
# A numpy array of text has its longest entry's room for each. A file must not ask for more than so
# many bytes and so many times its labels' own characters.
_LABEL_BYTES, _LABEL_FACTOR = 64 << 20, 64


def save(head: Head, path: str | Path, metadata: Mapping[str, Any] | None = None) -> None:
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
    _refuse_other_file(Path(path))
    tensors, record = _pack(head, dict(metadata or {}))
    header = json.dumps({"sha256": _digest(tensors, record), "head": record}, sort_keys=True)
    path = Path(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(16)}.partial")
    try:
        _write(part, to_bytes(tensors, metadata={_KEY: header}))
        if _canonical(_read(part)[1]) != _canonical(record):
            message = f"{path}: what was written does not read back as it was; is the disk sound?"
            raise HeadFileError(message)
        _refuse_other_file(path)
        part.replace(path)
        _sync(path.parent)
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)  # a failing write does not say which file it is about
        raise
    finally:
        part.unlink(missing_ok=True)


def is_head_file(path: str | Path) -> bool:
    """Tell whether a regular file begins as those that `save` writes, whole or damaged.

    A link is not followed, and nothing but a file is read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _NO_FOLLOW)
    except OSError:
        return False
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return regular and os.read(descriptor, 8 + len(_BEGINNING))[8:] == _BEGINNING
    finally:
        os.close(descriptor)


def _refuse_other_file(path: Path) -> None:
    """Refuse to replace anything but a head, or an empty file, which somebody made for it."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    empty = stat.S_ISREG(found.st_mode) and not found.st_size
    if not empty and not is_head_file(path):
        message = f"{path} exists and is no head, so it is not replaced; choose another path"
        raise HeadInputError(message)


def load(path: str | Path) -> Head:
    """Read a head that `save` wrote.

    Raises
    ------
    MissingHeadError
        There is no such file.
    HeadFileError
        The file is no head, is of a later format, or is damaged.
    """
    tensors, record = _read(Path(path))
    try:
        return _unpack(tensors, record)
    except _ODD as error:
        message = f"{path}: not a head this version can build ({type(error).__name__}: {error})"
        raise HeadFileError(" ".join(message.split())) from error


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return the metadata that a head was saved with, once the whole file has proved sound."""
    _, record = _read(Path(path))
    metadata = record.get("metadata")
    if not isinstance(metadata, dict):
        message = f"{path}: not a head file, or a damaged one (its metadata is no object)"
        raise HeadFileError(message)
    return metadata


def _pack(head: Head, metadata: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
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
                record["labels"][name] = _labels_to_json(value)
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


def _unpack(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Head:
    values = {group: {**record[group]} for group in ("params", "fitted")}
    for name, tensor in tensors.items():
        group, _, attribute = name.partition(".")
        values[group][attribute] = tensor.numpy()
    labels = {name: _labels_from_json(coded) for name, coded in record["labels"].items()}
    head = _CLASSES[record["class"]](**values["params"])
    head._check_params()
    _check_fitted(head, values["fitted"], labels)
    for name, value in (values["fitted"] | labels).items():
        setattr(head, name, value)
    head._fitted_with = head.get_params(deep=False)
    return head


def _check_fitted(
    head: Head, fitted: Mapping[str, Any], labels: Mapping[str, NDArray[Any]]
) -> None:
    """Refuse names that `fit` does not set, and arrays that cannot belong together."""
    names, optional = {*fitted, *labels}, {"feature_names_in_", "weight_decay_"}
    expected = {"classes_", "n_features_in_", *head._fitted}
    if names - optional != expected:
        message = f"it holds {sorted(names)} and should hold {sorted(expected)}"
        raise ValueError(message)
    n_classes, width = len(labels["classes_"]), int(fitted["n_features_in_"])
    if any(each.shape != (len(each),) for each in labels.values()):
        message = "labels should be a list"
        raise ValueError(message)
    shapes = {
        "weight_": (n_classes, width),
        "centroids_": (n_classes, width),
        "bias_": (n_classes,),
        "scale_": (n_classes,),
        "log_prior_": (n_classes,),
        "mean_": (width,),
    }
    for name, value in fitted.items():
        if name in shapes and value is not None:
            good = value.shape == shapes[name] and value.dtype.kind == "f"
            if not (good and np.isfinite(value).all()):
                message = f"{name} should be {shapes[name]} finite numbers"
                raise ValueError(message)


def _labels_to_json(labels: NDArray[Any]) -> dict[str, Any]:
    dtype = "object" if labels.dtype.kind == "O" else labels.dtype.newbyteorder("=").name
    dtype = f"<U{labels.dtype.itemsize // 4}" if labels.dtype.kind == "U" else dtype
    values = labels.tolist()
    strings = dtype != "object" or all(isinstance(value, str) for value in values)
    if not (_LABEL_DTYPE.fullmatch(dtype) and strings):
        message = f"labels of dtype {labels.dtype} cannot be saved; use numbers or strings"
        raise HeadInputError(message)
    if not _has_room(dtype, values):
        message = f"labels of dtype {labels.dtype} are mostly empty room; use labels.astype(object)"
        raise HeadInputError(message)
    return {"dtype": dtype, "values": values}


def _labels_from_json(coded: Mapping[str, Any]) -> NDArray[Any]:
    dtype = coded["dtype"]
    if not _LABEL_DTYPE.fullmatch(dtype):
        message = f"labels of unknown dtype {dtype!r}"
        raise ValueError(message)
    if not _has_room(dtype, coded["values"]):
        message = f"labels of dtype {dtype} are mostly empty room"
        raise ValueError(message)
    return np.array(coded["values"], dtype=dtype)


def _has_room(dtype: str, values: list[Any]) -> bool:
    """Tell whether labels take no more memory than their characters account for."""
    if not dtype.startswith("<U"):
        return True
    characters = sum(map(len, values))
    return np.dtype(dtype).itemsize * len(values) <= _LABEL_BYTES + _LABEL_FACTOR * characters


def _refuse_what_json_cannot_hold(record: dict[str, Any]) -> None:
    try:
        same = json.loads(_canonical(record)) == record
    except (TypeError, ValueError, UnicodeEncodeError) as error:
        message = f"a head file holds what JSON can hold, in its parameters and metadata: {error}"
        raise HeadInputError(message) from error
    if not same:
        message = (
            "parameters and metadata must survive JSON: use string keys, lists, finite numbers"
        )
        raise HeadInputError(message)


def _canonical(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8")


def _digest(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(_canonical(record))
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and record, or say what is wrong with the file in one line."""
    _require_file(path)
    try:
        raw = path.read_bytes()
        tensors = dict(sorted(from_bytes(raw).items()))
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"][_KEY])
        record, sha256 = header["head"], header["sha256"]
        sound = _digest(tensors, record) == sha256
        version = record["format"]
    except (SafetensorError, OSError, *_ODD) as error:
        message = f"{path}: not a head file, or a damaged one ({type(error).__name__}: {error})"
        raise HeadFileError(" ".join(message.split())) from error
    if not sound:
        message = f"{path}: damaged: its contents do not match its own SHA-256; fit and save again"
        raise HeadFileError(message)
    if version != FORMAT:
        message = f"{path}: head format {version}, but this version reads format {FORMAT}"
        raise HeadFileError(message)
    return tensors, record


def _require_file(path: Path) -> None:
    """Refuse a path at which no regular file lies: opening a pipe could wait for ever."""
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        message = f"{path}: no such file"
        raise MissingHeadError(message) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        message = f"{path}: not a head file ({reason})"
        raise HeadFileError(message) from error
    if not stat.S_ISREG(kind):
        message = f"{path}: not a head file: it is a folder, a pipe or a device"
        raise HeadFileError(message)


def _write(path: Path, data: bytes) -> None:
    """Write a new file; nothing may have its name, so that no link is followed."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make a rename in `folder` durable, where the system lets a folder be synced."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
