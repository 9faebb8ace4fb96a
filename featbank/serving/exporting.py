"""A fitted head and its network as one folder that can be handed to anybody."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import heads
from featbank.errors import FeatbankError
from featbank.extraction.network import Foundation
from featbank.files.placing import placing, refuse_strangers
from featbank.runtime.names import require_known
from featbank.serving.backends import Backend, Floats, HeadBackend, two_columns
from featbank.serving.card import card
from featbank.serving.folder import CARD, FORMATS, HEAD, Contents, own_model, sealed
from featbank.serving.loading import Parts, parts_of
from featbank.serving.programs import require_onnx, write_onnx, write_program
from featbank.serving.recognising import CONFIG, KEY
from featbank.serving.selftest import ARRAYS, Expected, expected_of, files_of, pictures
from featbank.serving.timm_folder import timm_config, write_timm

__all__ = ["export_model"]

_WRITERS: dict[str, Callable[[Parts, Path], Backend]] = {
    "timm": write_timm, "onnx": write_onnx, "pt2": write_program,
}  # fmt: skip
_PACKAGES = (
    "featbank",
    "torch",
    "torchvision",
    "timm",
    "pillow",
    "onnx",
    "onnxscript",
    "onnxruntime",
)
# The exported model's probabilities may differ by this much from those of the head, since another
# program sums in another order.
_CLOSE = 1e-4


def export_model(
    source: str | Path | Foundation,
    head: str | Path,
    out: str | Path,
    form: str = "timm",
    *,
    which: str = "best",
    license_name: str | None = None,
    overwrite: bool = False,
    replace_in_place: bool = False,
) -> Path:
    """Write a head and its network as one model: what `featbank export --run` does.

    Parameters
    ----------
    source : path or Foundation
        The folder of a training, or one checkpoint file; or a network that was trained elsewhere.
    head : path
        A head that was fitted on features of that network.
    out : path
        The folder of the model.
    form : {"timm", "onnx", "pt2"}
        A folder that timm loads, an ONNX file, or a program of torch.export's.
    which : {"best", "last"}
        Which checkpoint of a training.
    license_name : str, optional
        The licence of the weights, for the model card, which says nothing otherwise.
    overwrite : bool
        Whether a model in `out` may be replaced; it is when the new one is whole.
    replace_in_place : bool
        With `overwrite`, remove the old model first, where the disk cannot hold both.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    StaleError
        The head was fitted on features of another network.
    InputError
        The network or the head has no such form, or a package is missing.
    OutputExistsError
        `out` holds something, and `overwrite` is not set or it is not featbank's.
    StorageError
        The disk is full, read-only or failing.
    """
    require_known("format", form, tuple(FORMATS))
    if form == "onnx":
        require_onnx()
    out, parts = Path(out), parts_of(source, Path(head), which)
    with placing(out, own_model, overwrite=overwrite, in_place=replace_in_place) as new:
        refuse_strangers(new.out, own_model, (CONFIG, CARD, HEAD, ARRAYS, FORMATS[form]))
        write_model(parts, Path(head), new.work, form, license_name)
        new.finish()
    return out


def write_model(
    parts: Parts, head: Path, folder: Path, form: str, license_name: str | None
) -> None:
    """Write the files of a model, prove them, and name them in ``config.json``.

    Parameters
    ----------
    parts : Parts
        The network, the head, and the record of both.
    head : Path
        The head's file.
    folder : Path
        An empty folder.
    form, license_name
        As in `export_model`.
    """
    backend = _WRITERS[form](parts, folder)
    heads.load(head).save(folder / HEAD, metadata=heads.read_metadata(head))
    write_self_test(parts, folder, backend)
    (folder / CARD).write_text(card(parts.record, form, license_name), encoding="utf-8")
    named = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    contents = Contents(
        form, parts.record, {name: digest_of(folder / name) for name in named}, versions()
    )
    of_timm = timm_config(parts.record, parts.frozen.dim) if form == "timm" else labels_of(parts)
    (folder / CONFIG).write_text(sealed(of_timm | {KEY: contents.to_json()}), encoding="utf-8")


def labels_of(parts: Parts) -> dict[str, Any]:
    """Return the classes as timm names them in ``config.json``."""
    names = list(parts.record.class_names)
    return {"num_classes": len(names), "label_names": names}


def write_self_test(parts: Parts, folder: Path, backend: Backend) -> None:
    """Write the pictures and what the exported model makes of them, once it has proved right.

    Raises
    ------
    FeatbankError
        The exported model gives other probabilities than the head.
    """
    spec = parts.frozen.input
    empty = Expected(np.zeros((len(pictures()), 3, 1, 1), np.uint8), np.zeros((1, 1), np.float32))
    for name, raw in files_of(empty).items():
        (folder / name).write_bytes(raw)
    found = expected_of(folder, spec, backend)
    own = HeadBackend(spec, parts.frozen.network, parts.head, torch.device("cpu"))

    def exact(pixels: Tensor) -> tuple[Floats, Floats]:
        """Return the head's scores, computed in float64, and the features."""
        _, features = own(pixels)
        return two_columns(parts.head.decision_function(features.astype(np.float64))), features

    want = expected_of(folder, spec, exact)
    apart = np.abs(softmax(found.scores) - softmax(want.scores)).max()
    if not apart <= _CLOSE:
        message = (
            f"the exported {parts.frozen.backbone} gives other probabilities than the head (by "
            f"{apart:.2g}), so it was not kept; another --format may do"
        )
        raise FeatbankError(message)
    (folder / ARRAYS).write_bytes(files_of(found)[ARRAYS])


def softmax(
    scores: np.ndarray[tuple[int, int], np.dtype[np.float32]],
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the softmax (n, C) of scores (n, C)."""
    power = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    shares: np.ndarray[tuple[int, int], np.dtype[np.float64]] = power / power.sum(
        axis=1, keepdims=True
    )
    return shares


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of the packages that export a model."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
