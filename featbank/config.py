"""The choices of a stage-1 training."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from featbank.errors import InputError
from featbank.names import require_known
from featbank.sampling import check_strategy

__all__ = ["AUGMENTATIONS", "OPTIMIZERS", "PRESETS", "SCHEDULES", "TrainConfig"]

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("step", "epoch")
AUGMENTATIONS = ("auto", "resized-crop", "pad-crop")


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
    pretrained, weights
        Start from the backbone's published weights, or from those in a file.
    image_size, mean, std
        Side in pixels, and what normalises the channels; the backbone's own when None (for
        ``tiny-cnn`` the data's side).
    augment
        ``resized-crop`` with colour jitter (Kang et al.), ``pad-crop`` (4 pixels of padding, a
        random crop, mirrored: He et al., 2016, section 4.2), or ``auto``: the latter for small
        photographs of one size.
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
    weights: str | None = None
    image_size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    augment: str = "auto"

    def __post_init__(self) -> None:
        require_known("optimizer", self.optimizer, OPTIMIZERS)
        require_known("schedule", self.schedule, SCHEDULES)
        require_known("augmentation", self.augment, AUGMENTATIONS)
        check_strategy(self.sampler)
        self._require("epochs", self.epochs >= 1, "at least 1")
        self._require("batch_size", self.batch_size >= 2, "at least 2, for batch normalisation")
        self._require("lr", 0 < self.lr < math.inf, "a finite number above 0")
        self._require("momentum", 0 <= self.momentum < 1, "in [0, 1)")
        self._require("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more")
        self._require("warmup_epochs", 0 <= self.warmup_epochs < self.epochs, "less than epochs")
        self._require("workers", self.workers >= 0, "0 or more")
        self._require("seed", self.seed >= 0, "0 or more")
        self._require("weights", not (self.weights and self.pretrained), "left out with pretrained")
        for name in ("mean", "std"):
            value = getattr(self, name)
            self._require(name, value is None or len(value) == 3, "three numbers")
        self._require("std", self.std is None or min(self.std) > 0, "above 0")
        self._require("image_size", self.image_size is None or self.image_size >= 8, "at least 8")

    def _require(self, name: str, good: bool, expected: str) -> None:
        if not good:
            message = f"{name} must be {expected}; got {getattr(self, name)}"
            raise InputError(message)

    def to_json(self) -> dict[str, Any]:
        """Return the choices by name."""
        record = asdict(self)
        return {key: list(v) if isinstance(v, tuple) else v for key, v in record.items()}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> TrainConfig:
        """Return the choices that `to_json` gave; names of a later version are refused."""
        for name in record:
            require_known("training setting", name, [field.name for field in fields(cls)])
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in record.items()
        }
        return cls(**values)


# Settings that suit a data set too small for the defaults, by the data set's name.
PRESETS = {
    "digits-lt": TrainConfig(
        backbone="tiny-cnn", epochs=40, batch_size=32, lr=0.05, warmup_epochs=2
    ),
}
