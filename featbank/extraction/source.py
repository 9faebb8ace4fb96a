"""Where an extraction begins: a training or a backbone, and the images for it."""

from __future__ import annotations

from pathlib import Path

from featbank.data import open_data
from featbank.data.provenance import data_record
from featbank.data.types import ImageData
from featbank.errors import InputError, StaleError
from featbank.extraction.network import Foundation, Frozen, from_checkpoint, from_foundation
from featbank.runs.checkpoint import Checkpoint, find_checkpoint, read_checkpoint

__all__ = ["open_source"]


def open_source(
    source: str | Path | Foundation, which: str, data: ImageData | None
) -> tuple[Frozen, ImageData]:
    """Return the network, frozen, and the images for it.

    Raises
    ------
    InputError
        No images are given where the source does not tell which, or weights do not fit.
    StaleError
        The images are not those of the training, or have other classes.
    """
    if isinstance(source, Foundation):
        if data is None:
            message = f"backbone {source.backbone!r} was trained on no data of ours: give --data"
            raise InputError(message)
        return from_foundation(source, data.native_size, len(data.class_names)), data
    path = find_checkpoint(source, which)
    checkpoint = read_checkpoint(path)
    return from_checkpoint(checkpoint, str(path)), _data_of(checkpoint, data)


def _data_of(checkpoint: Checkpoint, data: ImageData | None) -> ImageData:
    """Return the images to extract, which must have the checkpoint's classes."""
    record = checkpoint.record
    if data is None and "name" not in record["data_spec"]:
        message = "this training's images came from Python, and not by a name: give data again"
        raise InputError(message)
    images = open_data(**record["data_spec"]) if data is None else data
    if list(images.class_names) != record["class_names"]:
        message = (
            f"the data set has {len(images.class_names)} classes that are not the "
            f"{len(record['class_names'])} of the checkpoint; give the data it was trained on"
        )
        raise StaleError(message)
    now, then = data_record(images)["lists"], record["data"]["lists"]
    changed = sorted(name for name in now | then if now.get(name) != then.get(name))
    if data is None and changed:
        message = (
            f"split {' and '.join(changed)} of {images.name} is no longer what it was in training; "
            "put the old list back, or name the data set with --data to extract it as it is now"
        )
        raise StaleError(message)
    return images
