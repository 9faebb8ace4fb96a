"""Named arrays of a file, whatever its format, without reading them into memory at once."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.errors import InputError, MissingFileError
from featbank.importing.plain_pickle import read_plain_pickle

__all__ = ["SUFFIXES", "read_source"]

Array = NDArray[Any]

# Tensor dtypes of safetensors that numpy has.
MAPPED = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8", "I32": "<i4", "U8": "|u1"}

# A zip entry's local header: fixed part, then name and extra field of stated lengths.
ZIP_HEADER, NAME_LENGTH, EXTRA_LENGTH = 30, slice(26, 28), slice(28, 30)


def read_source(path: Path) -> dict[str, Any]:
    """Return a file's arrays by name: numpy arrays, or objects with shape, dtype and slicing.

    Raises
    ------
    MissingFileError, InputError
        The file is missing, of an unknown kind, or does not hold plain arrays.
    """
    if not path.is_file():
        message = f"{path} does not exist; name a file of features ({', '.join(SUFFIXES)})"
        raise MissingFileError(message)
    reader = SUFFIXES.get(path.suffix.lower())
    if reader is None:
        message = f"{path} is of no known kind; features come from {', '.join(SUFFIXES)}"
        raise InputError(message)
    return reader(path)


def read_npz(path: Path) -> dict[str, Any]:
    """Map the arrays of an ``.npz``; compressed ones are read."""
    try:
        with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as file:
            stored = {
                entry.filename.removesuffix(".npy"): entry
                for entry in archive.infolist()
                if entry.compress_type == zipfile.ZIP_STORED
            }
            return {
                key: map_entry(path, stored[key]) if key in stored else file[key]
                for key in file.files
            }
    except (ValueError, OSError, zipfile.BadZipFile, AttributeError, EOFError, KeyError) as error:
        raise unreadable(path, ".npz archive of plain numeric and text arrays") from error


def map_entry(path: Path, entry: zipfile.ZipInfo) -> Array:
    """Map one uncompressed ``.npy`` inside an ``.npz``."""
    with path.open("rb") as handle:
        handle.seek(entry.header_offset)
        header = handle.read(ZIP_HEADER)
        skip = sum(int.from_bytes(header[part], "little") for part in (NAME_LENGTH, EXTRA_LENGTH))
        handle.seek(entry.header_offset + ZIP_HEADER + skip)
        version = np.lib.format.read_magic(handle)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read_header(handle)
        if dtype.hasobject:
            raise ValueError(entry.filename)
        if not np.prod(shape, dtype=np.int64):
            return np.empty(shape, dtype=dtype)
        order = "F" if fortran else "C"
        return np.memmap(path, dtype, "r", offset=handle.tell(), shape=shape, order=order)  # type: ignore[call-overload, no-any-return]


def read_npy(path: Path) -> dict[str, Any]:
    """Map a ``.npy``; its name is the file's: ``train_features.npy`` is train_features."""
    try:
        return {path.stem: np.lib.format.open_memmap(path, mode="r")}
    except (ValueError, OSError, EOFError) as error:
        raise unreadable(path, ".npy of a plain array") from error


def read_safetensors(path: Path) -> dict[str, Any]:
    """Map the tensors of a ``.safetensors`` file; the library checks its header first."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {key: map_tensor(path, key, file) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise unreadable(path, ".safetensors file") from error


def map_tensor(path: Path, key: str, file: Any) -> Array:
    """Map one tensor; bfloat16, which numpy lacks, is read as float32."""
    with path.open("rb") as handle:
        size = int.from_bytes(handle.read(8), "little")
        entry = json.loads(handle.read(size))[key]
    if entry["dtype"] not in MAPPED or not np.prod(entry["shape"], dtype=np.int64):
        return as_array(file.get_tensor(key))
    offset, shape = 8 + size + entry["data_offsets"][0], tuple(entry["shape"])
    return np.memmap(path, MAPPED[entry["dtype"]], "r", offset=offset, shape=shape)


def read_torch(path: Path) -> dict[str, Any]:
    """Read the tensors of a ``.pt`` or ``.pth``, never more than tensors and plain containers."""
    from featbank.foreign import load_plain, paper_classifier

    content = load_plain(path)
    classifier = paper_classifier(content)
    if classifier is not None:
        return {name: as_array(tensor) for name, tensor in classifier.items()}
    if not isinstance(content, Mapping):
        message = f"{path} holds a {type(content).__name__}, not tensors by name"
        raise InputError(message)
    return {
        str(key): as_array(value) if hasattr(value, "numpy") else np.asarray(value)
        for key, value in content.items()
        if hasattr(value, "numpy") or is_list(value)
    }


def is_list(value: Any) -> bool:
    """Tell whether a value is a list of numbers or of names."""
    return isinstance(value, list) and all(isinstance(each, (int, float, str)) for each in value)


def as_array(tensor: Any) -> Array:
    """View a tensor as a numpy array; bfloat16, which numpy lacks, as float32."""
    import torch

    tensor = tensor.detach().cpu()
    array: Array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def read_paper_features(path: Path) -> dict[str, Any]:
    """Read ``trainfeat_all.pkl`` and its family: feats, labels and idxs of one split.

    The split is the file name's beginning: trainfeat_all.pkl, valfeat_all.pkl, testfeat_all.pkl.
    """
    content = read_plain_pickle(path)
    if not {"feats", "labels"} <= set(content):
        return content
    match = re.match(r"[A-Za-z0-9]+?(?=feat|_|\.|$)", path.name)
    split = match.group() if match else "train"
    out = {f"{split}_features": content["feats"], f"{split}_labels": content["labels"]}
    if "idxs" in content:
        out[f"{split}_ids"] = content["idxs"].astype(str)
    return out


def unreadable(path: Path, kind: str) -> InputError:
    """Say what a file should have been."""
    return InputError(f"{path} cannot be read as a {kind}".replace(" a .n", " an .n"))


SUFFIXES: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".npz": read_npz,
    ".npy": read_npy,
    ".safetensors": read_safetensors,
    ".pt": read_torch,
    ".pth": read_torch,
    ".pkl": read_paper_features,
}
