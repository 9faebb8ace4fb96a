"""Optimiser and learning rate of stage 1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from featbank.errors import DamagedError
from featbank.stage1.config import TrainConfig

__all__ = ["learning_rate", "make_optimizer", "optimizer_tensors", "restore_optimizer", "set_rate"]

_SCALE = "lr_scale"  # as timm calls a group's factor


def make_optimizer(model: nn.Module, config: TrainConfig, layer: str = "") -> torch.optim.Optimizer:
    """Return the optimiser that the configuration names, over all parameters that learn.

    Those outside `layer`, the classifier, have their rate multiplied by ``backbone_lr_scale``.
    """
    groups: list[dict[str, Any]] = []
    for scale, parameters in _by_scale(model, layer, config.backbone_lr_scale):
        if config.optimizer == "sgd":
            groups.append({"params": parameters, _SCALE: scale})
            continue
        # Norms and biases have no scale to shrink (as in DeiT's and timm's recipes).
        decayed = [each for each in parameters if each.ndim > 1]
        plain = [each for each in parameters if each.ndim <= 1]
        groups.append({"params": decayed, _SCALE: scale})
        groups.append({"params": plain, _SCALE: scale, "weight_decay": 0.0})
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            groups, config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(groups, config.lr, weight_decay=config.weight_decay)


def _by_scale(model: nn.Module, layer: str, scale: float) -> list[tuple[float, list[nn.Parameter]]]:
    """Return the parameters that learn by the factor of their rate, the classifier's first."""
    named = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
    if scale == 1:
        return [(1.0, [each for _, each in named])]
    classifier = [each for name, each in named if name.startswith(f"{layer}.")]
    backbone = [each for name, each in named if not name.startswith(f"{layer}.")]
    return [(1.0, classifier), (scale, backbone)]


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Return the rate of optimiser step `step`, counted from 0 over the whole training.

    Linear warm-up that reaches `lr` with its last step, then lr (1 + cos(pi t)) / 2 with t from 0
    towards 1: Loshchilov and Hutter, "SGDR" (ICLR 2017), eq. 5. With ``schedule="epoch"`` t moves
    once an epoch. The first epoch is at the full rate and none is at 0. With ``"milestones"``:
    lr decay^k after k of the `milestones`, which are numbers of finished epochs.
    """
    warm = config.warmup_epochs * steps_per_epoch
    if step < warm:
        return config.lr * (step + 1) / warm
    if config.schedule == "milestones":
        passed = sum(step // steps_per_epoch >= epoch for epoch in config.milestones)
        return config.lr * config.decay**passed
    place = step if config.schedule == "step" else step - step % steps_per_epoch
    t = (place - warm) / (config.epochs * steps_per_epoch - warm)
    return config.lr * 0.5 * (1 + math.cos(math.pi * t))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Make the optimiser's next step use `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group[_SCALE]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's state as named tensors: ``<parameter>.<name>``."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value
        for index, each in state.items()
        for name, value in each.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give a new optimiser the state that `optimizer_tensors` named."""
    state: dict[int, dict[str, Tensor]] = {}
    try:
        for key, value in tensors.items():
            index, _, name = key.partition(".")
            state.setdefault(int(index), {})[name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except ValueError as error:
        message = f"the checkpoint's optimiser state does not fit the model: {error}"
        raise DamagedError(message) from error
