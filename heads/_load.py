"""Reading a head that was saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from heads._saved_labels import labels_from_json
from heads.errors import HeadFileError
from heads.estimators.balanced_softmax import BalancedSoftmax
from heads.estimators.base import Head
from heads.estimators.crt import ClassifierRetraining
from heads.estimators.joint import JointClassifier
from heads.estimators.logit_adjust import LogitAdjustment
from heads.estimators.lws import LearnableWeightScaling
from heads.estimators.ncm import NearestClassMean
from heads.estimators.tau_norm import TauNorm
from heads.head_file import ODD, read_head

__all__ = ["load", "read_metadata"]

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


def load(path: str | Path) -> Head:
    """Read a head that `save` wrote.

    Raises
    ------
    MissingHeadError
        There is no such file.
    HeadFileError
        The file is no head, is of a later format, or is damaged.
    """
    tensors, record = read_head(Path(path))
    try:
        return unpacked(tensors, record)
    except ODD as error:
        message = f"{path}: not a head this version can build ({type(error).__name__}: {error})"
        raise HeadFileError(" ".join(message.split())) from error


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return the metadata that a head was saved with, once the whole file has proved sound."""
    _, record = read_head(Path(path))
    metadata = record.get("metadata")
    if not isinstance(metadata, dict):
        message = f"{path}: not a head file, or a damaged one (its metadata is no object)"
        raise HeadFileError(message)
    return metadata


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
