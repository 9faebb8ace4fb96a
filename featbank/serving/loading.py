"""Models from a training and a head that was fitted on its features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import heads
from featbank.bank.provenance_diff import differences
from featbank.data.provenance import transform_record
from featbank.data.transforms import eval_transform
from featbank.errors import StaleError
from featbank.extraction.network import Foundation, Frozen, from_checkpoint, from_foundation
from featbank.results.records import Reached
from featbank.runs.checkpoint import find_checkpoint, read_checkpoint
from featbank.runtime.names import printable
from featbank.serving.backends import HeadBackend, Loaded
from featbank.serving.record import ModelRecord

__all__ = ["Parts", "head_alone", "parts_of"]

# What of the features' identity a network alone can answer for.
OF_NETWORK = ("checkpoint", "layer", "backbone", "transform")


@dataclass(frozen=True)
class Parts:
    """A frozen network, the head that was fitted on its features, and the record of both."""

    frozen: Frozen
    head: Any
    record: ModelRecord

    def loaded(self, device: torch.device) -> Loaded:
        """Return what the model is made of that they make."""
        backend = HeadBackend(self.frozen.input, self.frozen.network, self.head, device)
        return Loaded(self.record, backend, self.head)


def parts_of(source: str | Path | Foundation, file: Path, which: str = "best") -> Parts:
    """Load a network and a head that was fitted on its features.

    Parameters
    ----------
    source : path or Foundation
        The folder of a training or one checkpoint file; or a network that was trained elsewhere.
    file : Path
        The head.
    which : {"best", "last"}
        Which checkpoint of a training.

    Raises
    ------
    StaleError
        The head was fitted on features of another network, or on features of no network.
    """
    head, metadata = heads.load(file), heads.read_metadata(file)
    require_network(file, metadata)
    if isinstance(source, Foundation):
        frozen = from_foundation(source, None, len(metadata["class_names"]))
    else:
        path = find_checkpoint(source, which)
        frozen = from_checkpoint(read_checkpoint(path), str(path))
    require_same(frozen, file, metadata["features"], source)
    return Parts(frozen, head, record_of(file, head, metadata, frozen))


def require_network(file: Path, metadata: Mapping[str, Any]) -> None:
    """Refuse a head that does not say which network made its features."""
    features, names = metadata.get("features"), metadata.get("class_names")
    message = ""
    if not isinstance(features, dict) or not isinstance(names, list):
        message = f"{file} does not say on which features it was fitted; fit it with featbank fit"
    elif "backbone" not in features:
        message = (
            f"{file} was fitted on imported features, so the network that made them is not known "
            "and no image can be labelled; extract the features with featbank extract"
        )
    elif "batchnorm" in features:
        message = (
            f"{file} was fitted on features whose BatchNorm statistics were taken anew "
            "(--bn-refresh), which the checkpoint does not hold; extract without it and fit again"
        )
    if message:
        raise StaleError(printable(message))


def require_same(
    frozen: Frozen, file: Path, features: Mapping[str, Any], source: str | Path | Foundation
) -> None:
    """Refuse a head of other features than a network gives.

    Parameters
    ----------
    frozen : Frozen
        The network.
    file : Path
        The head's file, for the message.
    features : mapping
        The identity of the features that the head was fitted on.
    source : path or Foundation
        What the network was loaded from, for the message.
    """
    own = {
        "checkpoint": frozen.digest,
        "layer": frozen.layer,
        "backbone": frozen.backbone,
        "transform": transform_record(eval_transform(frozen.input)),
    }
    differing = differences({key: features.get(key) for key in OF_NETWORK}, own)
    if differing:
        name = source.backbone if isinstance(source, Foundation) else str(source)
        message = (
            f"{file} was fitted on features of another network than {name}: "
            f"{', '.join(differing)} differ; name the training that it belongs to"
        )
        raise StaleError(printable(message))


def head_alone(file: Path) -> Loaded:
    """Return a head without its network: it labels features.

    Raises
    ------
    StaleError
        The head does not say what its labels are called.
    """
    head, metadata = heads.load(file), heads.read_metadata(file)
    if not isinstance(metadata.get("class_names"), list):
        message = f"{file} does not say what its classes are called; fit it with featbank fit"
        raise StaleError(printable(message))
    return Loaded(record_of(file, head, metadata), None, head)


def record_of(
    file: Path, head: Any, metadata: Mapping[str, Any], frozen: Frozen | None = None
) -> ModelRecord:
    """Return what a head, and the network under it, say of the model that they make.

    Parameters
    ----------
    file : Path
        The head's file, for messages.
    head : Head
        Fitted.
    metadata : mapping
        What its file says of it.
    frozen : Frozen, optional
        The network.

    Raises
    ------
    StaleError
        The head's labels are not the places of its class names.
    """
    names = [str(name) for name in metadata["class_names"]]
    labels = np.asarray(head.classes_)
    fits = labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < len(names)
    width = head.n_features_in_
    if not fits or width != (width if frozen is None else frozen.dim):
        message = (
            f"{file} takes features of width {width} and gives labels as {labels[0]!r}, which "
            f"does not go with its network and {len(names)} classes; fit it with featbank fit"
        )
        raise StaleError(printable(message))
    counts = metadata.get("class_counts")
    kept = ("bank_digest", "dtype", "features", "selected_on", "selection", "notes")
    return ModelRecord(
        class_names=tuple(names[int(label)] for label in labels),
        input=None if frozen is None else frozen.input,
        backbone="" if frozen is None else frozen.backbone,
        head=str(metadata.get("head", type(head).__name__)),
        spec=str(metadata.get("spec", metadata.get("head", ""))),
        params={**head_params(head), **dict(metadata.get("params") or {})},
        temperature=head.temperature,
        class_counts=None if counts is None else tuple(int(counts[int(c)]) for c in labels),
        results=tuple(map(Reached.from_json, metadata.get("results") or ())),
        provenance={key: metadata[key] for key in kept if key in metadata},
    )


def head_params(head: Any) -> dict[str, Any]:
    """Return the parameters of a fitted head that are numbers and words."""
    params = head.fitted_params()
    return {name: each for name, each in params.items() if isinstance(each, str | int | float)}
