"""Devices to compute on; no other module asks torch about CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from featbank.errors import InputError

__all__ = ["autocast", "device_name", "one_thread", "resolve_device"]


def resolve_device(
    name: str | torch.device = "auto", local_rank: int | None = None
) -> torch.device:
    """Return the device that `name` means: auto, cpu, cuda or cuda:i.

    Of several processes on a machine, `local_rank` i takes cuda:i where none is named.

    Raises
    ------
    InputError
        The name is none of these, or that CUDA device is not there.
    """
    if str(name) == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        message = f"unknown device {str(name)!r}; use auto, cpu, cuda or cuda:i"
        raise InputError(message)
    if str(device) == "cuda" and local_rank is not None:
        device = torch.device("cuda", local_rank)
    n_cuda = torch.cuda.device_count() if device.type == "cuda" else 0
    if device.type == "cuda" and (device.index or 0) >= n_cuda:
        message = f"device {str(device)!r} is not there ({n_cuda} CUDA devices); use auto or cpu"
        raise InputError(message)
    return device


def device_name(device: torch.device) -> str:
    """Return the name that a record of the work carries: cpu, or the GPU's own name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


@contextmanager
def one_thread(wanted: bool) -> Iterator[None]:
    """Compute on one CPU thread where it is wanted.

    A step of a tiny network is shorter than the wait of two threads for each other: on two cores
    that other work keeps busy, two threads took three times as long as one.
    """
    before = torch.get_num_threads()
    if not wanted or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def autocast(device: torch.device, wanted: bool) -> AbstractContextManager[object]:
    """Return bfloat16 autocast on CUDA where it is wanted, and nothing on a CPU."""
    if wanted and device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()
