"""A fitted head as tensors and a record that JSON can hold, and back.

Tensors are named `params.weight`, `fitted.centroids_` and so on; the record is the object
{"format", "class", "params", "fitted", "labels", "metadata"}.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heads._arrays import as_tensor
from heads.errors import HeadInputError
from heads.estimators._base import Head
from heads.estimators.balanced_softmax import BalancedSoftmax
from heads.estimators.crt import ClassifierRetraining
from heads.estimators.joint import JointClassifier
from heads.estimators.logit_adjust import LogitAdjustment
from heads.estimators.lws import LearnableWeightScaling
from heads.estimators.ncm import NearestClassMean
from heads.estimators.tau_norm import TauNorm
from heads.head_file import FORMAT, canonical

__all__ = ["packed", "unpacked"]

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


def packed(head: Head, metadata: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the record of a fitted head."""
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


def unpacked(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Head:
    """Return the head that tensors and a record describe, checked as `fit` would."""
    values = {group: {**record[group]} for group in ("params", "fitted")}
    for name, tensor in tensors.items():
        group, _, attribute = name.partition(".")
        values[group][attribute] = tensor.numpy()
    labels = {name: labels_from_json(coded) for name, coded in record["labels"].items()}
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
    names, optional = {*fitted, *labels}, {"feature_names_in_", "weight_decay_", "temperature_"}
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
    temperature = fitted.get("temperature_", 1.0)
    if not (isinstance(temperature, float) and 0 < temperature < np.inf):
        message = f"temperature_ should be a number above 0, not {temperature!r}"
        raise ValueError(message)
    for name, value in fitted.items():
        if name in shapes and value is not None:
            good = value.shape == shapes[name] and value.dtype.kind == "f"
            if not (good and np.isfinite(value).all()):
                message = f"{name} should be {shapes[name]} finite numbers"
                raise ValueError(message)


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


def labels_to_json(labels: NDArray[Any]) -> dict[str, Any]:
    """Return labels (k,) as their dtype and a list of values."""
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


def labels_from_json(coded: Mapping[str, Any]) -> NDArray[Any]:
    """Return the labels (k,) that `labels_to_json` wrote."""
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
