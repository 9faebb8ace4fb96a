"""The entries of a file as arrays, as pieces of arrays, or as `Unusable` with the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.errors import InputError
from featbank.importing.budget import Budget

__all__ = ["Pieces", "Unusable", "as_tensor_array", "entry", "join"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Unusable:
    """An entry that is no array; `why` says what it is."""

    why: str


@dataclass(frozen=True)
class Pieces:
    """A list of arrays: batches to be joined, or rows to be stacked; its use decides which."""

    arrays: Sequence[Array]
    budget: Budget


Entry = Array | Pieces | Unusable


def entry(value: Any, budget: Budget) -> Any:
    """Return the array that a value of a file is, `Pieces` of one, or `Unusable`.

    Arrays that are read as they are used, such as those of a compressed `.npz`, pass through.
    """
    if isinstance(value, np.ndarray):
        return plain_array(value)
    if hasattr(value, "detach"):
        found = as_tensor_array(value)
        plain = isinstance(found, np.ndarray)
        if plain and value.untyped_storage().nbytes() > budget.file_bytes:
            return Unusable("claims more bytes than its file has")
        return found
    if isinstance(value, (list, tuple)):
        return from_list(value, budget)
    if isinstance(value, (int, float, np.generic)):
        return plain_array(np.asarray(value))
    kind = "text" if isinstance(value, (str, bytes)) else f"a {type(value).__name__}"
    return Unusable(f"is {kind}")


def plain_array(array: Array) -> Array | Unusable:
    """Return an array of numbers or text; one of objects only where all of them are text."""
    if array.dtype.kind in "biufUS":
        return array
    if array.dtype.kind == "O" and all(isinstance(each, (str, bytes)) for each in array.flat):
        return array
    what = "objects that are no text" if array.dtype.kind == "O" else f"dtype {array.dtype}"
    return Unusable(f"is an array of {what}")


def as_tensor_array(tensor: Any) -> Array | Unusable:
    """View a tensor as a numpy array; floats that numpy lacks, as bfloat16, as float32."""
    import torch

    if tensor.is_sparse or tensor.layout != torch.strided or tensor.device.type == "meta":
        return Unusable("is a tensor without plain storage (sparse, or of the meta device)")
    tensor = tensor.detach().cpu()
    numpy_floats = (torch.float16, torch.float32, torch.float64)
    try:
        if tensor.dtype.is_floating_point and tensor.dtype not in numpy_floats:
            tensor = tensor.float()
        array: Array = tensor.resolve_conj().resolve_neg().numpy()
    except (TypeError, RuntimeError):
        return Unusable(f"is a tensor of {tensor.dtype}, which numpy lacks")
    return plain_array(array)


def from_list(values: Sequence[Any], budget: Budget) -> Any:
    """Return the array of a list of numbers or text, or the pieces that a list of arrays is."""
    if not values:
        return Unusable("is an empty list")
    if all(isinstance(each, (str, bytes)) for each in values):
        texts = np.empty(len(values), dtype=object)
        texts[:] = values
        return texts
    if all(isinstance(each, (bool, int, float)) for each in values):
        return numbers(values)
    known: dict[int, Any] = {}  # a list may hold one object a million times
    pieces = []
    for each in values:
        if id(each) not in known:
            known[id(each)] = entry(each, budget)
        pieces.append(known[id(each)])
    if all(isinstance(each, np.ndarray) for each in pieces):
        return Pieces(pieces, budget)
    kinds = sorted({type(each).__name__ for each in values})
    return Unusable(f"is a list of {' and '.join(kinds)}, which do not make one array")


def numbers(values: Sequence[Any]) -> Array | Unusable:
    """Return the array of a list of numbers, which must fit 64 bits."""
    try:
        array = np.asarray(values)
    except OverflowError:
        array = np.empty(0, dtype=object)
    return array if array.dtype.kind in "biuf" else Unusable("is a list of numbers beyond 64 bits")


def join(pieces: Pieces, ndim: int, name: str) -> Array:
    """Return one array of `ndim` axes: batches one after another, or rows one upon another.

    Raises
    ------
    InputError
        Their shapes or kinds do not go together, or the result takes too much memory; `name`
        begins the message.
    """
    axes = {piece.ndim for piece in pieces.arrays}
    kinds = {"O" if piece.dtype.kind in "USO" else piece.dtype.kind for piece in pieces.arrays}
    how: Callable[[Sequence[Array]], Array] = np.concatenate if axes == {ndim} else np.stack
    widths = {piece.shape[axes == {ndim} :] for piece in pieces.arrays}
    if axes not in ({ndim}, {ndim - 1}) or len(widths) > 1 or len(kinds) > 1:
        shapes = ", ".join(str(piece.shape) for piece in pieces.arrays[:3])
        message = f"{name} is a list of arrays that do not join (shapes {shapes}, …); join them"
        raise InputError(message)
    pieces.budget.take(sum(piece.nbytes for piece in pieces.arrays), name)
    if kinds == {"O"}:
        return how([piece.astype(object) for piece in pieces.arrays])
    return how(pieces.arrays)
