"""A model as a program of its own: an ONNX file, or a program of torch.export's."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export.passes import move_to_device_pass

from featbank.data.transforms import sides
from featbank.errors import DamagedError, InputError
from featbank.serving.backends import Floats
from featbank.serving.layers import Served, head_layer
from featbank.serving.loading import Parts

__all__ = [
    "ONNX",
    "PROGRAM",
    "OnnxBackend",
    "ProgramBackend",
    "load_onnx",
    "load_program",
    "write_onnx",
    "write_program",
]

ONNX, PROGRAM = "model.onnx", "model.pt2"
OPSET = 20
# A protocol buffer holds no more; weights beyond it would need a second file, which gets lost.
_MOST_BYTES = (2 << 30) - (64 << 20)
# A batch of one would be taken for a constant.
_TRACED = 3


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


def served(parts: Parts) -> tuple[Served, Tensor]:
    """Return the whole model as one module, and pixels to trace it with."""
    spec = parts.frozen.input
    module = Served(spec, parts.frozen.network, head_layer(parts.head), parts.record.temperature)
    height, width = sides(spec.size)[0], sides(spec.size)[-1]
    pixels = torch.randint(
        256, (_TRACED, 3, height, width), generator=torch.Generator().manual_seed(0)
    )
    return module.eval().requires_grad_(False), pixels.to(torch.uint8)


def write_onnx(parts: Parts, folder: Path) -> OnnxBackend:
    """Write an ONNX file into a folder; return what computes the exported model's scores.

    Its input is ``pixels`` (batch, 3, H, W) uint8; its outputs ``logits`` and ``probabilities``
    (batch, C) and ``features`` (batch, D) are float32. The batch may have any size.

    Raises
    ------
    InputError
        onnx, onnxscript or onnxruntime is not installed, the network has an operation that ONNX
        lacks, or the file would be larger than 2 GB.
    """
    require_onnx()
    module, pixels = served(parts)
    n_bytes = sum(each.numel() * each.element_size() for each in module.state_dict().values())
    if n_bytes > _MOST_BYTES:
        message = f"an ONNX file holds at most 2 GB, and this model has {n_bytes / 1e9:.1f} GB"
        raise InputError(message + "; use --format pt2")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module, (pixels,), dynamo=True, opset_version=OPSET, verbose=False,
                input_names=["pixels"], output_names=["logits", "probabilities", "features"],
                dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}},
            )  # fmt: skip
    except Exception as error:  # the exporter's errors have no common class
        raise cannot_export(parts, "ONNX", error) from error
    if program is None:
        raise cannot_export(parts, "ONNX", RuntimeError("the exporter returned nothing"))
    program.model.metadata_props["featbank"] = json.dumps(parts.record.to_json())
    program.model.metadata_props["names"] = json.dumps(list(parts.record.class_names))
    (folder / ONNX).write_bytes(program.model_proto.SerializeToString())
    return load_onnx(folder / ONNX, torch.device("cpu"))


def write_program(parts: Parts, folder: Path) -> ProgramBackend:
    """Write a program of torch.export's into a folder; return what computes its scores.

    Inputs and outputs are those of `write_onnx`. It runs where torch alone is installed.

    Raises
    ------
    InputError
        The network cannot be traced.
    """
    module, pixels = served(parts)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(
                module, (pixels,), dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}}
            )
    except Exception as error:  # what tracing raises is not documented
        raise cannot_export(parts, "a program", error) from error
    extra = {"featbank.json": json.dumps(parts.record.to_json())}
    # By a handle, since torch ends the process at a path that is no UTF-8.
    with warnings.catch_warnings(), open(folder / PROGRAM, "wb") as file:
        warnings.simplefilter("ignore")
        torch.export.save(program, file, extra_files=extra)
    return load_program(folder / PROGRAM, torch.device("cpu"))


def cannot_export(parts: Parts, what: str, error: Exception) -> InputError:
    """Return the error of a network that cannot become a program."""
    reason = " ".join(str(error).split())[:200]
    return InputError(f"{parts.frozen.backbone} cannot be exported as {what}: {reason}")


def require_onnx() -> None:
    """Refuse where a package that ONNX files need is missing."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(name)
        except ImportError as error:
            message = f"ONNX files need {name}: pip install 'featbank[onnx]'"
            raise InputError(message) from error


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
            path.read_bytes(), options, providers=[*known, "CPUExecutionProvider"]
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
        if not zipfile.is_zipfile(path):  # else torch logs a traceback
            message = "it is no zip archive"
            raise ValueError(message)
        with open(path, "rb") as file:
            program = torch.export.load(file)
        if device.type != "cpu":  # devices that the network's code names are moved as well
            program = move_to_device_pass(program, device)
    except Exception as error:  # what it raises on a damaged file is not documented
        message = f"{path} is no program that torch {torch.__version__} can run: "
        raise DamagedError(message + " ".join(str(error).split())[:200]) from error
    return ProgramBackend(program.module(), device)
