"""Networks by name, and their split into a backbone and the linear classifier on top."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from featbank.data.transforms import InputSpec
from featbank.errors import InputError
from featbank.names import require_known
from featbank.rng import derive_seed, isolated_torch, torch_generator

__all__ = [
    "TINY_CNN",
    "Split",
    "TinyCNN",
    "build_model",
    "find_classifier",
    "input_spec",
    "split_classifier",
]

TINY_CNN = "tiny-cnn"
_TINY_SIDE = 32
_HALF = (0.5, 0.5, 0.5)


class TinyCNN(nn.Module):
    """A small network for 8x8 to 32x32 images: six 3x3 convolutions, 64 features."""

    def __init__(self, n_classes: int, width: int = 16) -> None:
        super().__init__()
        self.stem = _conv(3, width)
        self.stages = nn.Sequential(
            _conv(width, width),
            _conv(width, 2 * width, stride=2),
            _conv(2 * width, 2 * width),
            _conv(2 * width, 4 * width, stride=2),
            _conv(4 * width, 4 * width),
        )
        self.classifier = nn.Linear(4 * width, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, C) of images (N, 3, S, S)."""
        logits: Tensor = self.classifier(self.stages(self.stem(images)).mean(dim=(2, 3)))
        return logits


def _conv(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(inplace=True),
    )


def _require_backbone(name: str) -> None:
    """Raise `InputError` with near names unless the name is tiny-cnn or timm's."""
    import timm  # a second to import; a tiny-cnn need not wait

    if name != TINY_CNN and not timm.is_model(name):
        require_known("backbone", name, [TINY_CNN, *timm.list_models()])


def _timm_config(name: str) -> Any:
    """Return timm's record of a backbone: input size, normalisation, crop."""
    import timm

    _require_backbone(name)
    try:
        found = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        message = f"unknown backbone {name!r}: {error}"
        raise InputError(message) from error
    return found or timm.models.PretrainedCfg()  # ImageNet's, for a model without weights


def input_spec(name: str, image_size: int | None, native_size: int | None) -> InputSpec:
    """Return what a backbone wants to see.

    Parameters
    ----------
    name
        Of the backbone.
    image_size
        Side that the user asks for, or None.
    native_size
        Side of the data set's images where all have one; only ``tiny-cnn`` follows it.
    """
    if name == TINY_CNN:
        return InputSpec(image_size or native_size or _TINY_SIDE, mean=_HALF, std=_HALF)
    config = _timm_config(name)
    return InputSpec(
        size=image_size or config.input_size[-1],
        mean=tuple(config.mean),
        std=tuple(config.std),
        interpolation=config.interpolation,
        crop=config.crop_pct or 1.0,
    )


def build_model(
    name: str, n_classes: int, image_size: int, *, seed: int = 0, pretrained: bool = False
) -> nn.Module:
    """Return a network with `n_classes` logits, on the CPU, initialised from `seed`.

    Raises
    ------
    InputError
        The name is unknown, or its trained weights do not exist or cannot be fetched.
    """
    with isolated_torch(derive_seed(seed, "initialisation")):
        if name == TINY_CNN:
            return _tiny(n_classes, pretrained)
        return _from_timm(name, n_classes, image_size, pretrained)


def _tiny(n_classes: int, pretrained: bool) -> nn.Module:
    if pretrained:
        message = f"backbone {TINY_CNN!r} has no trained weights; train it without them"
        raise InputError(message)
    return TinyCNN(n_classes)


def _from_timm(name: str, n_classes: int, image_size: int, pretrained: bool) -> nn.Module:
    import timm

    # Only models of a fixed size (vision transformers) are built for it; others take any.
    fixed = _timm_config(name).fixed_input_size
    sized: dict[str, Any] = {"img_size": image_size} if fixed else {}
    try:
        model: nn.Module = timm.create_model(
            name, pretrained=pretrained, num_classes=n_classes, **sized
        )
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())
        wish = "with its trained weights" if pretrained else f"for images of {image_size} pixels"
        message = f"cannot build backbone {name!r} {wish}: {reason}"
        raise InputError(message) from error
    return model


@dataclass(frozen=True)
class Split:
    """A network in two: `backbone` gives features (N, D), `classifier` the logits of them.

    `layer` is the classifier's name in the network.
    """

    backbone: nn.Module
    classifier: nn.Linear
    layer: str

    @property
    def weight(self) -> Tensor:
        """Weight (C, D), float32, on the CPU."""
        return self.classifier.weight.detach().float().cpu()

    @property
    def bias(self) -> Tensor:
        """Bias (C,), float32, on the CPU; zeros where the network has none."""
        missing = torch.zeros(self.classifier.out_features)
        bias: Tensor = self.classifier.state_dict().get("bias", missing)
        return bias.float().cpu()


def find_classifier(model: nn.Module, image_size: int) -> str:
    """Return the name of the linear layer whose output is the network's.

    A probe runs through the network and every `nn.Linear` shows what it puts out, so no layer
    name is guessed.

    Raises
    ------
    InputError
        There is none: several averaged heads, a convolution, or a layer behind the last one.
    """
    outputs: dict[str, Tensor] = {}
    linear = {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear)}

    def recorder(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _module, _inputs, output: outputs.__setitem__(name, output)

    hooks = [part.register_forward_hook(recorder(name)) for name, part in linear.items()]
    try:
        logits = _probed(model, image_size)
    finally:
        for hook in hooks:
            hook.remove()
    found = [name for name, output in outputs.items() if _equal(output, logits)]
    if not found:
        message = (
            f"{type(model).__name__} does not end in one linear layer, so it has no features and "
            "classifier to tell apart; use another backbone"
        )
        raise InputError(message)
    return found[-1]


def split_classifier(model: nn.Module, image_size: int) -> Split:
    """Take the classifier off: it is replaced by the identity, *in place*.

    ``backbone(x)`` is then what the classifier received, which is verified on a probe.

    Raises
    ------
    InputError
        `find_classifier` finds none, or its input is no (N, D) array.
    """
    layer = find_classifier(model, image_size)
    logits = _probed(model, image_size)
    classifier = cast(nn.Linear, model.get_submodule(layer))
    model.set_submodule(layer, nn.Identity())
    features = _probed(model, image_size)
    with torch.inference_mode():
        same = features.ndim == 2 and torch.equal(classifier(features), logits)
    if not same:
        kind = type(model).__name__
        message = f"cannot take {layer!r} off {kind}: its input is no (N, D) array of features"
        raise InputError(message)
    return Split(model, classifier, layer)


def _probed(model: nn.Module, image_size: int) -> Tensor:
    """Return what the network makes of two images of noise, in eval mode."""
    was_training, device = model.training, next(model.parameters()).device
    probe = torch.randn(2, 3, image_size, image_size, generator=torch_generator(0, "probe"))
    try:
        with torch.inference_mode():
            output: Tensor = model.eval()(probe.to(device))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())
        kind = type(model).__name__
        message = f"cannot run {kind} on images of {image_size} pixels: {reason}"
        raise InputError(message) from error
    model.train(was_training)
    return output


def _equal(output: Tensor, logits: object) -> bool:
    if not isinstance(logits, Tensor) or output.shape != logits.shape:
        return False
    return torch.equal(output, logits)
