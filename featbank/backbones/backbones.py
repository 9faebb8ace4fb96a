"""Networks by name, and their split into a backbone and the linear classifier on top."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from featbank.backbones.hub import require_fetchable
from featbank.backbones.networks import NETWORKS, TinyCNN
from featbank.backbones.normalized_linear import NormalizedLinear
from featbank.data.transforms import CROP_MODES, InputSpec, Size, sides, size_text
from featbank.errors import InputError
from featbank.runtime.names import require_known
from featbank.runtime.rng import derive_seed, isolated_torch, torch_generator

__all__ = [
    "TINY_CNN",
    "SplitNetwork",
    "TinyCNN",
    "build_model",
    "classifier_names",
    "feature_width",
    "find_classifier",
    "input_spec",
    "split_classifier",
]

TINY_CNN = "tiny-cnn"
_TINY_SIDE = 32
# Resize filters that have the same names in timm and torchvision. timm's "random" is left out,
# because an evaluation must not draw its filter.
FILTERS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")


def _require_backbone(name: str) -> None:
    """Raise `InputError` with near names unless the name is one of ours or of timm's."""
    import timm  # takes a second to import, which networks of ours do not need

    if name not in NETWORKS and not timm.is_model(name):
        known = [*NETWORKS, *timm.list_models()]
        require_known("backbone", name, known, "timm.list_models() lists timm's")


def _timm_config(name: str) -> Any:
    """Return timm's record of a backbone: input size, normalisation, crop."""
    import timm

    _require_backbone(name)
    try:
        found = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        message = f"unknown backbone {name!r}: {error}"
        raise InputError(message) from error
    return (
        found or timm.models.PretrainedCfg()
    )  # the defaults are ImageNet's, for a model without weights


def input_spec(
    name: str,
    image_size: int | None,
    native_size: int | None,
    *,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> InputSpec:
    """Return how images are brought to what a backbone takes.

    For a timm model this is what timm's own ``resolve_data_config`` says: the size that the weight
    was trained with (``input_size``, not ``test_input_size``) and its ``crop_pct``, which stays
    where another size is asked for.

    Parameters
    ----------
    name : str
        The backbone: one of `featbank.backbones.networks.NETWORKS`, or a timm model.
    image_size : int or None
        Side of the square images that the user asks for, in pixels; None takes the backbone's own.
    native_size : int or None
        Side of the data set's images where all have the same; only ``tiny-cnn`` follows it.
    mean, std : tuple of three floats, optional
        Mean and standard deviation of the channels; the backbone's own by default.

    Raises
    ------
    InputError
        The name is unknown, or its images cannot be made here as timm makes them.
    """
    if name in NETWORKS:
        own = NETWORKS[name]
        size = image_size or own.size or native_size or _TINY_SIDE
        return InputSpec(size, mean=mean or own.mean, std=std or own.std, crop=own.crop)
    wish = {"img_size": image_size, "mean": mean, "std": std}
    return _timm_spec(name, _timm_config(name).to_dict(), wish)


def _timm_spec(name: str, config: dict[str, Any], wish: dict[str, Any]) -> InputSpec:
    """Return what timm's evaluation transform of a configuration is made from."""
    from timm.data import config as of_timm

    resolve: Any = of_timm.resolve_data_config
    found = resolve(wish, pretrained_cfg=config)
    channels, *size = found["input_size"]
    for what, value, known in (
        ("channels", channels, (3,)),
        ("crop mode", found["crop_mode"], CROP_MODES),
        ("resize filter", found["interpolation"], FILTERS),
    ):
        if value not in known:
            message = (
                f"backbone {name!r} wants images of {what} {value!r}, which featbank does not "
                f"make ({', '.join(map(str, known))}); use another weight of the backbone"
            )
            raise InputError(message)
    return InputSpec(
        size=size[0] if size[0] == size[1] else (size[0], size[1]),
        mean=tuple(found["mean"]),
        std=tuple(found["std"]),
        interpolation=found["interpolation"],
        crop=found["crop_pct"],
        crop_mode=found["crop_mode"],
    )


def classifier_names(name: str) -> tuple[str, ...]:
    """Return the names of the layers that are a backbone's classifier; none where it has none."""
    if name in NETWORKS:
        return NETWORKS[name].heads
    found = _timm_config(name).classifier or ()
    return (found,) if isinstance(found, str) else tuple(found)


def build_model(
    name: str, n_classes: int, image_size: Size, *, seed: int = 0, pretrained: bool = False
) -> nn.Module:
    """Return a network with `n_classes` logits, on the CPU.

    Parameters
    ----------
    name : str
        The backbone: one of `featbank.backbones.networks.NETWORKS`, or a timm model.
    n_classes : int
        Its logits, C; with 0 it has no classifier and gives its features.
    image_size : int or pair of int
        Side of the images, or height and width, in pixels. Only networks that are built for one
        size, as vision transformers, use it.
    seed : int
        Seed of the initialisation.
    pretrained : bool
        Start from the backbone's published weights, which are downloaded where they are not there.

    Raises
    ------
    InputError
        The name is unknown, or its trained weights do not exist or cannot be fetched.
    """
    with isolated_torch(derive_seed(seed, "initialisation")):
        if name in NETWORKS:
            return _own(name, n_classes, pretrained)
        return _from_timm(name, n_classes, image_size, pretrained)


def _own(name: str, n_classes: int, pretrained: bool) -> nn.Module:
    if pretrained:
        message = f"backbone {name!r} has no published weights; give a file with --weights"
        raise InputError(message)
    return NETWORKS[name].build(n_classes)


def _from_timm(name: str, n_classes: int, image_size: Size, pretrained: bool) -> nn.Module:
    import timm

    # Only models of a fixed size (vision transformers) are told the size; others take any.
    config = _timm_config(name)
    sized: dict[str, Any] = {"img_size": image_size} if config.fixed_input_size else {}
    if pretrained:
        require_fetchable(name, config)
    try:
        model: nn.Module = timm.create_model(
            name, pretrained=pretrained, num_classes=n_classes, **sized
        )
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())
        wish = (
            "with its trained weights"
            if pretrained
            else f"for images of {size_text(image_size)} pixels"
        )
        message = f"cannot build backbone {name!r} {wish}: {reason}"
        raise InputError(message) from error
    return model


