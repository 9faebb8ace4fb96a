"""The folder of an exported model: read and proved before anything in it is used."""

from __future__ import annotations

from pathlib import Path

import torch

from featbank.errors import InputError
from featbank.serving.model import Model

__all__ = ["load_exported"]


def load_exported(folder: Path, device: torch.device, *, trust: bool = False) -> Model:
    """Load a folder that `featbank export` wrote."""
    raise InputError(f"{folder}: not yet")
