"""Extraction: frozen features of every split, into a bank."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from featbank.backbones import TINY_CNN
from featbank.checkpoint import Checkpoint, find_checkpoint, read_checkpoint
from featbank.data import open_data
from featbank.data.loader import Batch, BatchPlan, Key, image_loader
from featbank.data.transforms import Transform, eval_transform
from featbank.data.types import ImageData, ImageSplit
from featbank.device import autocast, device_name, one_thread, resolve_device
from featbank.errors import InputError, StaleError
from featbank.frozen import Foundation, Frozen, from_checkpoint, from_foundation
from featbank.names import require_known
from featbank.plan import BankPlan
from featbank.progress import SILENT, Reporter
from featbank.provenance import data_record, transform_record, versions
from featbank.rows import SplitRows
from featbank.writer import BankWriter

__all__ = ["ON_BAD_IMAGE", "extract"]

ON_BAD_IMAGE = ("error", "skip")

Rows = NDArray[np.int64]


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
    overwrite: bool = False,
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
    overwrite
        Replace a bank.
    reporter
        Is told about every split and batch.

    Returns
    -------
    dict
        ``bank``, ``checkpoint`` and ``epoch`` (None where there is none), ``up_to_date`` (True
        where nothing had to be done), ``dim``, ``classifier`` (whether there is one), ``rows``
        and ``skipped`` by split; of a `Foundation`'s file ``loaded``, what matched.

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
    """
    require_known("choice for bad images", on_bad_image, ON_BAD_IMAGE)
    if batch_size < 1:
        message = f"batch_size must be at least 1; got {batch_size}"
        raise InputError(message)
    frozen, images = _open(source, which, data)
    if frozen.about.get("report"):
        reporter.say(frozen.about["report"])
    where = resolve_device(device)
    transform = eval_transform(frozen.input)
    job = _Job(frozen, transform, frozen.input.size, where, batch_size, workers, use_autocast)
    bad = job.scan(images, reporter) if on_bad_image == "skip" else {}
    kept = {name: _readable(split, bad.get(name, ())) for name, split in images.splits.items()}
    plan = _plan(images, job, kept, dtype)
    tiny = frozen.backbone == TINY_CNN
    with (
        one_thread(tiny),
        BankWriter.begin(out, plan, overwrite=overwrite, update=True) as writer,
    ):
        for name, split in images.splits.items():
            refresh(writer, name, split, kept[name], digests=check_images)
        for name, split in images.splits.items():
            job.fill(writer, name, split, kept[name], reporter)
        writer.commit()
    return {
        "bank": str(out),
        **{name: value for name, value in frozen.about.items() if name != "report"},
        "up_to_date": writer.up_to_date,
        "dim": plan.dim,
        "classifier": frozen.classifier is not None,
        "rows": {name: len(rows) for name, rows in kept.items()},
        "skipped": {name: len(ids) for name, ids in plan.skipped.items()},
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


def _plan(images: ImageData, job: _Job, kept: Mapping[str, Rows], dtype: str) -> BankPlan:
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
        provenance=_provenance(images, job, dtype),
        skipped={name: np.delete(ids[name], kept[name]).tolist() for name in ids},
        batch=job.batch_size,
        images=True,
    )


def _provenance(images: ImageData, job: _Job, dtype: str) -> dict[str, Any]:
    """Return all that changes a feature. No path and no time: the same work, the same record."""
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
        **({} if job.frozen.recipe is None else {"recipe": dict(job.frozen.recipe)}),
    }


