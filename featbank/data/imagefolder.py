"""Image folders: ``root/train/CLASS/IMAGE`` and the same for val and test."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from featbank.data.imagelist import SPLITS, ImageFiles
from featbank.data.params import Params, shots_from
from featbank.data.types import ImageData, ImageSplit
from featbank.errors import InputError, MissingFileError
from featbank.shots import Shots

__all__ = ["SUFFIXES", "open_imagefolder"]

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
)


def open_imagefolder(params: Params) -> ImageData:
    """Return the images in ``root/train``, and in ``root/val`` and ``root/test`` where they are.

    `train`, `val` and `test` name the folders when they are called otherwise. A class is a folder
    in train; classes and images are in the order of their names. Ids are paths from `root`. Files
    whose suffix is no image's are passed over.

    Raises
    ------
    InputError
        A folder is missing, has no images, or names a class that train does not have.
    """
    root = Path(str(params["root"]))
    folders = {split: str(params.get(split, split)) for split in SPLITS}
    there = {s: name for s, name in folders.items() if s in params or (root / name).is_dir()}
    for split in ("train", *there):
        if not (root / folders[split]).is_dir():
            message = (
                f"no folder {str(root / folders[split])!r}; lay images out as "
                f"{root}/{folders[split]}/CLASS/IMAGE, and the same for the other splits"
            )
            raise MissingFileError(message)
    names = _folders(root / folders["train"])
    if not names:
        message = f"{root / folders['train']} holds no class folders with images in them"
        raise InputError(message)
    return ImageData(
        name="imagefolder",
        class_names=names,
        splits={split: _split(root, folder, names) for split, folder in there.items()},
        shots=shots_from(params, Shots()),
    )


def _folders(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if each.is_dir() and each.name[0] != ".")


def _split(root: Path, folder: str, names: Sequence[str]) -> ImageSplit:
    index = {name: label for label, name in enumerate(names)}
    paths: list[str] = []
    labels: list[int] = []
    for name in _folders(root / folder):
        if name not in index:
            message = f"{root / folder / name}: train has no class {name!r}"
            raise InputError(message)
        found = _images(root / folder / name)
        paths += [f"{folder}/{name}/{path}" for path in found]
        labels += [index[name]] * len(found)
    return ImageSplit(paths, np.array(labels, np.int64), ImageFiles(root, paths))


def _images(folder: Path) -> list[str]:
    """Return the images below a class folder, by their paths from it, sorted."""
    found = [
        Path(base, file).relative_to(folder).as_posix()
        for base, _, files in os.walk(folder, followlinks=True)
        for file in files
        if Path(file).suffix.lower() in SUFFIXES and file[0] != "."
    ]
    return sorted(found)
