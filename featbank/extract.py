"""Extraction: frozen features of every split, from a checkpoint into a bank."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from featbank.backbones import Split, build_model, split_classifier
from featbank.checkpoint import Checkpoint, find_checkpoint, read_checkpoint
from featbank.config import TrainConfig
from featbank.data import open_data
from featbank.data.loader import Batch, BatchPlan, eval_batches, image_loader
from featbank.data.transforms import InputSpec, Transform, eval_transform
from featbank.data.types import ImageData, ImageSplit
from featbank.device import autocast, device_name, resolve_device
from featbank.errors import InputError, StaleError
from featbank.names import require_known
from featbank.progress import SILENT, Reporter
from featbank.provenance import data_record, tensors_digest, transform_record, versions
from featbank.train import load_weights
from featbank.writer import BankWriter

__all__ = ["ON_BAD_IMAGE", "extract"]

ON_BAD_IMAGE = ("error", "skip")
_SHOWN = 3


def extract(
    run_or_checkpoint: str | Path,
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
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Write the penultimate features of every split into a bank, and the classifier on them.

    Parameters
    ----------
    run_or_checkpoint
        Folder of a training, or one checkpoint file.
    out
        The bank.
    which
        Of a folder: its ``best`` checkpoint (the last one where there is none) or its ``last``.
    data
        Images to extract; those that were trained on, opened again, when None.
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
        ``error``: look at every image, then refuse, naming those that cannot be read. ``skip``:
        leave their rows out and record their ids in the bank.
    overwrite
        Replace a bank.
    reporter
        Is told about every split and batch.

    Returns
    -------
    dict
        ``bank``, ``checkpoint``, ``epoch``, ``dim``, ``rows`` and ``skipped`` by split.

    Raises
    ------
    InputError
        Images cannot be read, or features overflow `dtype` or are not finite.
    StaleError
        The data set is no longer the one that was trained on, or has other classes.
    DamagedError
        The checkpoint is.
    """
    require_known("choice for bad images", on_bad_image, ON_BAD_IMAGE)
    if batch_size < 1:
        message = f"batch_size must be at least 1; got {batch_size}"
        raise InputError(message)
    where, path = resolve_device(device), find_checkpoint(run_or_checkpoint, which)
    checkpoint = read_checkpoint(path)
    images = _data_of(checkpoint, data)
    spec = InputSpec.from_json(checkpoint.record["input"])
    network = _network_of(checkpoint, spec, str(path))
    transform = eval_transform(spec)
    job = _Extraction(network, transform, spec.size, where, batch_size, workers, use_autocast)
    with BankWriter.create(
        out,
        dim=network.classifier.in_features,
        dtype=dtype,
        class_names=list(images.class_names),
        shots=images.shots,
        provenance=_provenance(checkpoint, images, job, dtype),
        overwrite=overwrite,
    ) as writer:
        job.fill(writer, images, reporter, skip_bad=on_bad_image == "skip")
        if on_bad_image == "error":
            job.refuse_bad()
        job.record_skipped(writer, images)
        writer.set_classifier(network.weight.numpy(), network.bias.numpy())
        writer.commit()
    return {
        "bank": str(out),
        "checkpoint": str(path),
        "epoch": checkpoint.record["epoch"],
        "dim": network.classifier.in_features,
        "rows": {name: len(split) - len(job.bad[name]) for name, split in images.splits.items()},
        "skipped": {name: len(bad) for name, bad in job.bad.items()},
    }


def _data_of(checkpoint: Checkpoint, data: ImageData | None) -> ImageData:
    """Return the images to extract, which must have the checkpoint's classes."""
    record = checkpoint.record
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


def _network_of(checkpoint: Checkpoint, spec: InputSpec, source: str) -> Split:
    """Return the checkpoint's network in two, on the CPU, in eval mode, frozen."""
    record = checkpoint.record
    name = TrainConfig.from_json(record["config"]).backbone
    model = build_model(name, len(record["class_names"]), spec.size)
    load_weights(model, checkpoint.model, source)
    model.eval().requires_grad_(False)
    return split_classifier(model, spec.size)


