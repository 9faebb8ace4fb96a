"""Stage 1: train a network on long-tailed images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from featbank.backbones import (
    TINY_CNN,
    build_model,
    classifier_names,
    find_classifier,
    input_spec,
)
from featbank.checkpoint import BEST, LAST, Checkpoint
from featbank.config import TrainConfig
from featbank.data.loader import Batch, BatchPlan, eval_batches, image_loader, train_batches
from featbank.data.transforms import InputSpec, eval_transform, train_transform
from featbank.data.types import ImageData
from featbank.device import autocast, device_name, one_thread, resolve_device
from featbank.errors import InputError
from featbank.optim import (
    learning_rate,
    make_optimizer,
    optimizer_tensors,
    restore_optimizer,
    set_rate,
)
from featbank.progress import SILENT, Reporter
from featbank.provenance import data_record, versions
from featbank.rng import derive_seed, isolated_torch
from featbank.runs import clear_run, open_run, save_epoch, save_settings
from featbank.sampling import epoch_indices
from featbank.weights import load_file, load_weights, read_weights

__all__ = ["Metrics", "train"]

_Ints = NDArray[np.int64]

Metrics = Callable[[_Ints, _Ints, _Ints], Mapping[str, float | None]]
"""Labels (N,), predictions (N,), train counts (C,) to ``all``, ``many``, ``medium``, ``few``, …"""

# Reading the loss waits for the GPU; often enough to stop a diverged training within seconds.
_CUDA_STEPS_PER_CHECK = 50


def train(
    data: ImageData,
    data_spec: Mapping[str, Any],
    config: TrainConfig,
    out: str | Path,
    *,
    device: str | torch.device = "auto",
    metrics: Metrics,
    reporter: Reporter = SILENT,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train, writing into the folder `out` after every epoch.

    Parameters
    ----------
    data
        Its ``train`` split is trained on; ``val``, where there is one, chooses the best epoch.
    data_spec
        ``{"name": …, "params": {…}}``: how `open_data` gets `data` again, for extraction.
    config
        Everything that is chosen.
    out
        Gets ``last.safetensors``, ``best.safetensors`` (best ``all`` on val), ``run.json`` and
        ``metrics.csv``.
    device
        auto, cpu, cuda or cuda:i.
    metrics
        What to report of val predictions; must give ``all``.
    reporter
        Is told about every epoch and batch.
    resume
        Go on from ``last.safetensors``; on a CPU the result has the bits of an uninterrupted run.
    overwrite
        Replace a training that `out` holds.

    Returns
    -------
    dict
        ``run``, ``checkpoint``, ``epochs``, ``best`` (epoch and val metrics, or None), ``last``
        (the last epoch's entry in the history) and ``seconds``.

    Raises
    ------
    InputError
        The backbone is unknown or unusable, an image cannot be read, or the loss diverges.
    OutputExistsError, StaleError
        `out` holds something; or what is to be resumed was another training.
    """
    began = time.monotonic()
    run, where = Path(out), resolve_device(device)
    spec = input_spec(
        config.backbone, config.image_size, data.native_size, mean=config.mean, std=config.std
    )
    identity = _identity(data, data_spec, config, spec)
    previous = open_run(run, identity, resume=resume, overwrite=overwrite)
    session = _start(data, config, spec, identity, where, previous, reporter)
    if previous is None:
        clear_run(run)
    else:
        reporter.say(f"resuming {run} after epoch {session.record['epoch']} of {config.epochs}")
    settings = {**identity, "device": device_name(where), "versions": versions()}
    save_settings(run, settings)
    with one_thread(config.backbone == TINY_CNN):
        for epoch in range(session.record["epoch"], config.epochs):
            is_best = session.run_epoch(epoch, metrics, reporter)
            save_epoch(run, session.checkpoint(), is_best=is_best)
    return _summary(run, session.record, time.monotonic() - began)


def _identity(
    data: ImageData, data_spec: Mapping[str, Any], config: TrainConfig, spec: InputSpec
) -> dict[str, Any]:
    """Return everything that decides a training's result, as JSON."""
    return {
        "config": config.to_json(),
        "input": {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(spec).items()},
        "data": data_record(data),
        "data_spec": dict(data_spec),
        "class_names": list(data.class_names),
        "class_counts": data.counts.tolist(),
        "shots": data.shots.to_json(),
    }


def _summary(run: Path, record: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    best = record["best"]
    return {
        "run": str(run),
        "checkpoint": str(run / (BEST if best else LAST)),
        "epochs": record["epoch"],
        "best": best,
        "last": record["history"][-1],
        "seconds": seconds,
    }


def _start(
    data: ImageData,
    config: TrainConfig,
    spec: InputSpec,
    identity: Mapping[str, Any],
    device: torch.device,
    previous: Checkpoint | None,
    reporter: Reporter,
) -> _Session:
    """Build the network and its optimiser, new or as a checkpoint left them."""
    fresh = config.pretrained and previous is None
    n_classes = len(data.class_names)
    model = build_model(config.backbone, n_classes, spec.size, seed=config.seed, pretrained=fresh)
    if config.weights is not None and previous is None:
        weights, heads = read_weights(config.weights), classifier_names(config.backbone)
        reporter.say(str(load_file(model, weights, config.backbone, heads)))
    begun = {"layer": find_classifier(model, spec.size), "epoch": 0, "history": [], "best": None}
    if previous is not None:
        load_weights(model, previous.model, "the checkpoint")
    model = model.to(device)
    if config.channels_last and device.type == "cuda":
        model = model.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, config)
    if previous is not None:
        restore_optimizer(optimizer, previous.optimizer)
        begun = {name: previous.record[name] for name in begun}
    return _Session(data, config, spec, device, model, optimizer, {**identity, **begun})


