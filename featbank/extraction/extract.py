"""Extraction: frozen features of every split, into a bank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from featbank.backbones.backbones import TINY_CNN
from featbank.bank.leakage import refuse_leaks
from featbank.data.formats.files import listed_leaks, require_readable
from featbank.data.transforms import augmentation, eval_transform
from featbank.data.types import ImageData
from featbank.errors import InputError
from featbank.extraction.batchnorm import REFRESHES
from featbank.extraction.images import KeptImages
from featbank.extraction.network import Foundation, NetworkSource
from featbank.extraction.planning import extraction_plan
from featbank.extraction.runner import Compute, Extraction, Variation
from featbank.extraction.source import open_source
from featbank.extraction.writing import Target, write_bank
from featbank.runtime.device import one_thread, resolve_device
from featbank.runtime.names import require_known
from featbank.runtime.progress import SILENT, Reporter
from featbank.runtime.ranks import Ranks

__all__ = ["ON_BAD_IMAGE", "Extracted", "extract"]

ON_BAD_IMAGE = ("error", "skip")


@dataclass(frozen=True)
class Extracted:
    """What an extraction made.

    Attributes
    ----------
    bank : str
        The bank's path.
    source : NetworkSource
        Where the network comes from.
    up_to_date : bool
        Whether all was there and nothing had to be done.
    dim, views : int
        The width of a row, and how many augmented views of each training image there are.
    classifier : bool
        Whether the bank has the classifier that was trained on the features.
    rows, skipped : mapping
        The rows of each split, and the images that were left out.
    notes : tuple of str
        What there is to know of the data: what was passed over, the same image in two places.
    """

    bank: str
    source: NetworkSource
    up_to_date: bool
    dim: int
    classifier: bool
    views: int
    rows: Mapping[str, int]
    skipped: Mapping[str, int]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of schema 1 that the command line writes."""
        loaded = self.source.loaded
        return {
            "schema": 1,
            "bank": self.bank,
            "checkpoint": self.source.checkpoint,
            "epoch": self.source.epoch,
            **({} if loaded is None else {"loaded": loaded.to_json()}),
            "up_to_date": self.up_to_date,
            "dim": self.dim,
            "classifier": self.classifier,
            "views": self.views,
            "rows": dict(self.rows),
            "skipped": dict(self.skipped),
            "notes": list(self.notes),
        }


def extract(  # noqa: PLR0913 - one for every option of the command
    source: str | Path | Foundation,
    out: str | Path,
    *,
    which: str = "best",
    data: ImageData | None = None,
    dtype: str = "float16",
    device: str | torch.device = "auto",
    batch_size: int = 64,
    workers: int = 0,
    use_autocast: bool = False,
    on_bad_image: str = "error",
    check_images: bool = False,
    views: int = 0,
    bn_refresh: str = "none",
    seed: int = 0,
    overwrite: bool = False,
    strict: bool = False,
    replace_in_place: bool = False,
    reporter: Reporter = SILENT,
) -> Extracted:
    """Write the features of every split into a bank, and the classifier that was trained on them.

    An extraction that was interrupted goes on where it stopped, to the same bits. A complete bank
    that was made from the same is checked, and only rows that are damaged are made again.

    Parameters
    ----------
    source
        Folder of a training, or one checkpoint file; or a `Foundation`, a backbone that was
        trained elsewhere. The bank of one has no classifier.
    out
        The bank.
    which
        Of a folder: its ``best`` checkpoint (the last one where there is none) or its ``last``.
    data
        Images to extract; those that were trained on, opened again, when None. A `Foundation`
        needs them.
    dtype
        How features are stored: float16 or float32.
    device
        auto, cpu, cuda or cuda:i.
    batch_size, workers
        Images at a time, and processes that decode them. Every batch has this size, the last
        one filled up, so a row's bits depend on its place in the split and on nothing else.
    use_autocast
        bfloat16 on CUDA: faster, coarser, and recorded.
    on_bad_image
        ``error``: stop at the first image that cannot be read. ``skip``: decode every image once
        before, leave out the rows of those that cannot be read, and record their ids.
    check_images
        Compare the digest of every image with the one recorded for rows that are there already,
        not only its size.
    views
        Also bank the features of so many augmented views of each training image.
    bn_refresh
        ``class-balanced``: first take the BatchNorm statistics anew, on class-balanced batches of
        augmented training images.
    seed
        Seed of the augmented views and of the batches for `bn_refresh`; nothing else is drawn.
    overwrite
        Replace a bank when the new one is whole; until then the old one stays as it is, and an
        interrupted attempt goes on beside it.
    replace_in_place
        With `overwrite`, remove the old bank first, for disks that cannot hold both.
    strict
        Refuse, rather than note, the same image in two splits or with two labels. What only the
        images' digests tell is known when all are read, and leaves the bank unfinished.
    reporter
        Is told about every split and batch.

    Returns
    -------
    Extracted
        What there is in the bank now.

    Raises
    ------
    InputError
        Images cannot be read, weights do not fit or cannot be fetched, or features overflow
        `dtype` or are not finite.
    StaleError
        The data set is no longer the one that was trained on, or has other classes; or the bank
        there was made from something else.
    DamagedError
        The checkpoint is.
    WorkerError
        A process that loads images has failed.
    """
    skip, refreshed = on_bad_image == "skip", bn_refresh != "none"
    require_known("choice for bad images", on_bad_image, ON_BAD_IMAGE)
    require_known("BatchNorm refresh", bn_refresh, REFRESHES)
    if batch_size < (least := 2 if refreshed else 1):
        message = f"batch_size must be at least {least}; got {batch_size}"
        raise InputError(message)
    target = Target(out, overwrite, replace_in_place, check_images, strict)
    frozen, images = open_source(source, which, data)
    _check_images(images, skip=skip, strict=strict)
    if frozen.source.loaded is not None:
        reporter.say(str(frozen.source.loaded))
    plain = eval_transform(frozen.input)
    varied = augmentation(frozen.input, frozen.augment, images.photographs, images.native_size)
    with Ranks.join() as ranks, one_thread(frozen.backbone == TINY_CNN):
        for note in images.notes if ranks.first else ():
            reporter.warn(note)
        where = resolve_device(device, ranks.local)
        compute = Compute(where, batch_size, workers, use_autocast)
        job = Extraction(frozen, plain, Variation(varied, seed, views), compute, ranks)
        kept = KeptImages.without(images, job.scan(images, reporter) if skip else {})
        if refreshed:
            job.refresh_batchnorm(kept, reporter)
        plan = extraction_plan(job, kept, dtype, refreshed=refreshed)
        written = write_bank(job, target, plan, kept, reporter)
    return Extracted(
        bank=str(out),
        source=frozen.source,
        up_to_date=written.up_to_date,
        dim=plan.dim,
        classifier=frozen.classifier is not None,
        views=views,
        rows={name: len(rows) for name, rows in kept.rows.items()},
        skipped={name: len(ids) for name, ids in plan.skipped.items()},
        notes=(*images.notes, *written.leaks),
    )


def _check_images(images: ImageData, *, skip: bool, strict: bool) -> None:
    """Refuse images that are listed and not there, unless they are skipped, and listed leaks."""
    if not skip:
        require_readable(
            images, "mend it, or leave such images out with --on-bad-image skip --overwrite"
        )
    if strict:
        refuse_leaks(listed_leaks(images))
