"""One training by several processes: DistributedDataParallel, and what it leaves to its user.

A step's images are shared out, and so are its gradients: every process weighs its mean loss by its
part of the images, so that the sum is the gradient of one process on all of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featbank.data.loader import Key
from featbank.errors import InputError, LostRankError
from featbank.runtime.ranks import Ranks

__all__ = ["Share", "Team", "shares", "synchronised"]

# Between processes that live, a wait is never this long; one that is lost is noticed before.
_PATIENCE = timedelta(minutes=30)
# Batch normalisation cannot train on one image; one that stands twice has the same mean loss.
_LEAST = 2


class Share(NamedTuple):
    """Images that one process puts through the network at once, and their part of the step."""

    keys: list[Key]
    weight: float


def shares(
    batch: Sequence[Key], in_step: int, rank: int, size: int, accumulate: int
) -> list[Share]:
    """Return a process's `accumulate` parts of a step.

    Parameters
    ----------
    batch, in_step
        The step's images: `in_step` groups of one length, of which the first of each belong
        together, and so on.
    rank, size
        Of the process. Parts of all processes are as equal as can be; one without an image of its
        own takes one that weighs nothing.
    """
    if size * accumulate == 1:
        return [Share(list(batch), 1.0)]
    length = len(batch) // in_step
    parts = []
    for part in range(accumulate):
        own = list(range(part * size + rank, length, size * accumulate))
        filled = (own or [0]) * _LEAST if len(own) < _LEAST else own
        keys = [batch[group * length + place] for group in range(in_step) for place in filled]
        parts.append(Share(keys, len(own) / length))
    return parts


class Team:
    """The processes that train together; alone, nothing is done.

    Parameters
    ----------
    ranks, device
        The job, and where this process computes.
    """

    def __init__(self, ranks: Ranks, device: torch.device) -> None:
        self.ranks, self.rank, self.size = ranks, ranks.rank, ranks.size
        self.device = device
        self.words: Any = None
        if self.size > 1:
            self._join()

    def _join(self) -> None:
        from torch import distributed

        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        backend = "nccl" if self.device.type == "cuda" else "gloo"
        with self.together():
            distributed.init_process_group(
                backend,
                store=self.ranks.store_of("group"),
                rank=self.rank,
                world_size=self.size,
                timeout=_PATIENCE,
            )
            # Flags and counts go between the CPUs, so that asking does not wait for a GPU.
            self.words = distributed.new_group(backend="gloo", timeout=_PATIENCE)

    def leave(self) -> None:
        """Give the connections back."""
        if self.size > 1:
            from torch import distributed

            distributed.destroy_process_group()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Turn what a broken connection raises into `LostRankError`."""
        try:
            yield
        except RuntimeError as error:
            text = " ".join(str(error).split())
            signs = ("onnection", "peer", "NCCL", "gloo", "Broken pipe", "imed out")
            if self.size == 1 or not any(sign in text for sign in signs):
                raise
            message = self.ranks.lost or (
                f"process {self.rank} of {self.size} lost another one ({text[:80]}): run the same "
                "command with --resume to go on"
            )
            raise LostRankError(message) from error

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the network whose gradients are those of all processes."""
        if self.size == 1:
            return model
        from torch.nn.parallel import DistributedDataParallel

        devices = [self.device] if self.device.type == "cuda" else None
        with self.together(), warnings.catch_warnings():
            # Newer versions of torch name this otherwise; older ones do not know that name.
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)

    def apart(self, forward: Any, last: bool) -> AbstractContextManager[Any]:
        """Return a context in which gradients are exchanged with the `last` part of a step only."""
        if self.size == 1 or last:
            return nullcontext()
        held: AbstractContextManager[Any] = forward.no_sync()
        return held

    def most(self, *values: int) -> list[int]:
        """Return the largest of every process's values, each."""
        if self.size == 1:
            return [*values]
        from torch import distributed

        found = torch.tensor(values, dtype=torch.int64)
        with self.together():
            distributed.all_reduce(found, distributed.ReduceOp.MAX, group=self.words)
        largest: list[int] = found.tolist()
        return largest

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""
        if self.size == 1:
            return values
        from torch import distributed

        found = values.detach().cpu().clone()
        with self.together():
            distributed.all_reduce(found, group=self.words)
        return found.to(values.device)

    def predictions(self, found: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the predictions of all processes; each left those of others at 0."""
        return self.sum(torch.from_numpy(found)).numpy()

    def average_statistics(self, model: nn.Module) -> None:
        """Make BatchNorm's running statistics the mean over the processes, *in place*."""
        if self.size == 1:
            return
        for each in model.buffers():
            if each.dtype.is_floating_point:
                each.copy_(self.sum(each) / self.size)


def synchronised(model: nn.Module, device: torch.device) -> nn.Module:
    """Return the network with BatchNorm layers that see the batches of all processes.

    Raises
    ------
    InputError
        It is not on a GPU: torch has no such layer elsewhere.
    """
    if device.type != "cuda":
        message = "--sync-bn wants GPUs: torch's SyncBatchNorm runs nowhere else; leave it out"
        raise InputError(message)
    convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm
    converted: nn.Module = convert(model)
    return converted
