"""Checkpoints of other code: tensors and plain containers, and nothing that runs."""

from __future__ import annotations

import pickle  # noqa: TID251 - for the name of the error that torch raises
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featbank._torch_file import prove_torch_file
from featbank.errors import InputError

__all__ = ["load_plain", "paper_classifier", "paper_network", "without_prefix"]

# A checkpoint's numbers beside its tensors (a best accuracy, say) are often numpy scalars.
NUMPY_SCALARS: list[Any] = [
    np.dtype,
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
    *(type(np.dtype(code)) for code in ("f4", "f8", "i4", "i8", "?")),
]


def load_plain(path: Path) -> Any:
    """Load a file of `torch.save`, refusing everything but tensors, numbers and containers.

    Raises
    ------
    MissingFileError
        There is no such file.
    InputError
        It is no regular file, none of torch.save, damaged, or asks for code to be run; none was.
    """
    prove_torch_file(path)
    try:
        with torch.serialization.safe_globals(NUMPY_SCALARS), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of protocols that it may refuse
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = " ".join(str(error).split())[:160]
        message = f"{path} holds more than tensors and was not run ({reason})"
        raise InputError(message) from error
    except Exception as error:  # torch raises whatever its parser stumbles over
        message = f"{path} is no file of torch.save ({type(error).__name__})"
        raise InputError(message) from error


def without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop the ``module.`` that DataParallel puts before every name."""
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def paper_classifier(content: Any) -> dict[str, Tensor] | None:
    """Return weight (C, D) and bias (C,) of a ``final_model_checkpoint.pth``, or None.

    The code of Kang et al. (ICLR 2020) saves {"state_dict_best": {"feat_model": …, "classifier":
    {"module.fc.weight", "module.fc.bias"}}}.
    """
    if not isinstance(content, Mapping):
        return None
    try:
        tensors = without_prefix(content["state_dict_best"]["classifier"])
        return {"weight": tensors["fc.weight"], "bias": tensors["fc.bias"]}
    except (KeyError, TypeError, AttributeError):
        return None


def paper_network(content: Any) -> dict[str, Tensor] | None:
    """Return the backbone's tensors of a ``final_model_checkpoint.pth``, or None."""
    if not isinstance(content, Mapping):
        return None
    try:
        return without_prefix(content["state_dict_best"]["feat_model"])
    except (KeyError, TypeError, AttributeError):
        return None
