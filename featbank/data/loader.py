"""Batches of transformed images, the same whatever the number of worker processes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featbank.data.transforms import Size, Transform, sides
from featbank.data.types import ImageSplit
from featbank.data.workers import Workers
from featbank.errors import InputError
from featbank.runtime.rng import derive_seed, isolated_torch

__all__ = [
    "Batch",
    "BatchPlan",
    "ImageLoader",
    "Key",
    "eval_batches",
    "image_loader",
    "train_batches",
]


class Key(NamedTuple):
    """One image to make: its row, and the epoch and position that name its random draws."""

    row: int
    epoch: int
    position: int


@dataclass
class Batch:
    """B images, ready for a network.

    Attributes
    ----------
    images : Tensor of shape (B, 3, H, W), float32 or uint8, as the transform makes them
        Zeros in the place of an image that could not be read.
    rows : ndarray of shape (B,), int64
        The row of each in its split.
    bad : dict
        From the row of an image that could not be read to the reason.
    sha256 : ndarray of shape (B, 32), uint8
        Digest of the bytes that each image was decoded from.
    n_bytes : ndarray of shape (B,), int64
        The number of these bytes.
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
    """A row with its transformed image, or why there is none, and what its bytes were."""

    row: int
    made: Tensor | str
    sha256: bytes = bytes(32)
    n_bytes: int = 0


@dataclass(frozen=True)
class _Make:
    """Makes the batch of a list of keys, in this process or in another one."""

    split: ImageSplit
    transform: Transform
    size: Size
    seed: int

    def batch(self, keys: Sequence[Key]) -> Batch:
        """Stack the images; one that could not be read is zeros, so rows keep their places."""
        items = [self.item(key) for key in keys]
        kinds = [item.made.dtype for item in items if isinstance(item.made, Tensor)]
        blank = torch.zeros(3, *sides(self.size), dtype=kinds[0] if kinds else torch.float32)
        made = [blank if isinstance(item.made, str) else item.made for item in items]
        return Batch(
            images=torch.stack(made),
            rows=np.array([item.row for item in items], dtype=np.int64),
            bad={item.row: item.made for item in items if isinstance(item.made, str)},
            sha256=np.frombuffer(b"".join(item.sha256 for item in items), np.uint8).reshape(-1, 32),
            n_bytes=np.array([item.n_bytes for item in items], dtype=np.int64),
        )

    def item(self, key: Key) -> _Item:
        """Read one image, and transform it with the draws that its key names."""
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

    def __call__(self, keys: Sequence[Key]) -> tuple[Any, Tensor]:
        """Return a batch in two parts, as it travels from one process to another."""
        batch = self.batch(keys)
        return (batch.rows, batch.bad, batch.sha256, batch.n_bytes), batch.images


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


class ImageLoader:
    """Gives the batches of a plan each time it is iterated, made here or in processes.

    Processes are kept for the next time. They end with `close`, with the loader, or with this
    process.

    Parameters
    ----------
    make : callable
        Makes the batch of a list of keys; it is sent to the processes. `image_loader` builds it.
    plan : BatchPlan
        The batches, looked up anew at every iteration.
    workers : int
        Processes that make batches; 0 makes them in this one.
    pin : bool
        Put the images into pinned memory, from which copies to a GPU are faster.
    """

    def __init__(self, make: _Make, plan: BatchPlan, workers: int, *, pin: bool) -> None:
        self.make, self.plan, self.pin = make, plan, pin
        self.workers = Workers(make, workers, pin=pin) if workers else None

    def __len__(self) -> int:
        """Return how many batches the plan has."""
        return len(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        """Yield all batches of the plan."""
        return self.batches()

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of the plan from its `start`-th on.

        Raises
        ------
        WorkerError
            A process that makes them has failed or ended.
        """
        planned = list(self.plan)[start:]
        if self.workers is None:
            for keys in planned:
                batch = self.make.batch(keys)
                yield batch.pin_memory() if self.pin else batch
            return
        for (rows, bad, sha256, n_bytes), images in self.workers.run(planned):
            yield Batch(images, rows, bad, sha256, n_bytes)

    def close(self) -> None:
        """End the processes."""
        if self.workers is not None:
            self.workers.close()

    def __enter__(self) -> ImageLoader:
        """Use the loader until the block is left."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        self.close()


def image_loader(
    split: ImageSplit,
    transform: Transform,
    size: Size,
    plan: BatchPlan,
    *,
    seed: int = 0,
    workers: int = 0,
    pin: bool = False,
) -> ImageLoader:
    """Return a loader that gives the batches of `plan` each time it is iterated.

    Parameters
    ----------
    split : ImageSplit
        The images.
    transform : callable
        Makes a float32 tensor (3, H, W) of an image.
    size : int or pair of int
        Side of the images that `transform` gives, or height and width, in pixels.
    plan : BatchPlan
        The batches; it may be given new ones between two iterations.
    seed : int
        Random draws of an image are a function of (seed, epoch, position) alone.
    workers : int
        Processes that make batches, 0 for none beside this one. The images do not depend on it.
    pin : bool
        Put the images into pinned memory, from which copies to a GPU are faster.
    """
    return ImageLoader(_Make(split, transform, size, seed), plan, workers, pin=pin)