class _Session:
    """A training under way."""

    def __init__(
        self,
        data: ImageData,
        config: TrainConfig,
        spec: InputSpec,
        device: torch.device,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        record: dict[str, Any],
    ) -> None:
        self.data, self.config, self.device = data, config, device
        self.model, self.optimizer, self.record = model, optimizer, record
        self.plan, self.eval_plan = BatchPlan(), BatchPlan()
        common: dict[str, Any] = {
            "seed": config.seed,
            "workers": config.workers,
            "pin": device.type == "cuda",
        }
        transform = train_transform(spec, data.photographs, pad_crop=_pad_crop(config, data, spec))
        self.loader = image_loader(data.splits["train"], transform, spec.size, self.plan, **common)
        if "val" in data.splits:
            self.eval_plan.batches = eval_batches(len(data.splits["val"]), config.batch_size)
            self.eval_loader = image_loader(
                data.splits["val"], eval_transform(spec), spec.size, self.eval_plan, **common
            )

    def checkpoint(self) -> Checkpoint:
        """Return the state to save."""
        tensors = self.model.state_dict()
        return Checkpoint(self.record, tensors, optimizer_tensors(self.optimizer))

    def run_epoch(self, epoch: int, metrics: Metrics, reporter: Reporter) -> bool:
        """Train one epoch, validate, extend the record; say whether it is the best so far."""
        with isolated_torch(derive_seed(self.config.seed, "epoch", epoch), self.device):
            loss = self.train_epoch(epoch, reporter)
        val = self.validate(metrics) if "val" in self.data.splits else None
        lr = self.optimizer.param_groups[0]["lr"]
        entry = {"epoch": epoch + 1, "lr": lr, "train_loss": loss, "val": val}
        best = self.record["best"]
        is_best = val is not None and (best is None or val["all"] > best["val"]["all"])
        self.record["epoch"] = epoch + 1
        self.record["history"] = [*self.record["history"], entry]
        self.record["best"] = {"epoch": epoch + 1, "val": val} if is_best else best
        reporter.say(_line(entry, self.config.epochs))
        return is_best

    def train_epoch(self, epoch: int, reporter: Reporter) -> float:
        """Return the mean loss over one pass of the sampler."""
        config, labels = self.config, self.data.splits["train"].labels
        order = epoch_indices(labels, config.sampler, config.seed, epoch, epochs=config.epochs)
        self.plan.batches = train_batches(order, epoch, config.batch_size)
        steps, every = len(self.plan), 1 if self.device.type == "cpu" else _CUDA_STEPS_PER_CHECK
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        self.model.train()
        label = f"epoch {epoch + 1}/{config.epochs}"
        with reporter.track(label, len(order), "images") as advance:
            for step, batch in enumerate(self.loader):
                set_rate(self.optimizer, learning_rate(config, epoch * steps + step, steps))
                total += self.train_step(batch) * len(batch.rows)
                if (step + 1) % every == 0 or step + 1 == steps:
                    self.check_finite(total, epoch, step)
                advance(len(batch.rows))
        return float(total) / len(order)

    def train_step(self, batch: Batch) -> Tensor:
        """Take one step of the optimiser; return the batch's mean loss."""
        _refuse_bad(batch)
        labels = torch.from_numpy(self.data.splits["train"].labels[batch.rows])
        with autocast(self.device, self.config.amp):
            logits = self.model(self.to_device(batch.images))
            loss = cross_entropy(logits, labels.to(self.device, non_blocking=True))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()

    def to_device(self, images: Tensor) -> Tensor:
        """Copy images to the device, in the layout that the model has there."""
        if self.config.channels_last and self.device.type == "cuda":
            images = images.contiguous(memory_format=torch.channels_last)
        return images.to(self.device, non_blocking=True)

    def check_finite(self, total: Tensor, epoch: int, step: int) -> None:
        """Stop a training that has diverged before it can overwrite a good checkpoint."""
        weights = sum(each.detach().sum() for each in self.model.parameters())
        if not torch.isfinite(total + weights):
            message = (
                f"training diverged in epoch {epoch + 1}, by step {step + 1}: the loss or a weight "
                f"is not finite; lower --lr (now {self.config.lr:g}) or add warm-up epochs; "
                "the checkpoints of earlier epochs are kept"
            )
            raise InputError(message)

    def validate(self, metrics: Metrics) -> dict[str, float | None]:
        """Return the metrics of the val split."""
        split = self.data.splits["val"]
        predictions = np.empty(len(split), dtype=np.int64)
        self.model.eval()
        with torch.inference_mode(), autocast(self.device, self.config.amp):
            for batch in self.eval_loader:
                _refuse_bad(batch)
                logits = self.model(self.to_device(batch.images))
                predictions[batch.rows] = logits.argmax(dim=1).cpu().numpy()
        found = metrics(split.labels, predictions, self.data.counts)
        return {name: None if value is None else float(value) for name, value in found.items()}


def _pad_crop(config: TrainConfig, data: ImageData, spec: InputSpec) -> bool:
    """Whether training images are cropped out of a padded border."""
    small = data.photographs and data.native_size == spec.size
    return config.augment == "pad-crop" or (config.augment == "auto" and small)


def _refuse_bad(batch: Batch) -> None:
    if batch.bad:
        message = f"{next(iter(batch.bad.values()))}; mend it, or take it out of the data set"
        raise InputError(message)


def _line(entry: Mapping[str, Any], epochs: int) -> str:
    """Return one line about an epoch."""
    val = entry["val"] or {}
    shown = "  ".join(f"{name} {val[name]:.3f}" for name in val if val[name] is not None)
    text = f"epoch {entry['epoch']}/{epochs}  loss {entry['train_loss']:.4f}"
    return f"{text}  val: {shown}" if shown else text
