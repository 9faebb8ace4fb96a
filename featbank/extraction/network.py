"""A frozen network that extraction runs: out of a training of ours, or without any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from featbank.backbones.backbones import (
    build_model,
    classifier_names,
    feature_width,
    input_spec,
    split_classifier,
)
from featbank.backbones.weights import (
    LoadReport,
    WeightsFile,
    load_file,
    load_weights,
    read_weights,
)
from featbank.data.provenance import recipe_record, tensors_digest
from featbank.data.transforms import InputSpec
from featbank.data.types import ImageData
from featbank.errors import InputError
from featbank.runs.checkpoint import Checkpoint
from featbank.stage1.config import TrainConfig
from featbank.stage1.network import build_network
from featbank.stage1.training_record import require_record

__all__ = ["Foundation", "Frozen", "NetworkSource", "from_checkpoint", "from_foundation"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Foundation:
    """A backbone whose features are banked without training it.

    Parameters
    ----------
    backbone
        A timm model, or one of `featbank.backbones.networks`.
    weights
        File of its tensors: safetensors, `torch.save`, or the paper code's
        ``final_model_checkpoint.pth``.
    pretrained
        Its published weights, instead.
    image_size, mean, std
        Of what it sees; its own where None.
    """

    backbone: str
    weights: str | Path | None = None
    pretrained: bool = False
    image_size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.pretrained == (self.weights is not None):
            message = (
                f"backbone {self.backbone!r} needs its weights from one place: --pretrained for "
                "the published ones, or --weights FILE"
            )
            raise InputError(message)


@dataclass(frozen=True)
class NetworkSource:
    """Where a network comes from.

    Attributes
    ----------
    checkpoint : str or None
        The file of its tensors, or the folder of its training.
    epoch : int or None
        The epochs that it was trained for, where a training of ours says so.
    loaded : LoadReport or None
        Of a file that is no checkpoint of ours, what of it matched.
    """

    checkpoint: str | None = None
    epoch: int | None = None
    loaded: LoadReport | None = None


@dataclass(frozen=True)
class Frozen:
    """A network without its classifier, and what it is.

    Parameters
    ----------
    network : Module
        On the CPU, in eval mode; gives features (N, dim).
    dim : int
        The features' width.
    backbone, layer : str
        Its name, and that of the layer whose input the features are.
    digest : str
        Of the tensors that it was made from.
    input : InputSpec
        How it sees images.
    classifier : pair of arrays, optional
        Weight (C, dim) and bias (C,) of the classifier that was trained on the features.
    source : NetworkSource
        Where the network comes from.
    recipe : mapping, optional
        How it was trained, where that is known.
    augment : str
        How its training images are varied, as `TrainConfig` names it.
    """

    network: nn.Module
    dim: int
    backbone: str
    layer: str
    digest: str
    input: InputSpec
    classifier: tuple[Floats, Floats] | None = None
    source: NetworkSource = field(default_factory=NetworkSource)
    recipe: Mapping[str, Any] | None = None
    augment: str = "auto"


def from_checkpoint(checkpoint: Checkpoint, source: str) -> Frozen:
    """Return the network of one of our trainings without its classifier.

    Raises
    ------
    DamagedError
        Its record is not one of a training, or its tensors do not fit.
    """
    require_record(checkpoint, source)
    record = checkpoint.record
    config, spec = TrainConfig.from_json(record["config"]), InputSpec.from_json(record["input"])
    model = build_network(config, len(record["class_names"]), spec.size)
    load_weights(model, checkpoint.model, source)
    parts = split_classifier(model.eval().requires_grad_(False), spec.size)
    return Frozen(
        network=parts.backbone,
        dim=parts.classifier.in_features,
        backbone=config.backbone,
        layer=parts.layer,
        digest=tensors_digest(checkpoint.model),
        input=spec,
        classifier=(parts.weight.numpy(), parts.bias.numpy()),
        source=NetworkSource(source, record["epoch"]),
        augment=config.augment,
        recipe=recipe_record(record),
    )


def from_foundation(source: Foundation, images: ImageData) -> Frozen:
    """Return a network that was trained elsewhere.

    Raises
    ------
    InputError
        Its weights cannot be fetched, or the file's do not fit.
    """
    name = source.backbone
    # Read before the network is built: a mistyped path should not wait for that.
    weights = read_weights(source.weights) if source.weights is not None else None
    spec = input_spec(name, source.image_size, images.native_size, mean=source.mean, std=source.std)
    model = build_model(name, 0, spec.size, pretrained=source.pretrained)
    heads = classifier_names(name)
    loaded = None
    if weights is not None:
        loaded = load_file(model, replace(weights, classifier=None), name, heads)
    model.eval().requires_grad_(False)
    dim = feature_width(model, spec.size)
    return Frozen(
        network=model,
        dim=dim,
        backbone=name,
        layer="num_classes=0",
        digest=tensors_digest(model.state_dict()),
        input=spec,
        classifier=_paper_classifier(weights, len(images.class_names), dim),
        source=NetworkSource(None if weights is None else str(weights.path), loaded=loaded),
    )


def _paper_classifier(
    weights: WeightsFile | None, n_classes: int, dim: int
) -> tuple[Floats, Floats] | None:
    """Return the classifier that the paper's code keeps beside its network, if it is of our data.

    Raises
    ------
    InputError
        It has another number of classes: the data are not those that it was trained on.
    """
    if weights is None or weights.classifier is None:
        return None
    weight, bias = (weights.classifier[name].float().numpy() for name in ("weight", "bias"))
    if weight.shape != (n_classes, dim):
        message = (
            f"{weights.path} has a classifier of {weight.shape[0]} classes on {weight.shape[1]} "
            f"features; the data has {n_classes} classes and the backbone {dim} features"
        )
        raise InputError(message)
    return weight, bias
