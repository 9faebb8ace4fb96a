"""Extraction: frozen features of every split, into a bank."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from featbank.backbones.backbones import TINY_CNN
from featbank.bank.leakage import Leak, find_leaks, refuse_leaks
from featbank.bank.plan import BankPlan, Span
from featbank.bank.rows import SplitRows
from featbank.bank.writer import BankWriter
from featbank.data import open_data
from featbank.data.formats.files import listed_leaks, require_readable
from featbank.data.provenance import data_record, transform_record, versions
from featbank.data.transforms import augmentation, eval_transform
from featbank.data.types import ImageData, ImageSplit
from featbank.errors import InputError, StaleError
from featbank.extraction.batchnorm import REFRESHES, record
from featbank.extraction.network import Foundation, Frozen, from_checkpoint, from_foundation
from featbank.extraction.runner import Extraction, Rows, refresh
from featbank.runs.checkpoint import Checkpoint, find_checkpoint, read_checkpoint
from featbank.runtime.device import device_name, one_thread, resolve_device
from featbank.runtime.names import require_known
from featbank.runtime.progress import SILENT, Reporter
from featbank.runtime.ranks import Ranks
from featbank.runtime.rng import isolated_torch
from featbank.store.values import lost_columns

__all__ = ["ON_BAD_IMAGE", "extract"]

ON_BAD_IMAGE = ("error", "skip")


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
) -> dict[str, Any]:
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
        Of both; nothing else is drawn.
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
    dict
        ``bank``, ``checkpoint`` and ``epoch`` (None where there is none), ``up_to_date`` (True
        where nothing had to be done), ``dim``, ``views``, ``classifier`` (whether there is one),
        ``rows`` and ``skipped`` by split; ``notes`` on the data (what was passed over, the same
        image in two places); of a `Foundation`'s file ``loaded``, what matched.

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
    require_known("choice for bad images", on_bad_image, ON_BAD_IMAGE)
    require_known("BatchNorm refresh", bn_refresh, REFRESHES)
    if batch_size < (least := 1 if bn_refresh == "none" else 2):
        message = f"batch_size must be at least {least}; got {batch_size}"
        raise InputError(message)
    frozen, images = _open(source, which, data)
    if on_bad_image == "error":
        require_readable(
            images, "mend it, or leave such images out with --on-bad-image skip --overwrite"
        )
    if strict:
        refuse_leaks(listed_leaks(images))
    if frozen.about.get("report"):
        reporter.say(frozen.about["report"])
    plain = eval_transform(frozen.input)
    varied = augmentation(frozen.input, frozen.augment, images.photographs, images.native_size)
    with Ranks.join() as ranks, one_thread(frozen.backbone == TINY_CNN):
        for note in images.notes if ranks.first else ():
            reporter.warn(note)
        where = resolve_device(device, ranks.local)
        how = (where, batch_size, workers, use_autocast, views, seed, ranks)
        job = Extraction(frozen, plain, varied, *how)
        bad = job.scan(images, reporter) if on_bad_image == "skip" else {}
        kept = {name: _readable(split, bad.get(name, ())) for name, split in images.splits.items()}
        if bn_refresh != "none":
            job.refresh_batchnorm(images.splits["train"], kept["train"], reporter)
        plan = _plan(images, job, kept, dtype, refreshed=bn_refresh != "none")
        replacing = {"overwrite": overwrite, "replace_in_place": replace_in_place}
        begin = partial(_begin, out, plan, replacing, images, kept, check_images)
        up_to_date, leaks = _write(job, begin, images, kept, reporter, strict=strict)
    return {
        "bank": str(out),
        **{name: value for name, value in frozen.about.items() if name != "report"},
        "up_to_date": up_to_date,
        "dim": plan.dim,
        "classifier": frozen.classifier is not None,
        "views": views,
        "rows": {name: len(rows) for name, rows in kept.items()},
        "skipped": {name: len(ids) for name, ids in plan.skipped.items()},
        "notes": [*images.notes, *leaks],
    }


def _begin(
    out: str | Path,
    plan: BankPlan,
    replacing: Mapping[str, bool],
    images: ImageData,
    kept: Mapping[str, Rows],
    check_images: bool,
    ranks: Ranks,
) -> tuple[BankWriter, list[Span]]:
    """Begin the bank, or go on; return its writer, and the chunks that are missing.

    The first process of a job does it, for all of them; the others join in when it has.
    """
    if not ranks.first:
        begun = ranks.share(None)
        todo = [Span(*each) for each in begun["todo"]]
        return BankWriter.join(out, plan, ranks.rank, todo, beside=begun["beside"]), todo
    writer = BankWriter.begin(out, plan, update=True, **replacing)
    with writer.place.released_on_error():
        for name, split in images.splits.items():
            refresh(writer, name, split, kept[name], digests=check_images)
        if ranks.size > 1:
            writer.lock.share()
        begun = ranks.share({"beside": writer.place.is_beside, "todo": [*writer.missing()]})
        return writer, begun["todo"]


def _write(
    job: Extraction,
    begin: Callable[[Ranks], tuple[BankWriter, list[Span]]],
    images: ImageData,
    kept: Mapping[str, Rows],
    reporter: Reporter,
    *,
    strict: bool,
) -> tuple[bool, list[str]]:
    """Write what is missing, each process its part; the first commits.

    Return whether nothing was missing, and what the images' digests say of leakage.
    """
    leaks: list[Leak] = []
    writer, todo = begin(job.ranks)
    with writer:
        if writer.place.is_beside:
            reporter.say(
                f"{writer.place.out} stays until the new bank is whole, which is built in "
                f"{writer.store}"
            )
        for name, split in images.splits.items():
            spans = job.ranks.mine([span for span in todo if span[0] == name])
            job.fill(writer, name, split, kept[name], spans, reporter)
        reports = job.ranks.gather(writer.report())
        if job.ranks.first:
            writer.take_over(reports)
            leaks = find_leaks(writer.plan.rows, _digests(writer))
            if strict:
                refuse_leaks(leaks)
            for leak in leaks:
                reporter.warn(str(leak))
            writer.commit()
        job.ranks.share(None)  # the others end well only when the bank is whole
    for line in lost_columns(writer.rounded, writer.plan.dtype):
        reporter.warn(line)
    return writer.up_to_date, [str(leak) for leak in leaks]


def _digests(writer: BankWriter) -> dict[str, NDArray[np.uint8]]:
    """Return the digests (N, 32) of the images of every split's rows, all of which are there."""
    return {
        name: np.concatenate([hashes for *_, hashes in writer.recorded_images(name)])
        for name in writer.plan.rows
    }


