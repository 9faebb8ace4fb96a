"""The choices of a stage-1 training."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from featbank.data.sampling import check_strategy
from featbank.errors import InputError
from featbank.runtime.names import require_known
from featbank.stage1.criterion import deferred_start, parse_defer, parse_loss
from featbank.stage1.mixup import parse_mixup
from featbank.stage1.options import Choice

__all__ = [
    "AUGMENTATIONS",
    "OPTIMIZERS",
    "METHODS",
    "PARTS",
    "SCHEDULES",
    "SaveEvery",
    "TrainConfig",
]

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("step", "epoch", "milestones")
AUGMENTATIONS = ("auto", "resized-crop", "pad-crop")
METHODS = ("plain", "bbn")
# What of a network --retrain lets learn.
PARTS = ("none", "classifier", "last-block", "all")
# Losses that take the classes' frequencies into account themselves.
_BALANCED = ("cb-ce", "cb-focal", "balanced-softmax", "logit-adjusted")
_NATURAL = ("instance", "q=1")
_RANGES = {
    "gamma": (0, math.inf, "0 or more"),
    "beta": (0, 1, "in [0, 1]"),
    "margin": (0, math.inf, "0 or more"),
    "scale": (1e-6, math.inf, "above 0"),
    "tau": (-math.inf, math.inf, "finite"),
    "start": (0, 1, "a share of the epochs in [0, 1]"),
    "alpha": (1e-6, math.inf, "above 0"),
}


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
        `PARTS`; the rate of all but the classifier is multiplied;
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


def check_recipe(config: TrainConfig) -> None:
    """Raise `InputError` unless the choices of a training make sense, alone and together."""
    loss, defer, mixup = (
        parse_loss(config.loss),
        parse_defer(config.defer),
        parse_mixup(config.mixup),
    )
    for choice in (loss, defer, mixup):
        _check_numbers(choice)
    if "form" in loss.params:
        require_known("form of focal loss", loss["form"], ("sigmoid", "softmax"))
    if mixup.params.get("partner", "batch") != "batch":
        check_strategy(mixup["partner"])
    require_known("method", config.method, METHODS)
    require_known("part to retrain", config.retrain, PARTS)
    problems = (
        *_twice_balanced(config, loss, defer, mixup),
        *_of_losses(config, loss, mixup),
        *_of_deferral(config, defer),
        *_of_bbn(config, loss, defer, mixup),
        *_of_retraining(config),
    )
    if problems:
        raise InputError(problems[0])


def _check_numbers(choice: Choice) -> None:
    for key, value in choice.params.items():
        low, high, words = _RANGES.get(key, (0, 0, ""))
        if words and not (math.isfinite(value) and low <= value <= high):
            message = f"{key} of {choice.name} must be {words}; got {value:g}"
            raise InputError(message)


def _twice_balanced(
    config: TrainConfig, loss: Choice, defer: Choice, mixup: Choice
) -> Iterator[str]:
    """Balancing twice aims at a prior that is as wrong as the first, the other way round."""
    partner = mixup.params.get("partner", "batch")
    ways = [f"--sampler {config.sampler}"] * (config.sampler not in _NATURAL)
    ways += [f"--loss {loss.name}"] * (loss.name in _BALANCED)
    ways += [f"--defer {defer.name}"] * (defer.name != "none")
    if len(ways) > 1:
        yield f"{' and '.join(ways)} each balance the classes; together they do it twice: keep one"
    weighed = [f"--loss {loss.name}"] * (loss.name in _BALANCED)
    weighed += ["--defer drw"] * (defer.name == "drw")
    if weighed and partner not in ("batch", *_NATURAL):
        yield (
            f"{weighed[0]} and --mixup with partner={partner} each balance the classes; "
            "use partner=batch"
        )


def _of_losses(config: TrainConfig, loss: Choice, mixup: Choice) -> Iterator[str]:
    if config.label_smoothing and loss.name.endswith("focal"):
        yield f"--label-smoothing has no meaning in --loss {loss.name}; use a softmax loss"
    if config.compile and mixup.name == "manifold":
        yield "--compile does not see the hooks of --mixup manifold; leave one of them out"


def _of_deferral(config: TrainConfig, defer: Choice) -> Iterator[str]:
    if defer.name != "none" and deferred_start(defer, config.epochs) >= config.epochs:
        yield (
            f"--defer {config.defer} would begin after the last of {config.epochs} epochs; give it "
            "a smaller start, or train longer"
        )


def _of_bbn(config: TrainConfig, loss: Choice, defer: Choice, mixup: Choice) -> Iterator[str]:
    if config.method != "bbn":
        return
    for option, value, fixed in (
        ("loss", loss.name, "ce"),
        ("sampler", config.sampler, "instance"),
        ("defer", defer.name, "none"),
        ("mixup", mixup.name, "none"),
        ("retrain", config.retrain, "none"),
    ):
        if value != fixed:
            yield (
                f"--method bbn has samplers and a schedule of its own and goes with --{option} "
                f"{fixed}, not {value}"
            )


def _of_retraining(config: TrainConfig) -> Iterator[str]:
    if (config.init is None) != (config.retrain == "none"):
        missing = "--retrain classifier|last-block|all" if config.init else "--init RUN"
        given = "--init" if config.init else f"--retrain {config.retrain}"
        yield f"{given} needs {missing}"
    if config.init and (config.pretrained or config.weights):
        yield "--init brings the weights; leave --pretrained and --weights out"
    if config.backbone_lr_scale != 1 and config.retrain == "classifier":
        yield "--backbone-lr-scale has nothing to scale with --retrain classifier"
    if config.shift_bn and config.retrain not in ("classifier", "last-block"):
        yield "--shift-bn is for the frozen layers of --retrain classifier or last-block"
