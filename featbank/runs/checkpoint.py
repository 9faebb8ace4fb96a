"""Checkpoints: safetensors files of tensors and JSON, which run no code and show damage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from featbank.data.provenance import tensors_digest
from featbank.errors import DamagedError, InputError, MissingFileError
from featbank.files.atomic import replace_file
from featbank.files.plain_files import plain_size
from featbank.files.utf8 import open_tensors
from featbank.runtime.names import require_known
from heads.canonical import canonical

__all__ = [
    "BEST",
    "FORMAT",
    "LAST",
    "Checkpoint",
    "find_checkpoint",
    "is_checkpoint",
    "n_bytes",
    "read_checkpoint",
    "record_of",
    "write_checkpoint",
]

FORMAT = 1
BEST, LAST = "best.safetensors", "last.safetensors"
_HEADER = "featbank"
_MODEL, _OPTIMIZER = "model.", "optimizer."


@dataclass(frozen=True)
class Checkpoint:
    """A network in training: its tensors, its optimiser's, and a JSON record of the rest."""

    record: Mapping[str, Any]
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)


def _digest(record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    return hashlib.sha256(canonical([record, tensors_digest(tensors)])).hexdigest()


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint so that `path` holds the old one or the new one, never a part."""
    named = {_MODEL + name: value for name, value in checkpoint.model.items()}
    named |= {_OPTIMIZER + name: value for name, value in checkpoint.optimizer.items()}
    # Copied, because safetensors refuses tensors that share memory and rearranges strided ones.
    tensors = {name: each.detach().cpu().clone().contiguous() for name, each in named.items()}
    record = {**checkpoint.record, "format": FORMAT}
    # All in one entry, because safetensors writes several in an order that changes from run to run.
    header = canonical({"digest": _digest(record, tensors), "record": record}).decode()
    # Written as bytes, because safetensors' own writer leaves a temporary file when it is killed.
    content = save(tensors, metadata={_HEADER: header})
    replace_file(path, lambda part: part.write_bytes(content))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises
    ------
    MissingFileError
        There is no such file.
    DamagedError
        It is no featbank checkpoint, or not one byte for byte as it was written.
    """
    if not path.is_file():
        message = f"no checkpoint {str(path)!r}; train one with featbank train --out"
        raise MissingFileError(message)
    try:
        with open_tensors(path) as file:
            header = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        message = f"{path} is no safetensors file, or is damaged: {' '.join(str(error).split())}"
        raise DamagedError(message) from error
    return Checkpoint(
        _checked_record(path, header, tensors),
        model=_named(tensors, _MODEL),
        optimizer=_named(tensors, _OPTIMIZER),
    )


def is_checkpoint(path: Path) -> bool:
    """Tell whether a file says that it is a featbank checkpoint."""
    try:
        with open_tensors(path) as file:
            return _HEADER in (file.metadata() or {})
    except (SafetensorError, OSError, ValueError, RuntimeError):
        return False


def record_of(folder: Path, name: str) -> dict[str, Any] | None:
    """Return the record in the header of a folder's checkpoint; None where that is none of ours.

    Nothing else of the file is read: this tells what a file is, and not whether it is sound.
    """
    try:
        plain_size(folder, folder / name)
        with open_tensors(folder / name) as file:
            record = json.loads((file.metadata() or {})[_HEADER])["record"]
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError):
        return None
    return record if isinstance(record, dict) else None


def n_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Return the number of bytes that tensors take."""
    return sum(each.numel() * each.element_size() for each in tensors.values())


def _checked_record(
    path: Path, header: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    if _HEADER not in header:
        message = f"{path} is no featbank checkpoint: its header has no record of one"
        raise DamagedError(message)
    try:
        outer = json.loads(header[_HEADER])
        record: dict[str, Any] = outer["record"]
        intact = outer["digest"] == _digest(record, tensors)
    except (ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        message = f"{path} is damaged: what it holds does not have the digest that it names"
        raise DamagedError(message)
    if record["format"] != FORMAT:
        message = f"{path} has checkpoint format {record['format']}; this featbank reads {FORMAT}"
        raise InputError(message)
    return record


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)
    }


def find_checkpoint(run_or_checkpoint: str | Path, which: str = "best") -> Path:
    """Return the checkpoint file meant by a run folder (its best or last) or by a file.

    A run without a val split has no best checkpoint; its last one stands in.
    """
    require_known("checkpoint", which, ("best", "last"))
    path = Path(run_or_checkpoint)
    if not path.is_dir():
        return path
    names = (BEST, LAST) if which == "best" else (LAST,)
    for name in names:
        if (path / name).is_file():
            return path / name
    message = f"{path} holds no {' or '.join(names)}; is it the --out of featbank train?"
    raise MissingFileError(message)
