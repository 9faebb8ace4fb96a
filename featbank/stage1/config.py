"""The choices of a stage-1 training."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

from featbank.data.sampling import check_strategy
from featbank.errors import InputError
from featbank.runtime.names import require_known
from featbank.stage1.recipe_checks import check_recipe

__all__ = [
    "AUGMENTATIONS",
    "OPTIMIZERS",
    "PRESETS",
    "RECIPES",
    "SCHEDULES",
    "SaveEvery",
    "TrainConfig",
    "retraining",
]

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("step", "epoch", "milestones")
AUGMENTATIONS = ("auto", "resized-crop", "pad-crop")


@dataclass(frozen=True)
class SaveEvery:
    """How often a training saves within an epoch: after so many steps, or so many seconds."""

    steps: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> SaveEvery:
        """Parse ``500`` (steps) or ``10m`` (minutes).

        Raises
        ------
        InputError
            It is neither.
        """
        found = re.fullmatch(r"(\d{1,9})(\.\d{1,9})?(m?)", text)
        if not found or (found[2] and not found[3]) or float(found[1] + (found[2] or "")) <= 0:
            message = (
                f"checkpoint_every wants a number of steps as 500, or minutes as 10m: {text!r}"
            )
            raise InputError(message)
        if found[3]:
            return cls(seconds=60 * float(text[:-1]))
        return cls(steps=int(text))

    def due(self, step: int, seconds: float) -> bool:
        """Tell whether to save after step `step`, `seconds` after the last time."""
        if self.steps is not None:
            return step % self.steps == 0
        return self.seconds is not None and seconds >= self.seconds


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
        Linear warm-up to `lr`, then a cosine to 0, updated each ``step`` or each ``epoch``; or
        with ``milestones`` the full rate, multiplied by `decay` at the epochs `milestones`.
    sampler
        See `featbank.data.sampling`.
    loss, label_smoothing
        ``name`` or ``name:key=value`` of `featbank.stage1.criterion.LOSSES`; epsilon of the
        smoothing.
    defer
        ``none``, ``drw`` or ``drs``: re-weighting or re-sampling that begins late.
    mixup
        ``none``, ``input`` or ``manifold``, with parameters as `loss`: `featbank.stage1.mixup`.
    method
        ``plain``, or ``bbn`` with two branches: `featbank.stage1.bbn`.
    init, retrain, backbone_lr_scale, shift_bn
        Start from another training's backbone with a fresh classifier, and train one of
        `featbank.stage1.recipe_checks.PARTS`; the rate of all but the classifier is multiplied;
        frozen batch normalisation adapts.
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
    milestones: tuple[int, ...] = (160, 180)
    decay: float = 0.01
    sampler: str = "instance"
    loss: str = "ce"
    label_smoothing: float = 0.0
    defer: str = "none"
    mixup: str = "none"
    method: str = "plain"
    init: str | None = None
    retrain: str = "none"
    backbone_lr_scale: float = 1.0
    shift_bn: bool = False
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
    compile: bool = False
    accumulate: int = 1
    sync_bn: bool = False
    checkpoint_every: str = "10m"

    def __post_init__(self) -> None:
        require_known("optimizer", self.optimizer, OPTIMIZERS)
        require_known("schedule", self.schedule, SCHEDULES)
        require_known("augmentation", self.augment, AUGMENTATIONS)
        check_strategy(self.sampler)
        SaveEvery.parse(self.checkpoint_every)
        self._require("accumulate", self.accumulate >= 1, "at least 1")
        self._require("epochs", self.epochs >= 1, "at least 1")
        self._require("batch_size", self.batch_size >= 2, "at least 2, for batch normalisation")
        self._require("lr", 0 < self.lr < math.inf, "a finite number above 0")
        self._require("momentum", 0 <= self.momentum < 1, "in [0, 1)")
        self._require("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more")
        self._require("warmup_epochs", 0 <= self.warmup_epochs < self.epochs, "less than epochs")
        self._require("milestones", min(self.milestones, default=1) >= 1, "epochs from 1")
        self._require("decay", 0 < self.decay <= 1, "in (0, 1]")
        self._require("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)")
        self._require("workers", self.workers >= 0, "0 or more")
        self._require("seed", self.seed >= 0, "0 or more")
        self._require("weights", not (self.weights and self.pretrained), "left out with pretrained")
        for name in ("mean", "std"):
            value = getattr(self, name)
            self._require(name, value is None or len(value) == 3, "three numbers")
        self._require("std", self.std is None or min(self.std) > 0, "above 0")
        self._require("image_size", self.image_size is None or self.image_size >= 8, "at least 8")
        scale = self.backbone_lr_scale
        self._require("backbone_lr_scale", 0 < scale < math.inf, "a finite number above 0")
        check_recipe(self)

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


def retraining() -> dict[str, Any]:
    """Return the settings of a retraining that are not those of the training it starts from.

    Plain cross-entropy on class-balanced draws, as Kang et al. (ICLR 2020) retrain. What a
    retraining before it retrained, and how, is its own affair.
    """
    plain = TrainConfig()
    names = (
        *("loss", "label_smoothing", "defer", "mixup", "method", "pretrained", "weights"),
        *("retrain", "backbone_lr_scale", "shift_bn"),
    )
    return {**{name: getattr(plain, name) for name in names}, "sampler": "class"}


# Settings that suit a data set too small for the defaults, by the data set's name.
PRESETS = {
    "digits-lt": TrainConfig(
        backbone="tiny-cnn", epochs=40, batch_size=32, lr=0.05, warmup_epochs=2
    ),
}

# Published stage-1 recipes, by the name that --preset takes. docs/how-to/train.md says where each
# was read, and where this trainer differs.
RECIPES = {
    # Kang et al. (ICLR 2020), config/ImageNet_LT/feat_uniform.yaml of their code.
    "imagenet-lt-resnext50": TrainConfig(
        backbone="resnext50_32x4d", epochs=90, batch_size=512, lr=0.2, schedule="epoch"
    ),
    # Cao et al. (NeurIPS 2019), defaults of cifar_train.py in their code: the plain baseline (CE)
    # that later work on CIFAR-LT shares.
    "cifar100-lt-resnet32": TrainConfig(
        backbone="cifar-resnet32", epochs=200, batch_size=128, lr=0.1, weight_decay=2e-4,
        warmup_epochs=5, schedule="milestones", augment="pad-crop",
    ),
}  # fmt: skip
