"""CIFAR-10-LT and CIFAR-100-LT: the real images in their published files, made long-tailed.

The files are pickles. They are checked against the MD5 sums that torchvision knows, and read by
an unpickler that can build arrays and nothing else, so neither a damaged file nor a hostile one
gets any further. (torchvision's own classes run the pickle.)
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.data.formats.arrays import ArrayImages
from featbank.data.longtail import longtail_counts, random_ranks
from featbank.data.params import Params, choice, number, shots_from, whole_number
from featbank.data.types import ImageData, ImageSplit
from featbank.errors import InputError, MissingFileError
from featbank.files.plain_files import open_regular
from heads.metrics.shots import Shots

__all__ = ["open_cifar100_lt", "open_cifar10_lt"]

Ints = NDArray[np.int64]

IMBALANCE = 100.0
PROFILES = {"exp": "exponential", "exponential": "exponential", "step": "step"}
SIDE = 32


@dataclass(frozen=True)
class _Published:
    """Names and MD5 sums of the files of one CIFAR, as torchvision records them."""

    name: str
    folder: str
    archive: str
    url: str
    train: tuple[tuple[str, str], ...]
    test: tuple[tuple[str, str], ...]
    meta: tuple[str, str]
    labels: str
    names: str


def _published(name: str) -> _Published:
    from torchvision.datasets import CIFAR10, CIFAR100  # imported here because it is slow

    known = CIFAR10 if name == "cifar10-lt" else CIFAR100
    return _Published(
        name,
        folder=known.base_folder,
        archive=known.filename,
        url=known.url,
        train=tuple((file, md5) for file, md5 in known.train_list),
        test=tuple((file, md5) for file, md5 in known.test_list),
        meta=(known.meta["filename"], known.meta["md5"]),
        labels="labels" if known is CIFAR10 else "fine_labels",
        names=known.meta["key"],
    )


def _open(name: str, params: Params) -> ImageData:
    """Return a long-tailed subset of CIFAR; see docs/how-to/data.md for the parameters.

    Raises
    ------
    InputError
        Files are missing (the message says where to get them), are not the published ones, or
        hold fewer images than are asked for; or a val split is asked for and not from where.
    """
    files = _published(name)
    folder = _folder(files, Path(str(params["root"])))
    verify = choice(params, "verify", "yes", ("yes", "no")) == "yes"
    names = _class_names(files, folder, verify)
    pixels, labels = _images(files, folder, files.train, verify)
    test_pixels, test_labels = _images(files, folder, files.test, verify)
    settings = _settings(params)
    train, val, test = _subsets(settings, labels, test_labels, len(names))
    splits = {"train": _split("train", train, labels, pixels)}
    if settings["val"]:
        source = (labels, pixels) if settings["val_from"] == "train" else (test_labels, test_pixels)
        splits["val"] = _split(str(settings["val_from"]), val, *source)
    splits["test"] = _split("test", test, test_labels, test_pixels)
    return ImageData(
        name=name,
        class_names=names,
        splits=splits,
        shots=shots_from(params, Shots()),
        native_size=SIDE,
        settings=settings,
    )


open_cifar10_lt = partial(_open, "cifar10-lt")
open_cifar100_lt = partial(_open, "cifar100-lt")


def _settings(params: Params) -> dict[str, Any]:
    """Return the parameters that decide the subset, with defaults for those that were not given."""
    val = whole_number(params, "val", 0)
    if val and "val_from" not in params:
        message = (
            f"val={val} images of each class need val_from=train (held out before the tail is cut) "
            "or val_from=test (taken off the test images)"
        )
        raise InputError(message)
    return {
        "imbalance": number(params, "imbalance", IMBALANCE),
        "profile": PROFILES[choice(params, "profile", "exp", tuple(PROFILES))],
        "seed": whole_number(params, "seed", 0),
        "val": val,
        "val_from": choice(params, "val_from", "train", ("train", "test")) if val else None,
    }


def _subsets(
    settings: Mapping[str, Any], labels: Ints, test_labels: Ints, n_classes: int
) -> tuple[Ints, Ints, Ints]:
    """Return the rows of train, val and test; those of val count in the images it is taken from."""
    seed, val, source = settings["seed"], settings["val"], settings["val_from"]
    held, test_held = (val if source == "train" else 0), (val if source == "test" else 0)
    ranks, test_ranks = random_ranks(labels, seed), random_ranks(test_labels, seed)
    n_max = int(np.bincount(labels, minlength=n_classes).min()) - held
    if n_max < 1 or np.bincount(test_labels, minlength=n_classes).min() <= test_held:
        message = f"val={val} leaves a class without images in {source}; take fewer"
        raise InputError(message)
    counts = longtail_counts(n_max, settings["imbalance"], n_classes, settings["profile"])
    train = np.flatnonzero((ranks >= held) & (ranks < held + counts[labels]))
    rows = ranks < val if source == "train" else test_ranks < test_held
    return train, np.flatnonzero(rows), np.flatnonzero(test_ranks >= test_held)


def _split(source: str, rows: Ints, labels: Ints, pixels: NDArray[np.uint8]) -> ImageSplit:
    ids = [f"{source}/{row}" for row in rows]
    return ImageSplit(ids, labels[rows], ArrayImages(pixels[rows]))


def _folder(files: _Published, root: Path) -> Path:
    """Return the folder of the files: below `root`, or `root` itself."""
    for folder in (root / files.folder, root):
        if (folder / files.train[0][0]).is_file():
            return folder
    unpack = f"tar -xzf {files.archive} there"
    how = unpack if (root / files.archive).is_file() else f"download {files.url} and {unpack}"
    message = (
        f"no {files.name.removesuffix('-lt')} in root {str(root)!r}: {how}, so that "
        f"{files.folder}/{files.train[0][0]} is in it"
    )
    raise MissingFileError(message)


def _images(
    files: _Published, folder: Path, parts: tuple[tuple[str, str], ...], verify: bool
) -> tuple[NDArray[np.uint8], Ints]:
    """Return pixels (N, 32, 32, 3) and labels (N,) of the files of one part."""
    pixels, labels = [], []
    for name, md5 in parts:
        content = _read(folder / name, md5 if verify else None)
        flat, targets = content.get("data"), content.get(files.labels)
        array = np.asarray(flat)
        good = array.dtype == np.uint8 and array.ndim == 2 and array.shape[1] == 3 * SIDE * SIDE
        if not good or not isinstance(targets, list) or len(targets) != len(array):
            message = f"{folder / name} is no file of {files.name.removesuffix('-lt')}"
            raise InputError(message)
        pixels.append(array.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
        labels.append(np.asarray(targets, dtype=np.int64))
    return np.ascontiguousarray(np.concatenate(pixels)), np.concatenate(labels)


def _class_names(files: _Published, folder: Path, verify: bool) -> list[str]:
    name, md5 = files.meta
    names = _read(folder / name, md5 if verify else None).get(files.names)
    if not isinstance(names, list) or not names:
        message = f"{folder / name} holds no list {files.names!r} of class names"
        raise InputError(message)
    return [str(each) for each in names]


def _read(file: Path, md5: str | None) -> Mapping[str, Any]:
    """Read one pickle of arrays, lists, numbers and text, after its MD5 where one is given."""
    from featbank.files.plain_pickle import load_plain_pickle

    try:
        with open_regular(file) as handle:
            raw = handle.read()
    except (InputError, OSError) as error:
        message = f"{error}; unpack the archive again"
        raise MissingFileError(message) from error
    if md5 is not None and hashlib.md5(raw, usedforsecurity=False).hexdigest() != md5:
        message = (
            f"{file} is not the published file (its MD5 differs): unpack the archive again, or "
            "add verify=no if it was made on purpose"
        )
        raise InputError(message)
    content = load_plain_pickle(file, io.BytesIO(raw), raw)
    return content if isinstance(content, dict) else {}