def _provenance(
    checkpoint: Checkpoint, images: ImageData, job: _Extraction, dtype: str
) -> dict[str, Any]:
    """Return all that changes a feature. No path and no time: the same work, the same record."""
    coarse = job.use_autocast and job.device.type == "cuda"
    return {
        "checkpoint": tensors_digest(checkpoint.model),
        "layer": job.network.layer,
        "backbone": checkpoint.record["config"]["backbone"],
        "transform": transform_record(job.transform),
        "data": data_record(images),
        "dtype": dtype,
        "autocast": "bfloat16" if coarse else "none",
        "device": device_name(job.device),
        "versions": versions(),
    }


@dataclass
class _Extraction:
    """A frozen network and how it is run; `bad` says why a row of a split has no features."""

    network: Split
    transform: Transform
    size: int
    device: torch.device
    batch_size: int
    workers: int
    use_autocast: bool
    bad: dict[str, dict[int, str]] = field(default_factory=dict)

    def fill(
        self, writer: BankWriter, images: ImageData, reporter: Reporter, *, skip_bad: bool
    ) -> None:
        """Write every row that can be read.

        Unless bad images are to be skipped, the first one ends the writing, and from there on
        images are only read, to name them all at once.
        """
        self.network.backbone.to(self.device)
        for name, split in images.splits.items():
            bad = self.bad.setdefault(name, {})
            with reporter.track(f"extract {name}", len(split), "images") as advance:
                for batch in self.batches(split):
                    bad.update(batch.bad)
                    rows = np.unique(batch.rows)  # the last batch is filled up with its last row
                    if skip_bad or not any(self.bad.values()):
                        self.append(writer, name, split, batch)
                    advance(len(rows))

    def batches(self, split: ImageSplit) -> Iterable[Batch]:
        """Return the split's images in order, in batches of one size."""
        plan = BatchPlan(eval_batches(len(split), self.batch_size))
        pin = self.device.type == "cuda"
        return image_loader(split, self.transform, self.size, plan, workers=self.workers, pin=pin)

    def append(self, writer: BankWriter, name: str, split: ImageSplit, batch: Batch) -> None:
        """Write the batch's rows, each once, without those that could not be read."""
        rows, places = np.unique(batch.rows, return_index=True)
        readable = ~np.isin(rows, list(batch.bad))
        rows, places = rows[readable], places[readable]
        if rows.size:
            ids = [split.ids[row] for row in rows]
            writer.append(name, ids, split.labels[rows], self.features(batch)[places])

    def features(self, batch: Batch) -> NDArray[np.float32]:
        """Return the features (B, D) of a batch."""
        with torch.inference_mode(), autocast(self.device, self.use_autocast):
            features = self.network.backbone(batch.images.to(self.device, non_blocking=True))
        array: NDArray[np.float32] = features.float().cpu().numpy()
        return array

    def refuse_bad(self) -> None:
        """Raise `InputError` if any image could not be read."""
        reasons = [reason for bad in self.bad.values() for reason in bad.values()]
        if reasons:
            more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
            message = (
                f"{len(reasons)} images cannot be used: {'; '.join(reasons[:_SHOWN])}{more}; "
                "mend them, or leave them out with --on-bad-image skip"
            )
            raise InputError(message)

    def record_skipped(self, writer: BankWriter, images: ImageData) -> None:
        """Record the ids of rows that are left out; a split must keep at least one row."""
        for name, bad in self.bad.items():
            split = images.splits[name]
            if len(bad) == len(split):
                message = f"no image of split {name!r} can be used; the first: {bad[0]}"
                raise InputError(message)
            if bad:
                writer.skip(name, [split.ids[row] for row in sorted(bad)])
