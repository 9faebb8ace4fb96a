"""Batches of transformed images, the same whatever the number of worker processes."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from threading import Thread
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from featbank.data.transforms import Size, Transform, sides
from featbank.data.types import ImageSplit
from featbank.errors import InputError
from featbank.rng import derive_seed, isolated_torch, torch_generator

__all__ = ["Batch", "BatchPlan", "Key", "eval_batches", "image_loader", "train_batches"]


class Key(NamedTuple):
    """One image to make: its row, and the epoch and position that name its random draws."""

    row: int
    epoch: int
    position: int


@dataclass
class Batch:
    """Images (B, 3, S, S) float32 and their rows (B,); `bad` says which could not be read, why.

    `sha256` (B, 32) uint8 and `n_bytes` (B,) int64 are of what each image was decoded from.
    """

    images: Tensor
    rows: NDArray[np.int64]
    bad: dict[int, str]
    sha256: NDArray[np.uint8]
    n_bytes: NDArray[np.int64]

    def pin_memory(self) -> Batch:
        """Let the loader pin the images for a faster copy to a GPU."""
        return replace(self, images=self.images.pin_memory())


class _Item(NamedTuple):
    """A row with its transformed image, or why there is none, and what it was decoded from."""

    row: int
    made: Tensor | str
    sha256: bytes = bytes(32)
    n_bytes: int = 0


class _Images(Dataset[_Item]):
    """Images by key; workers only pass plain values."""

    def __init__(self, split: ImageSplit, transform: Transform, seed: int) -> None:
        self.split, self.transform, self.seed = split, transform, seed

    def __getitem__(self, key: Key) -> _Item:
        images = self.split.images
        try:
            raw = images.raw(key.row)
            image = images.decode(key.row, raw)
        except InputError as error:
            return _Item(key.row, str(error))
        draws = derive_seed(self.seed, "augment", key.epoch, key.position)
        try:
            with isolated_torch(draws):
                made = self.transform(image)
        except InputError as error:
            return _Item(key.row, f"cannot use image {self.split.ids[key.row]!r}: {error}")
        return _Item(key.row, made, hashlib.sha256(raw).digest(), len(raw))


@dataclass(frozen=True)
class _Collate:
    size: Size

    def __call__(self, items: Sequence[_Item]) -> Batch:
        """Stack the images; one that could not be read is zeros, so rows keep their places."""
        blank = torch.zeros(3, *sides(self.size))
        made = [blank if isinstance(item.made, str) else item.made for item in items]
        return Batch(
            images=torch.stack(made),
            rows=np.array([item.row for item in items], dtype=np.int64),
            bad={item.row: item.made for item in items if isinstance(item.made, str)},
            sha256=np.frombuffer(b"".join(item.sha256 for item in items), np.uint8).reshape(-1, 32),
            n_bytes=np.array([item.n_bytes for item in items], dtype=np.int64),
        )


class BatchPlan:
    """The batches the loader makes next: lists of keys, replaced for each epoch."""

    def __init__(self, batches: Sequence[Sequence[Key]] = ()) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Sequence[Key]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def train_batches(order: NDArray[np.int64], epoch: int, batch_size: int) -> list[list[Key]]:
    """Cut an epoch's order into batches; a last one of a single image joins the one before it.

    (Batch normalisation cannot train on one image.)
    """
    keys = [Key(int(row), epoch, position) for position, row in enumerate(order)]
    batches = [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [batches[-2] + batches[-1]]
    return batches


def eval_batches(n_rows: int, batch_size: int) -> list[list[Key]]:
    """Cut rows 0..N-1 into batches of one size, the last filled up with its own last row.

    A network's output for a row can depend on the batch's size in the last bit, never on what
    else is in it, so every row gets the bits that it would get anywhere.
    """
    rows = range(-(-n_rows // batch_size) * batch_size)
    keys = [Key(min(row, n_rows - 1), 0, 0) for row in rows]
    return [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]


def _start(_worker: int) -> None:
    """Leave signals to the parent, and end with it.

    Ctrl-C and a cluster's SIGTERM reach the whole group, and the parent still wants its images.
    torch's own watch asks who the parent is only once the worker runs, and waits for ever where
    that was killed before.
    """
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    sys.excepthook = _say_unless_the_parent_has_left
    Thread(target=_end_with_the_parent, daemon=True).start()


def _say_unless_the_parent_has_left(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


def _end_with_the_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def image_loader(
    split: ImageSplit,
    transform: Transform,
    size: Size,
    plan: BatchPlan,
    *,
    seed: int = 0,
    workers: int = 0,
    pin: bool = False,
) -> Iterable[Batch]:
    """Return a loader that gives the batches of `plan` each time it is iterated.

    Random draws of an image are a function of (seed, epoch, position) alone, so `workers` only
    changes how fast they come.
    """
    return DataLoader(
        _Images(split, transform, seed),
        batch_sampler=plan,  # type: ignore[arg-type]  # keys may be anything the data set takes
        collate_fn=_Collate(size),
        num_workers=workers,
        worker_init_fn=_start,
        persistent_workers=workers > 0,
        generator=torch_generator(seed, "loader"),  # its own draw, not the process-wide one's
        pin_memory=pin,
    )