@dataclass(frozen=True)
class SplitNetwork:
    """A network in two: `backbone` gives features (N, D), `classifier` the logits of them.

    `layer` is the classifier's name in the network.
    """

    backbone: nn.Module
    classifier: nn.Linear
    layer: str

    @property
    def weight(self) -> Tensor:
        """Weight (C, D), float32, on the CPU.

        Of a normalised classifier its unit rows: their products with the features choose the
        class that its cosines do.
        """
        weight = self.classifier.weight.detach().float().cpu()
        return normalize(weight) if isinstance(self.classifier, NormalizedLinear) else weight

    @property
    def bias(self) -> Tensor:
        """Bias (C,), float32, on the CPU; zeros where the network has none."""
        missing = torch.zeros(self.classifier.out_features)
        bias: Tensor = self.classifier.state_dict().get("bias", missing)
        return bias.float().cpu()


def find_classifier(model: nn.Module, image_size: Size) -> str:
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


def split_classifier(model: nn.Module, image_size: Size) -> SplitNetwork:
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
    return SplitNetwork(model, classifier, layer)


def feature_width(model: nn.Module, image_size: Size) -> int:
    """Return the width D of the features (N, D) that a network without a classifier gives.

    Raises
    ------
    InputError
        It cannot run on images of that size, or its output is no (N, D) array.
    """
    features: object = _probed(model, image_size)
    if not isinstance(features, Tensor) or features.ndim != 2:
        message = f"{type(model).__name__} gives no (N, D) array of features; use another backbone"
        raise InputError(message)
    return features.shape[1]


def _probed(model: nn.Module, image_size: Size) -> Tensor:
    """Return what the network makes of two images of noise, in eval mode."""
    was_training, device = model.training, next(model.parameters()).device
    probe = torch.randn(2, 3, *sides(image_size), generator=torch_generator(0, "probe"))
    try:
        with torch.inference_mode():
            output: Tensor = model.eval()(probe.to(device))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())
        kind = type(model).__name__
        message = f"cannot run {kind} on images of {size_text(image_size)} pixels: {reason}"
        raise InputError(message) from error
    model.train(was_training)
    return output


def _equal(output: Tensor, logits: object) -> bool:
    if not isinstance(logits, Tensor) or output.shape != logits.shape:
        return False
    return torch.equal(output, logits)
