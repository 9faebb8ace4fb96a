"""Image folders: ``root/train/CLASS/IMAGE`` and the same for val and test."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np

from featbank.data.formats.class_names import same_looking
from featbank.data.formats.files import ImageFiles, find_files
from featbank.data.formats.imagelist import SPLITS
from featbank.data.params import Params, grey_bits_from, shots_from
from featbank.data.types import ImageData, ImageSplit
from featbank.errors import InputError, MissingFileError
from featbank.runtime.names import listed, printable
from heads.metrics.shots import Shots

__all__ = ["SUFFIXES", "open_imagefolder"]

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
)
# The names that people give to the folder of validation images.
VAL_NAMES = ("val", "validation", "valid", "dev")
# Folders that operating systems and tools make. Those that begin with a dot are left out too.
_OF_SYSTEMS = frozenset(
    ("@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found")
)


def open_imagefolder(params: Params) -> ImageData:
    """Return the images in ``root/train``, and in ``root/val`` and ``root/test`` where they are.

    `train`, `val` and `test` name the folders when they are called otherwise; ``validation``,
    ``valid`` or ``dev`` is taken for val where there is no folder of that name. A class is a folder
    in train; classes and images are in the order of their names. Ids are paths from `root`. Links
    are followed, and every folder is read once for each class. What is passed over (files whose
    suffix is no image's, hidden folders, links in circles) is counted in the data's `notes`.

    Raises
    ------
    InputError
        A folder is missing, cannot be read, has no images, or names a class that train does not
        have; or a name has bytes that are no UTF-8.
    """
    root = Path(str(params["root"]))
    folders = {split: str(params.get(split, split)) for split in SPLITS}
    if "val" not in params:
        folders["val"] = _val_folder(root)
    there = {s: name for s, name in folders.items() if s in params or (root / name).is_dir()}
    for split in ("train", *there):
        if not (root / folders[split]).is_dir():
            message = (
                f"no folder {str(root / folders[split])!r}; lay images out as "
                f"{root}/{folders[split]}/CLASS/IMAGE, and the same for the other splits"
            )
            raise MissingFileError(message)
    names = _classes(root / folders["train"])
    if not names:
        message = f"{root / folders['train']} holds no class folders with images in them"
        raise InputError(message)
    grey_bits = grey_bits_from(params)
    walks = {split: _walked(root, folder, names) for split, folder in there.items()}
    return ImageData(
        name="imagefolder",
        class_names=names,
        splits={split: _split(root, walk, names, grey_bits) for split, walk in walks.items()},
        shots=shots_from(params, Shots()),
        settings={} if grey_bits is None else {"grey_bits": grey_bits},
        passed_over=_notes(root, there, walks),
    )


def _val_folder(root: Path) -> str:
    """Return which folder holds the images to choose on: val, or the one that is called alike.

    Raises
    ------
    InputError
        There are several of other names, and none is called val.
    """
    found = [name for name in VAL_NAMES if (root / name).is_dir()]
    if len(found) > 1 and found[0] != "val":
        message = f"{root} has {' and '.join(found)}; name the folder to choose on with val=NAME"
        raise InputError(message)
    return found[0] if found else "val"


@dataclass
class _Walk:
    """What lies below the folder of a split: images by class, and what was passed over.

    `images` are paths from the data's root; `others` counts files by their suffix; `hidden` and
    `circles` are folders.
    """

    images: dict[str, list[str]] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    hidden: list[str] = field(default_factory=list)
    circles: list[str] = field(default_factory=list)


def _split(root: Path, walk: _Walk, names: Sequence[str], grey_bits: int | None) -> ImageSplit:
    """Return the images of a walk with their labels."""
    index = {name: label for label, name in enumerate(names)}
    paths = [path for images in walk.images.values() for path in images]
    labels = [index[name] for name, images in walk.images.items() for _ in images]
    files = ImageFiles(root, paths, find_files(root, paths), grey_bits)
    return ImageSplit(paths, np.array(labels, np.int64), files)


def _walked(root: Path, folder: str, names: Sequence[str]) -> _Walk:
    """Read the class folders of a split."""
    walk, known = _Walk(), set(names)
    for entry in _entries(root / folder):
        if not _is_folder(entry):
            outside = " outside of class folders" if _is_image(entry.name) else ""
            walk.others[_kind(entry.name) + outside] += 1
        elif _is_hidden(entry.name):
            walk.hidden.append(entry.name)
        else:
            if entry.name not in known:
                raise _unknown_class(root / folder, entry.name, names)
            found = _images(root / folder, entry.name, walk)
            walk.images[entry.name] = sorted(f"{folder}/{entry.name}/{path}" for path in found)
    return walk


def _unknown_class(folder: Path, name: str, names: Sequence[str]) -> InputError:
    """Say that train does not have a class."""
    near = [each for each in names if same_looking(each) == same_looking(name)]
    hint = f"; its {near[0]!r} differs by case or by Unicode form" if near else ""
    return InputError(f"{folder / name}: train has no class {name!r}{hint}")


def _classes(folder: Path) -> list[str]:
    """Return the names of the class folders, sorted."""
    return [
        each.name for each in _entries(folder) if _is_folder(each) and not _is_hidden(each.name)
    ]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what lies in a folder, by name.

    Raises
    ------
    InputError
        It cannot be read, or the name of an image or folder in it is not UTF-8 and could not be
        written down as an id.
    """
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        message = f"cannot read folder {str(folder)!r}: {error.strerror or error}"
        raise InputError(message) from error
    bad = [
        entry.name
        for entry in entries
        if not _is_utf8(entry.name) and (_is_image(entry.name) or _is_folder(entry))
    ]
    if bad:
        message = (
            f"{len(bad)} names in {folder} are not UTF-8 (first: {os.fsencode(bad[0])!r}), and ids "
            "are text; rename them (convmv does)"
        )
        raise InputError(message)
    return entries


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a symbolic link that leads to itself
        return False


def _is_hidden(name: str) -> bool:
    return name[0] == "." or name in _OF_SYSTEMS


def _is_image(name: str) -> bool:
    """Tell whether a file is an image by its name."""
    return PurePath(name).suffix.lower() in SUFFIXES and name[0] != "."


def _kind(name: str) -> str:
    """Return the kind under which a file that is passed over is counted."""
    return "hidden" if name[0] == "." else PurePath(name).suffix.lower() or "without a suffix"


def _images(split: Path, name: str, walk: _Walk) -> Iterator[str]:
    """Yield the images below a class folder, by their paths from it.

    Real folders come before links to folders, so that where both lead to one place its images are
    named by the real one. A link to where one has been already, or to a folder that holds the
    class folder, is noted and not followed.
    """
    seen = {_place(each) for each in (split.resolve(), *split.resolve().parents)}
    real, links = [""], list[str]()
    while real or links:
        inner = real.pop(0) if real else links.pop(0)
        folder = split / name / inner
        place = _place(folder)
        if place in seen:
            walk.circles.append(f"{name}/{inner}".rstrip("/"))
            continue
        seen.add(place)
        for entry in _entries(folder):
            path = f"{inner}/{entry.name}" if inner else entry.name
            if _is_folder(entry):
                if _is_hidden(entry.name):
                    walk.hidden.append(f"{name}/{path}")
                else:
                    (links if entry.is_symlink() else real).append(path)
            elif _is_image(entry.name):
                yield path
            else:
                walk.others[_kind(entry.name)] += 1


def _place(folder: Path) -> tuple[int, int]:
    """Return the device and number of a folder, by which it is known whatever path leads to it."""
    found = folder.stat()
    return found.st_dev, found.st_ino


def _notes(root: Path, there: Mapping[str, str], walks: Mapping[str, _Walk]) -> list[str]:
    """Say, split by split, what was passed over."""
    notes = []
    for split, walk in walks.items():
        empty = [name for name, images in walk.images.items() if not images]
        others = sorted(walk.others.items(), key=lambda each: (-each[1], each[0]))
        counts = [f"{count} {kind}" for kind, count in others]
        for what, names in (
            (f"{sum(walk.others.values())} files", counts),
            ("hidden folders", walk.hidden),
            ("links to folders that are read already", walk.circles),
        ):
            if names:
                notes.append(f"{split}: passed over {what} ({listed(names, 6)})")
        if empty:
            notes.append(f"{split}: no images in the class folders {listed(empty, 6)}")
    used = {PurePath(name).parts[0] for name in there.values()}
    unused = sorted(each.name for each in os.scandir(root) if _is_folder(each))
    unused = [name for name in unused if name not in used and not _is_hidden(name)]
    if unused:
        notes.append(
            f"{printable(str(root))}: passed over the folders {listed(unused, 6)}, which are no "
            "splits; val=NAME or test=NAME makes one of them a split"
        )
    return notes
