"""The folder of an exported model: what is in it, and the proof that it is what was exported."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch

import heads
from featbank.errors import DamagedError, InputError, MissingFileError
from featbank.files.plain_files import open_regular, read_plain
from featbank.runtime.names import printable
from featbank.serving.backends import Backend, Loaded
from featbank.serving.programs import ONNX, PROGRAM, load_onnx, load_program
from featbank.serving.recognising import CONFIG, KEY, MOST_BYTES
from featbank.serving.record import ModelRecord
from featbank.serving.selftest import check
from featbank.serving.timm_folder import WEIGHTS, load_timm

__all__ = [
    "CARD",
    "FORMATS",
    "HEAD",
    "Contents",
    "Proof",
    "load_exported",
    "own_model",
    "prove",
    "sealed",
]

CARD, HEAD = "README.md", "head.head"
# The file of the network by the name of the format.
FORMATS = {"timm": WEIGHTS, "onnx": ONNX, "pt2": PROGRAM}
# In featbank's entry of config.json, the SHA-256 of all else in that file.
SEAL = "sha256"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Contents:
    """What ``config.json`` says of a folder.

    Attributes
    ----------
    format : {"timm", "onnx", "pt2"}
    record : ModelRecord
    files : mapping
        The SHA-256 of each file beside ``config.json``, in hexadecimal.
    versions : mapping
        Of featbank and of the packages that exported the model.
    """

    format: str
    record: ModelRecord
    files: Mapping[str, str]
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``config.json``."""
        return {
            "format": self.format,
            "files": dict(self.files),
            "versions": dict(self.versions),
            "model": self.record.to_json(),
        }

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the folder's ``config.json``.

        Raises
        ------
        MissingFileError
            There is no such folder, or no model of featbank's in it.
        DamagedError
            What stands there is not what `featbank export` writes.
        """
        path = folder / CONFIG
        if not os.path.lexists(path):
            what = "holds no config.json" if folder.is_dir() else "is no folder"
            message = f"{folder} {what}; featbank export writes a model's folder"
            raise MissingFileError(printable(message))
        try:
            text = read_plain(folder, path, MOST_BYTES).decode()
            config = json.loads(text)
            found, whole = config[KEY], sealed(config) == text
            files = {str(name): str(digest) for name, digest in found["files"].items()}
            form, versions = str(found["format"]), dict(found["versions"])
            record = found["model"]
            if form not in FORMATS or FORMATS[form] not in files:
                raise ValueError(form)
            if not all(map(_NAME.fullmatch, files)):
                raise ValueError(sorted(files))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            message = f"{path} was not written by featbank export, or is damaged"
            raise DamagedError(printable(message)) from error
        except OSError as error:
            message = f"{path} cannot be read: {error.strerror}"
            raise InputError(printable(message)) from error
        if not whole:
            message = f"{path} is not what was exported: it was damaged or edited"
            raise DamagedError(printable(message))
        return cls(form, ModelRecord.from_json(record, str(path)), files, versions)

    def prove_files(self, folder: Path) -> int:
        """Read every file, and return their bytes together.

        Raises
        ------
        DamagedError
            A file is missing, or is not byte for byte what was exported.
        """
        n_bytes = 0
        for name, digest in self.files.items():
            path = folder / name
            if path.is_symlink() or not path.is_file():
                message = f"{path} is missing, or no regular file; export the model again"
                raise DamagedError(printable(message))
            with open_regular(path) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    message = f"{path} is not what was exported: it was damaged or edited"
                    raise DamagedError(printable(message))
            n_bytes += path.stat().st_size
        return n_bytes


@dataclass(frozen=True)
class Proof:
    """A model that has proved sound.

    Attributes
    ----------
    folder : Path
    loaded : Loaded
        What the model is made of.
    contents : Contents
        What the folder says of itself.
    n_bytes : int
        The bytes that were read.
    difference : float
        The largest difference of a score in the self-test.
    """

    folder: Path
    loaded: Loaded
    contents: Contents
    n_bytes: int
    difference: float

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that ``featbank verify --json`` writes."""
        return {
            "schema": 1,
            "model": str(self.folder),
            "format": self.contents.format,
            "bytes": self.n_bytes,
            "sound": True,
            "difference": self.difference,
        }


def sealed(config: Mapping[str, Any]) -> str:
    """Return the text of ``config.json``, in which featbank's entry ends in the rest's digest."""

    def text_of(entry: Mapping[str, Any]) -> str:
        return json.dumps({**config, KEY: entry}, indent=2, allow_nan=False) + "\n"

    entry = {name: value for name, value in config[KEY].items() if name != SEAL}
    digest = hashlib.sha256(text_of(entry).encode()).hexdigest()
    return text_of({**entry, SEAL: digest})


def own_model(folder: Path) -> list[Path] | None:
    """Return featbank's own files in a model's folder, its record last; None where it is none."""
    try:
        contents = Contents.read(folder)
    except (InputError, DamagedError, OSError):
        return None
    there = [Path(name) for name in contents.files if os.path.lexists(folder / name)]
    return [*there, Path(CONFIG)]


def prove(folder: Path, device: torch.device, *, trust: bool = False) -> Proof:
    """Load a model's folder once all of it has proved sound.

    Parameters
    ----------
    folder : Path
    device : torch.device
        Where scores are computed.
    trust : bool
        Also load a ``pt2`` program, which can run code of whoever wrote it.

    Raises
    ------
    MissingFileError
        There is no model in the folder.
    DamagedError
        A file is not what was exported, or the self-test fails.
    InputError
        The format needs what is not installed, or trust that was not given.
    """
    contents = Contents.read(folder)
    if contents.format == "pt2" and not trust:
        message = (
            f"{folder} holds a pt2 program, which can run code of whoever wrote it; add --trust "
            "(trust=True) if you know where it comes from"
        )
        raise InputError(printable(message))
    n_bytes = contents.prove_files(folder)
    backend = _backend(folder, contents, device)
    spec = contents.record.input
    if spec is None:
        message = f"{folder / CONFIG} does not say how images are shown to the network"
        raise DamagedError(printable(message))
    difference = check(folder, spec, len(contents.record.class_names), backend)
    head = heads.load(folder / HEAD) if HEAD in contents.files else None
    return Proof(folder, Loaded(contents.record, backend, head), contents, n_bytes, difference)


def load_exported(folder: Path, device: torch.device, *, trust: bool = False) -> Loaded:
    """Load a folder that `featbank export` wrote; see `prove`."""
    return prove(folder, device, trust=trust).loaded


def _backend(folder: Path, contents: Contents, device: torch.device) -> Backend:
    """Return what computes the model's scores."""
    if contents.format == "timm":
        return load_timm(folder, contents.record, device)
    load = load_onnx if contents.format == "onnx" else load_program
    return load(folder / FORMATS[contents.format], device)
