"""Generators by name: a seed and a path give the same one, whatever was drawn before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # torch takes seconds to load, and numpy's generators do not need it
    import torch

__all__ = ["derive_seed", "isolated_torch", "numpy_generator", "reseed_torch", "torch_generator"]


def derive_seed(seed: int, *path: int | str) -> int:
    """Return the 63-bit seed of the draw that `path` names, e.g. ``derive_seed(0, "epoch", 3)``.

    SHA-256 of the parts, so it is the same in every process, version and machine.
    """
    name = "/".join(map(str, (int(seed), *path)))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, *path: int | str) -> np.random.Generator:
    """Return the numpy generator of the draw that `path` names."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, *path)))


def torch_generator(seed: int, *path: int | str) -> torch.Generator:
    """Return the torch generator (CPU) of the draw that `path` names."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, *path))


@contextmanager
def isolated_torch(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Run a block that can only draw from torch's own generators (initialisation, dropout).

    Inside, they start from `seed`; afterwards they stand where they stood.
    """
    import torch

    cuda = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        reseed_torch(seed, device)
        yield


def reseed_torch(seed: int, device: torch.device | None = None) -> None:
    """Start torch's own generators again, inside `isolated_torch`."""
    import torch

    # torch.manual_seed would also move the CUDA generators that are not forked.
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
