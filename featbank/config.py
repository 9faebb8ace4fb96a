"""The choices of a stage-1 training."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from featbank.errors import InputError
from featbank.names import require_known
from featbank.sampling import check_strategy

__all__ = ["OPTIMIZERS", "PRESETS", "SCHEDULES", "TrainConfig"]

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("step", "epoch")


@dataclass(frozen=True)
class TrainConfig:
    """How stage 1 trains. Defaults follow Kang et al. (ICLR 2020) on ImageNet-LT, at batch 256.

    Attributes
    ----------
    backbone
        A timm model, or ``tiny-cnn``.
    epochs, batch_size
        Their numbers; an epoch is as many images as the train split has, whatever the sampler.
    optimizer
        ``sgd`` (with `momentum`, weight decay on every parameter, as in their code) or ``adamw``
        (weight decay on matrices and kernels only).
    lr, warmup_epochs, schedule
        Linear warm-up to `lr`, then a cosine to 0, updated each ``step`` or each ``epoch``.
    sampler
        See `featbank.sampling`.
    seed
        Of initialisation, order, augmentation and dropout.
    workers
        Processes that decode images; changes no result.
    amp, channels_last
        bfloat16 autocast and memory layout on CUDA; a CPU ignores both.
    pretrained
        Start from the backbone's published weights.
    image_size
        Side in pixels; the backbone's own (for ``tiny-cnn`` the data's) when None.
    """

    backbone: str = "resnet18"
    epochs: int = 90
    batch_size: int = 256
    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_epochs: int = 0
    schedule: str = "step"
    sampler: str = "instance"
    seed: int = 0
    workers: int = 0
    amp: bool = True
    channels_last: bool = True
    pretrained: bool = False
    image_size: int | None = None

    def __post_init__(self) -> None:
        require_known("optimizer", self.optimizer, OPTIMIZERS)
        require_known("schedule", self.schedule, SCHEDULES)
        check_strategy(self.sampler)
        self._require("epochs", self.epochs >= 1, "at least 1")
        self._require("batch_size", self.batch_size >= 2, "at least 2, for batch normalisation")
        self._require("lr", 0 < self.lr < math.inf, "a finite number above 0")
        self._require("momentum", 0 <= self.momentum < 1, "in [0, 1)")
        self._require("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more")
        self._require("warmup_epochs", 0 <= self.warmup_epochs < self.epochs, "less than epochs")
        self._require("workers", self.workers >= 0, "0 or more")
        self._require("seed", self.seed >= 0, "0 or more")
        self._require("image_size", self.image_size is None or self.image_size >= 8, "at least 8")

    def _require(self, name: str, good: bool, expected: str) -> None:
        if not good:
            message = f"{name} must be {expected}; got {getattr(self, name)}"
            raise InputError(message)

    def to_json(self) -> dict[str, Any]:
        """Return the choices by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> TrainConfig:
        """Return the choices that `to_json` gave; names of a later version are refused."""
        for name in record:
            require_known("training setting", name, [field.name for field in fields(cls)])
        return cls(**record)


# Settings that suit a data set too small for the defaults, by the data set's name.
PRESETS = {
    "digits-lt": TrainConfig(
        backbone="tiny-cnn", epochs=40, batch_size=32, lr=0.05, warmup_epochs=2
    ),
}