def refresh(writer: BankWriter, name: str, split: ImageSplit, rows: Rows, *, digests: bool) -> None:
    """Compare the images of rows that are there with what was recorded when they were decoded.

    In an unfinished bank, rows of changed images are made again; in a complete one they are
    refused, since nobody asked to replace it.
    """
    for start, stop, sizes, hashes in writer.recorded_images(name):
        now = [split.images.n_bytes(int(row)) for row in rows[start:stop]]
        changed = np.asarray(now) != sizes
        if digests and not changed.any():
            read = [hashlib.sha256(split.images.raw(int(row))).digest() for row in rows[start:stop]]
            changed = (np.frombuffer(b"".join(read), np.uint8).reshape(-1, 32) != hashes).any(
                axis=1
            )
        if not changed.any():
            continue
        if writer.up_to_date:
            first = split.ids[int(rows[start + int(np.flatnonzero(changed)[0])])]
            message = (
                f"{writer.store}: images of split {name!r} have changed since they were extracted "
                f"(first: {first}); add --overwrite to extract them again"
            )
            raise StaleError(message)
        writer.drop(name, start)


@dataclass
class _Job:
    """A frozen network and how it is run."""

    frozen: Frozen
    transform: Transform
    size: int
    device: torch.device
    batch_size: int
    workers: int
    use_autocast: bool

    def scan(self, images: ImageData, reporter: Reporter) -> dict[str, Rows]:
        """Decode every image once; return the rows of each split that cannot be read."""
        bad: dict[str, Rows] = {}
        for name, split in images.splits.items():
            found: dict[int, str] = {}
            with reporter.track(f"check {name}", len(split), "images") as advance:
                for batch in self.batches(split, self.cut(np.arange(len(split)))):
                    found |= batch.bad
                    advance(min(self.batch_size, len(split)))
            for reason in found.values():
                reporter.say(f"left out: {reason}")
            if len(found) == len(split):
                message = f"no image of split {name!r} can be read; the first: {found[0]}"
                raise InputError(message)
            bad[name] = np.array(sorted(found), dtype=np.int64)
        return bad

    def fill(
        self, writer: BankWriter, name: str, split: ImageSplit, rows: Rows, reporter: Reporter
    ) -> None:
        """Write the chunks of a split that are not there yet."""
        spans = [(start, stop) for split_, start, stop in writer.missing() if split_ == name]
        cuts = [self.cut(rows[start:stop]) for start, stop in spans]
        batches = iter(self.batches(split, [batch for cut in cuts for batch in cut]))
        self.frozen.network.to(self.device)
        total = sum(stop - start for start, stop in spans)
        with reporter.track(f"extract {name}", total, "images") as advance:
            for (start, stop), cut in zip(spans, cuts, strict=True):
                parts = []
                for _ in cut:
                    batch = next(batches)
                    parts.append((self.features(batch), batch.sha256, batch.n_bytes))
                    advance(min(self.batch_size, stop - start))
                whole = [np.concatenate(each)[: stop - start] for each in zip(*parts, strict=True)]
                writer.put(name, start, whole[0], images=(whole[1], whole[2]))

    def cut(self, rows: Rows) -> list[Rows]:
        """Cut rows into batches of one size, the last filled up with its own last row.

        A network's output for a row can depend on the batch's size in the last bit, never on
        what else is in it. Chunks hold whole batches, so wherever an extraction begins again the
        same rows meet in batches of the same size.
        """
        places = np.arange(-(-len(rows) // self.batch_size) * self.batch_size)
        return list(rows[np.minimum(places, len(rows) - 1)].reshape(-1, self.batch_size))

    def batches(self, split: ImageSplit, rows: list[Rows]) -> Iterator[Batch]:
        """Yield batches of images."""
        plan = BatchPlan([[Key(int(row), 0, 0) for row in batch] for batch in rows])
        pin = self.device.type == "cuda"
        loader = image_loader(split, self.transform, self.size, plan, workers=self.workers, pin=pin)
        yield from loader

    def features(self, batch: Batch) -> NDArray[np.float32]:
        """Return the features (B, D) of a batch, all of whose images must be readable."""
        for reason in batch.bad.values():
            message = (
                f"{reason}; mend it, or leave such images out with --on-bad-image skip --overwrite"
            )
            raise InputError(message)
        with torch.inference_mode(), autocast(self.device, self.use_autocast):
            features = self.frozen.network(batch.images.to(self.device, non_blocking=True))
        array: NDArray[np.float32] = features.float().cpu().numpy()
        return array
