"""The bridge between numpy and torch, and the one rule for cutting rows into blocks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

__all__ = [
    "Scratch",
    "as_numpy",
    "as_tensor",
    "compute_dtype",
    "full_precision",
    "is_finite",
    "match",
    "one_thread_each",
    "one_thread_if_small",
    "row_blocks",
    "to_kind",
]

# Elements of one block of rows: 32 MB in float32, so that a block's products stay well below
# the features themselves however many rows there are.
_BLOCK_ELEMENTS = 1 << 23

# Multiplications that take less than half a millisecond on one core.
_FEW_PRODUCTS = 1 << 22


class _WritableView:
    """Present a read-only array as writable: torch warns about the others, and we never write."""

    def __init__(self, array: NDArray[Any]) -> None:
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface
        self.owner = array


def as_tensor(array: Any) -> Tensor:
    """Return a tensor over the same memory where torch allows it, else over a copy.

    A matrix whose rows are not whole in memory is copied: products round by their layout, and
    the same numbers are to give the same result.
    """
    if isinstance(array, Tensor):
        tensor = array.detach()
        return tensor.contiguous() if _is_scattered(tensor.stride()) else tensor
    plain = np.asarray(array)
    if _is_scattered([step // plain.itemsize for step in plain.strides]):
        plain = np.ascontiguousarray(plain)
    if not plain.dtype.isnative or any(step < 0 for step in plain.strides):
        plain = plain.astype(plain.dtype.newbyteorder("="), order="C")
    if not plain.flags.writeable:
        plain = np.asarray(_WritableView(plain))
    return torch.from_numpy(plain)


def _is_scattered(steps: Sequence[int]) -> bool:
    """Tell whether a matrix with these steps between elements has rows that are not whole."""
    return len(steps) > 1 and steps[-1] != 1


def as_numpy(array: Any) -> NDArray[Any]:
    """Return a numpy array; a tensor is brought to the host first."""
    return array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)


def match(array: Any, like: Tensor) -> Tensor:
    """Return `array` as a tensor in the dtype and on the device of `like`."""
    return as_tensor(array).to(device=like.device, dtype=like.dtype)


def to_kind(tensor: Tensor, like: Any) -> Any:
    """Return `tensor` as it is where `like` is a tensor, else as a numpy array."""
    return tensor if isinstance(like, Tensor) else tensor.cpu().numpy()


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """Name the dtype to compute in: float32 for half precisions, float64 for whole numbers."""
    if tensor.dtype in (torch.float16, torch.bfloat16, torch.float32):
        return torch.float32
    return torch.float64


def row_blocks(n_rows: int, width: int) -> Iterator[slice]:
    """Cut 0..n_rows-1 into slices of at most 32 MB of float32 at `width` numbers a row.

    The cut depends on these two numbers alone. A matrix product's last bit can depend on the
    number of rows in it, so whoever cuts by this rule gets the same bits.
    """
    step = max(64, _BLOCK_ELEMENTS // max(width, 1))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def is_finite(tensor: Tensor) -> bool:
    """Tell whether every number is finite, in one pass and without a mask of the same size."""
    # A sum is finite only if its terms are; a sum that overflowed is looked at again.
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


@contextmanager
def one_thread_if_small(n_products: int, few: int = _FEW_PRODUCTS) -> Iterator[None]:
    """Run steps of so many multiplications on one thread of the CPU where they are few.

    Sharing such work costs more than it saves, and where other processes hold the cores each
    operation waits for its slowest thread: 200 steps of 512 rows, 3 features and 3 classes took
    1.6 s on two busy cores, and 0.05 s on one thread. `few` is the number up to which they are few;
    it should be larger where the element-wise part of a step is large.
    """
    if n_products > few:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1, user_api="blas"):  # scipy's own, in L-BFGS
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_thread_each(alone: bool) -> Iterator[Callable[..., Iterable[Any]]]:
    """Yield a `map` that works on pieces in parallel, each on one thread.

    Where `alone` it works on one piece after another. Element-wise work on pieces that stay in a
    core's cache is several times faster this way than where torch divides every single operation.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the pool's threads take this over when they begin
    try:
        if alone or n_threads == 1:
            yield map
            return
        with ThreadPoolExecutor(n_threads) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(n_threads)


class Scratch(threading.local):
    """A block of memory for each thread, because taking one for every piece costs much time."""

    def __init__(self, shape: tuple[int, ...], like: Tensor) -> None:
        self.block = like.new_empty(shape)


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute float32 products in float32, whatever the process allows elsewhere.

    TF32 stops the line search of L-BFGS, and a prediction must not depend on a switch that
    stage-1 training may have set.
    """
    before = torch.get_float32_matmul_precision()
    if before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
