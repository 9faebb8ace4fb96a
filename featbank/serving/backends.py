"""What computes a model's scores: a network and a head, a program, or an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featbank.data.transforms import InputSpec
from featbank.errors import DamagedError, InputError
from featbank.serving.layers import Normalise

__all__ = ["Backend", "HeadBackend", "NetworkBackend", "OnnxBackend", "load_onnx", "load_program"]

Floats = NDArray[np.float32]


class Backend(Protocol):
    """From uint8 pixels (B, 3, H, W) to scores (B, C) and features (B, D)."""

    def __call__(self, pixels: Tensor) -> tuple[Floats, Floats]:
        """Return scores and features of a batch."""


class HeadBackend:
    """A frozen backbone and a fitted head, as extraction and evaluation run them."""

    def __init__(
        self, spec: InputSpec, backbone: nn.Module, head: Any, device: torch.device
    ) -> None:
        self.normalise = Normalise(spec).to(device).eval()
        self.backbone, self.head, self.device = backbone.to(device).eval(), head, device

    def __call__(self, pixels: Tensor) -> tuple[Floats, Floats]:
        """Return scores and features of a batch."""
        with torch.inference_mode():
            given = pixels.to(self.device, non_blocking=True)
            features = self.backbone(self.normalise(given)).float().cpu().numpy()
        return two_columns(self.head.decision_function(features)), features


class NetworkBackend:
    """A whole network of timm's, whose classifier is the head."""

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


class ProgramBackend:
    """A program that `torch.export` made."""

    def __init__(self, program: Any, device: torch.device) -> None:
        self.program, self.device = program.to(device), device

    def __call__(self, pixels: Tensor) -> tuple[Floats, Floats]:
        """Return scores and features of a batch."""
        with torch.inference_mode():
            scores, _, features = self.program(pixels.to(self.device))
        return scores.cpu().numpy(), features.cpu().numpy()


class OnnxBackend:
    """An ONNX file in onnxruntime."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def __call__(self, pixels: Tensor) -> tuple[Floats, Floats]:
        """Return scores and features of a batch."""
        scores, features = self.session.run(["logits", "features"], {"pixels": pixels.numpy()})
        return scores, features


def two_columns(scores: Any) -> Floats:
    """Return scores (n, C); those of two classes, (n,), become the columns 0 and themselves."""
    array = np.asarray(scores, dtype=np.float32)
    return array if array.ndim == 2 else np.stack([np.zeros_like(array), array], axis=1)


def load_onnx(path: Path, device: torch.device) -> OnnxBackend:
    """Open an ONNX file.

    Raises
    ------
    InputError
        onnxruntime is not installed.
    DamagedError
        The file is none that it can run.
    """
    try:
        import onnxruntime
    except ImportError as error:
        message = f"{path} needs onnxruntime: pip install 'featbank[onnx]'"
        raise InputError(message) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    known = [name for name in wanted if name in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=[*known, "CPUExecutionProvider"]
        )
    except Exception as error:  # its exceptions have no common class of their own
        message = f"{path} is no ONNX file that can be run: {' '.join(str(error).split())[:200]}"
        raise DamagedError(message) from error
    return OnnxBackend(session)


def load_program(path: Path, device: torch.device) -> ProgramBackend:
    """Open a program that `torch.export.save` wrote.

    Raises
    ------
    DamagedError
        The file is none that this torch can run.
    """
    try:
        program = torch.export.load(path).module()
    except Exception as error:  # what it raises on a damaged file is not documented
        message = f"{path} is no program that torch {torch.__version__} can run: "
        raise DamagedError(message + " ".join(str(error).split())[:200]) from error
    return ProgramBackend(program, device)
