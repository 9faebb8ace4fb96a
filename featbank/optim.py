"""Optimiser and learning rate of stage 1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from featbank.config import TrainConfig
from featbank.errors import DamagedError

__all__ = ["learning_rate", "make_optimizer", "optimizer_tensors", "restore_optimizer", "set_rate"]


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimiser that the configuration names, over all parameters."""
    parameters = list(model.parameters())
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
    # Norms and biases have no scale to shrink (as in DeiT's and timm's recipes).
    decayed = [each for each in parameters if each.ndim > 1]
    plain = [each for each in parameters if each.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, config.lr, weight_decay=config.weight_decay)


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
        group["lr"] = rate


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