def _open(
    source: str | Path | Foundation, which: str, data: ImageData | None
) -> tuple[Frozen, ImageData]:
    """Return the network, frozen, and the images for it."""
    if isinstance(source, Foundation):
        if data is None:
            message = f"backbone {source.backbone!r} was trained on no data of ours: give --data"
            raise InputError(message)
        return from_foundation(source, data), data
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


def _readable(split: ImageSplit, bad: Rows | tuple[()]) -> Rows:
    """Return the rows of a split that are extracted, in order."""
    return np.setdiff1d(np.arange(len(split)), bad, assume_unique=True)


def _plan(
    images: ImageData, job: Extraction, kept: Mapping[str, Rows], dtype: str, *, refreshed: bool
) -> BankPlan:
    """Return all that is known of the bank before the first feature."""
    ids = {name: np.asarray(split.ids, dtype=object) for name, split in images.splits.items()}
    return BankPlan(
        dim=job.frozen.dim,
        rows={
            name: SplitRows(ids[name][kept[name]].tolist(), split.labels[kept[name]])
            for name, split in images.splits.items()
        },
        class_names=list(images.class_names),
        dtype=dtype,
        classifier=job.frozen.classifier,
        shots=images.shots,
        provenance=_provenance(images, job, dtype, refreshed=refreshed),
        skipped={name: np.delete(ids[name], kept[name]).tolist() for name in ids},
        batch=job.batch_size,
        images=True,
        views=job.views,
    )


def _provenance(
    images: ImageData, job: Extraction, dtype: str, *, refreshed: bool
) -> dict[str, Any]:
    """Return all that changes a feature. No path and no time: the same work, the same record."""
    how: dict[str, Any] = {}
    if job.views:
        with isolated_torch(0):  # it draws, also on the image that its fingerprint is of
            how["views"] = {"seed": job.seed, "transform": transform_record(job.varied)}
    if refreshed:
        how["batchnorm"] = record(job.frozen.network, job.seed, job.batch_size)
    coarse = job.use_autocast and job.device.type == "cuda"
    return {
        "checkpoint": job.frozen.digest,
        "layer": job.frozen.layer,
        "backbone": job.frozen.backbone,
        "transform": transform_record(job.transform),
        "data": data_record(images),
        "dtype": dtype,
        "autocast": "bfloat16" if coarse else "none",
        "device": device_name(job.device),
        "versions": versions(),
        **how,
        **({} if job.frozen.recipe is None else {"recipe": dict(job.frozen.recipe)}),
    }
