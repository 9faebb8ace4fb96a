"""Named arrays of a file, whatever its format, without reading them into memory at once."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from featbank.errors import InputError, MissingFileError
from featbank.files.plain_files import open_regular
from featbank.files.plain_pickle import read_plain_pickle
from featbank.files.torch_file import prove_torch_file
from featbank.importing.budget import Budget
from featbank.importing.entries import Unusable, as_tensor_array, entry
from featbank.importing.npy import read_npy, read_npz

__all__ = ["SUFFIXES", "read_source"]

Array = NDArray[Any]

# The tensor dtypes of safetensors that numpy has too, by their names there.
MAPPED = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8", "I32": "<i4", "U8": "|u1"}

# The entries of a checkpoint of the code of Kang et al.
PAPER_KEYS = {"state_dict_best", "epoch", "best_epoch", "best_acc", "centroids"}

# The functions by which the pickle in a torch file makes a numpy array.
NUMPY_ARRAYS = {
    f"{module}.{name}"
    for module in ("numpy.core", "numpy._core")
    for name in ("multiarray._reconstruct", "numeric._frombuffer")
}


def read_source(path: Path, budget: Budget | None = None) -> dict[str, Any]:
    """Return what a file holds, by name.

    Parameters
    ----------
    path : Path
    budget : Budget, optional
        What may be held in memory; of this file alone where none is given.

    Returns
    -------
    dict
        Numpy arrays, objects with shape, dtype and slicing, `Pieces` of an array, or `Unusable`
        for what is there and is no array.

    Raises
    ------
    MissingFileError, InputError
        The file is missing, no regular file, of an unknown kind, damaged, or does not hold plain
        arrays.
    """
    kinds = ", ".join(SUFFIXES)
    try:
        with open_regular(path) as handle:
            budget = budget or Budget(handle.seek(0, 2))
    except MissingFileError as error:
        message = f"{path} does not exist; name a file of features ({kinds})"
        raise MissingFileError(message) from error
    reader = SUFFIXES.get(path.suffix.lower())
    if reader is None:
        message = f"{path} is of no known kind; features come from {kinds}"
        raise InputError(message)
    return reader(path, budget)


def read_safetensors(path: Path, _budget: Budget) -> dict[str, Any]:
    """Map the tensors of a ``.safetensors`` file; the library checks its header first."""
    from safetensors import SafetensorError

    from featbank.files.utf8 import open_tensors

    try:
        with open_tensors(path) as file, open_regular(path) as handle:
            size = int.from_bytes(handle.read(8), "little")
            header = json.loads(handle.read(size))
            keys = list(file.keys())
            return {key: map_tensor(handle, 8 + size, key, header[key], file) for key in keys}
    except (SafetensorError, OSError, ValueError, KeyError, RecursionError) as error:
        reason = " ".join(str(error).split())
        message = f"{path} cannot be read as a .safetensors file ({reason:.200})"
        raise InputError(message) from error


def map_tensor(handle: BinaryIO, start: int, key: str, header: Mapping[str, Any], file: Any) -> Any:
    """Map one tensor of a ``.safetensors`` file.

    Parameters
    ----------
    handle : binary file
        The file, open.
    start : int
        Where the tensors' bytes begin.
    key : str
        The tensor's name.
    header : mapping
        Its ``dtype``, ``shape`` and ``data_offsets``.
    file : safetensors' handle
        Reads a tensor of a dtype that numpy lacks, as bfloat16, which becomes float32.
    """
    shape = tuple(header["shape"])
    if header["dtype"] not in MAPPED or not math.prod(shape):
        return as_tensor_array(file.get_tensor(key))
    offset = start + header["data_offsets"][0]
    return np.memmap(handle, MAPPED[header["dtype"]], "r", offset=offset, shape=shape)


def read_torch(path: Path, budget: Budget) -> dict[str, Any]:
    """Read a ``.pt`` or ``.pth``, never more than tensors and plain containers.

    One tensor alone is named by the file, as the array of a ``.npy`` is. Of the checkpoint of the
    code of Kang et al. the classifier is taken.
    """
    from featbank.backbones.foreign import load_plain, paper_classifier

    try:
        content = load_plain(path)
    except InputError as error:
        if NUMPY_ARRAYS & prove_torch_file(path):
            message = f"{path} holds more than tensors: numpy arrays; save it as .npz"
            raise InputError(message) from error
        raise
    classifier = paper_classifier(content)
    if classifier is not None:
        found = {name: as_tensor_array(tensor) for name, tensor in classifier.items()}
        others = [str(key) for key in content if key not in PAPER_KEYS]
        rest = Unusable("belongs to a checkpoint, of which the classifier is taken")
        return {**dict.fromkeys(others, rest), **found}
    if hasattr(content, "detach"):
        return {path.stem: entry(content, budget)}
    if not isinstance(content, Mapping):
        message = (
            f"{path} holds a {type(content).__name__}, not tensors by name; save a dict of them, "
            "or one tensor in a file of its name"
        )
        raise InputError(message)
    return named_entries(path, content, budget)


def named_entries(path: Path, content: Mapping[Any, Any], budget: Budget) -> dict[str, Any]:
    """Return the entries of a dict, by names that are text."""
    found = {str(key): entry(value, budget) for key, value in content.items()}
    if len(found) < len(content):
        message = f"{path} has two entries of the same name"
        raise InputError(message)
    return found


def read_paper_features(path: Path, budget: Budget) -> dict[str, Any]:
    """Read ``trainfeat_all.pkl`` and its family: feats, labels and idxs of one split.

    The split is the file name's beginning: trainfeat_all.pkl, valfeat_all.pkl, testfeat_all.pkl.
    Any other dict of arrays keeps its names.
    """
    content = named_entries(path, read_plain_pickle(path), budget)
    if not {"feats", "labels"} <= set(content):
        return content
    match = re.match(r"[A-Za-z0-9]+?(?=feat|_|\.|$)", path.name)
    split = match.group() if match else "train"
    names = {"feats": f"{split}_features", "labels": f"{split}_labels", "idxs": f"{split}_ids"}
    twice = sorted(names[key] for key in names if names[key] in content and key in content)
    if twice:
        message = f"{path} has {', '.join(twice)} twice, under the name of the paper's code too"
        raise InputError(message)
    return {names.get(key, key): value for key, value in content.items()}


SUFFIXES: dict[str, Callable[[Path, Budget], dict[str, Any]]] = {
    ".npz": read_npz,
    ".npy": read_npy,
    ".safetensors": read_safetensors,
    ".pt": read_torch,
    ".pth": read_torch,
    ".pkl": read_paper_features,
}
