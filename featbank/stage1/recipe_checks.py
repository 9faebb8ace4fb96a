"""Which choices of a training exclude each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from featbank.data.sampling import check_strategy
from featbank.errors import InputError
from featbank.runtime.names import require_known
from featbank.stage1.criterion import deferred_start, parse_defer, parse_loss
from featbank.stage1.mixup import parse_mixup
from featbank.stage1.options import Choice

if TYPE_CHECKING:
    from featbank.stage1.config import TrainConfig

__all__ = ["METHODS", "PARTS", "check_recipe"]

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
