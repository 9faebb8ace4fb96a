"""A network of timm's whose classifier is the head: ``config.json`` and ``model.safetensors``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from featbank.backbones.backbones import build_model, find_classifier
from featbank.backbones.networks import NETWORKS
from featbank.data.transforms import InputSpec, sides
from featbank.errors import DamagedError, InputError
from featbank.files.utf8 import open_tensors
from featbank.serving.backends import Floats
from featbank.serving.layers import Normalise, as_linear
from featbank.serving.loading import Parts
from featbank.serving.record import ModelRecord

__all__ = ["WEIGHTS", "TimmBackend", "load_timm", "timm_config", "whole_network", "write_timm"]

WEIGHTS = "model.safetensors"
_OTHERWISE = "use --format onnx or pt2"


class TimmBackend:
    """A whole network of timm's."""

    def __init__(self, spec: InputSpec, network: Any, device: torch.device) -> None:
        self.normalise = Normalise(spec).to(device).eval()
        self.network, self.device = network.to(device).eval(), device

    def __call__(self, pixels: Tensor) -> tuple[Floats, Floats]:
        """Return scores and features of a batch."""
        with torch.inference_mode():
            seen = self.normalise(pixels.to(self.device, non_blocking=True))
            maps = self.network.forward_features(seen)
            features = self.network.forward_head(maps, pre_logits=True)
            scores = self.network.forward_head(maps)
        return scores.float().cpu().numpy(), features.float().cpu().numpy()


def whole_network(parts: Parts) -> nn.Module:
    """Return a network of timm's with the head as its classifier, in eval mode.

    Raises
    ------
    InputError
        The network is not timm's, or was changed, or no linear classifier gives the head's labels.
    """
    frozen, linear = parts.frozen, as_linear(parts.head)
    name, message = frozen.backbone, ""
    if linear is None:
        message = (
            f"{parts.record.spec} divides features by their norms, which no linear classifier "
            f"does; {_OTHERWISE}"
        )
    elif name in NETWORKS:
        message = f"{name} is a network of featbank's own, which timm does not have; {_OTHERWISE}"
    if message or linear is None:
        raise InputError(message)
    weight, bias = linear
    network = build_model(name, len(weight), frozen.input.size)
    try:
        layer = find_classifier(network, frozen.input.size)
    except InputError as error:
        message = f"{name} does not end in one linear layer, whose place a head could take"
        raise InputError(f"{message}; {_OTHERWISE}") from error
    tensors = frozen.network.state_dict()
    tensors |= {
        f"{layer}.weight": torch.from_numpy(weight),
        f"{layer}.bias": torch.from_numpy(bias),
    }
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        message = f"this {name} is not built as timm builds it; {_OTHERWISE}"
        raise InputError(message) from error
    return network.eval().requires_grad_(False)


def write_timm(parts: Parts, folder: Path) -> TimmBackend:
    """Write the weights into a folder; return what computes the exported model's scores."""
    network = whole_network(parts)
    tensors = {name: each.contiguous() for name, each in network.state_dict().items()}
    (folder / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
    return TimmBackend(parts.frozen.input, network, torch.device("cpu"))


def timm_config(record: ModelRecord, dim: int) -> dict[str, Any]:
    """Return the entries of ``config.json`` by which timm builds the network and its transform.

    Parameters
    ----------
    record : ModelRecord
    dim : int
        The width of the features.
    """
    from timm.models import get_pretrained_cfg

    spec = record.input
    if spec is None:
        message = "a head without its network cannot be exported"
        raise InputError(message)
    height, width = sides(spec.size)[0], sides(spec.size)[-1]
    published = get_pretrained_cfg(record.backbone)
    fixed = bool(published and published.fixed_input_size)
    return {
        "architecture": record.backbone.split(".")[0],
        "num_classes": len(record.class_names),
        "num_features": dim,
        "label_names": list(record.class_names),
        **({"model_args": {"img_size": [height, width]}} if fixed else {}),
        "pretrained_cfg": {
            "num_classes": len(record.class_names),
            "input_size": [3, height, width],
            "fixed_input_size": fixed,
            "interpolation": spec.interpolation,
            "crop_pct": spec.crop,
            "crop_mode": spec.crop_mode,
            "mean": list(spec.mean),
            "std": list(spec.std),
            "custom_load": False,
        },
    }


def load_timm(folder: Path, record: ModelRecord, device: torch.device) -> TimmBackend:
    """Load the network of a folder, its tensors alone: nothing in the file is run.

    Raises
    ------
    DamagedError
        The tensors are not those of the network.
    """
    spec = record.input
    if spec is None:
        message = f"{folder} does not say how images are shown to its network"
        raise DamagedError(message)
    network = build_model(record.backbone, len(record.class_names), spec.size)
    try:
        with open_tensors(folder / WEIGHTS) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network.load_state_dict(tensors)
    except (RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        message = f"{folder / WEIGHTS} is not a {record.backbone}: {reason}"
        raise DamagedError(message) from error
    return TimmBackend(spec, network, device)
