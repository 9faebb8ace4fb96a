"""The network that a training's settings describe."""

from __future__ import annotations

import copy
import math
from typing import cast

from torch import nn

from featbank.backbones.backbones import build_model, classifier_names, find_classifier
from featbank.backbones.blocks import last_block
from featbank.backbones.normalized_linear import NormalizedLinear
from featbank.backbones.weights import load_file, load_weights, read_weights
from featbank.data.transforms import Size
from featbank.runs.checkpoint import Checkpoint
from featbank.runtime.progress import Reporter
from featbank.runtime.rng import derive_seed, isolated_torch
from featbank.stage1.bbn import BilateralNetwork
from featbank.stage1.config import TrainConfig
from featbank.stage1.criterion import parse_loss
from featbank.stage1.retraining import freeze, load_backbone

__all__ = ["build_network", "finish_network", "initial_network"]


def build_network(config: TrainConfig, n_classes: int, image_size: Size) -> nn.Module:
    """Return a training's network for `n_classes` classes, on the CPU, without loaded weights."""
    model = build_model(config.backbone, n_classes, image_size, seed=config.seed)
    return finish_network(model, config, image_size)


def initial_network(
    config: TrainConfig,
    n_classes: int,
    image_size: Size,
    previous: Checkpoint | None,
    init: Checkpoint | None,
    reporter: Reporter,
) -> tuple[nn.Module, str]:
    """Return the network that a training starts with, and its classifier's name.

    Parameters
    ----------
    config, n_classes, image_size
        The settings, the number of classes, and the images' size in pixels.
    previous
        The training's own checkpoint, to go on from.
    init
        Another training's, of which it takes all but the classifier.
    reporter
        Is told what of a weights file fitted.
    """
    fresh = config.pretrained and previous is None
    model = build_model(config.backbone, n_classes, image_size, seed=config.seed, pretrained=fresh)
    if config.weights is not None and previous is None:
        weights, heads = read_weights(config.weights), classifier_names(config.backbone)
        reporter.say(str(load_file(model, weights, config.backbone, heads)))
    model = finish_network(model, config, image_size)
    layer = find_classifier(model, image_size)
    if previous is not None:
        load_weights(model, previous.model, "the checkpoint")
    elif init is not None:
        load_backbone(model, layer, init.model, str(config.init))
    freeze(model, layer, config.retrain)
    return model, layer


def finish_network(model: nn.Module, config: TrainConfig, image_size: Size) -> nn.Module:
    """Return a backbone's network with what the recipe changes in it, *in place* where it can.

    BBN doubles the last block. LDAM has a normalised classifier (Cao et al., 2019). A sum of
    sigmoids starts at bias -log(C - 1): every class with probability 1 / C (Cui et al., 2019).
    """
    loss = parse_loss(config.loss)
    with isolated_torch(derive_seed(config.seed, "recipe")):
        if config.method == "bbn":
            return BilateralNetwork(model, _second_block(model, config, image_size), image_size)
        layer = find_classifier(model, image_size)
        classifier = cast(nn.Linear, model.get_submodule(layer))
        if loss.name == "ldam":
            cosines = NormalizedLinear(classifier.in_features, classifier.out_features)
            model.set_submodule(layer, cosines)
        elif loss.params.get("form") == "sigmoid" and classifier.bias is not None:
            nn.init.constant_(classifier.bias, -math.log(classifier.out_features - 1))
    return model


def _second_block(model: nn.Module, config: TrainConfig, image_size: Size) -> nn.Module:
    """Return the re-balancing branch's block: drawn anew, or of the weights that were loaded."""
    block = last_block(model)
    if config.pretrained or config.weights is not None:
        return copy.deepcopy(model.get_submodule(block))
    seed = derive_seed(config.seed, "re-balancing branch")
    return build_model(config.backbone, 2, image_size, seed=seed).get_submodule(block)
