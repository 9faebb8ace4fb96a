"""Stage 1: train a network on long-tailed images."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from featbank.backbones.backbones import TINY_CNN, input_spec
from featbank.data.formats.files import look_over
from featbank.data.provenance import data_record, git, recipe_record, tensors_digest, versions
from featbank.data.transforms import InputSpec
from featbank.data.types import ImageData
from featbank.runs.checkpoint import (
    BEST,
    LAST,
    Checkpoint,
    n_bytes,
    read_checkpoint,
    write_checkpoint,
)
from featbank.runs.run_files import event_suffix, save_epoch, save_metrics, save_settings
from featbank.runs.run_folder import RunFolder
from featbank.runs.tensorboard import events
from featbank.runtime.device import device_name, one_thread, resolve_device
from featbank.runtime.progress import SILENT, Reporter
from featbank.runtime.ranks import Ranks
from featbank.stage1.config import TrainConfig
from featbank.stage1.ddp import Team, synchronised
from featbank.stage1.network import initial_network
from featbank.stage1.objective import make_objective
from featbank.stage1.optim import make_optimizer, restore_optimizer
from featbank.stage1.retraining import read_init
from featbank.stage1.session import Learner, Metrics, Progress, SeenImages, Session

__all__ = ["Metrics", "Trained", "ValidatedEpoch", "train"]


@dataclass(frozen=True)
class ValidatedEpoch:
    """An epoch, counted from 1, and the accuracies on val after it."""

    epoch: int
    val: Mapping[str, float | None]


@dataclass(frozen=True)
class Trained:
    """What a training came to.

    Attributes
    ----------
    run, checkpoint : str
        The folder, and the file of the best network in it: of the last where there is no val split.
    epochs : int
    best : ValidatedEpoch or None
        The best epoch; None where there is no val split.
    last : mapping
        The last epoch's entry in the history: a line of ``metrics.csv``.
    seconds : float
        What the training took, this time.
    notes : tuple of str
        What there is to know of the data: what was passed over, the same image in two places.
    """

    run: str
    checkpoint: str
    epochs: int
    best: ValidatedEpoch | None
    last: Mapping[str, float | None]
    seconds: float
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of schema 1 that the command line writes."""
        return {"schema": 1, **asdict(self)}


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
    strict: bool = False,
    replace_in_place: bool = False,
) -> Trained:
    """Train, writing into the folder `out` after every epoch and, if it is long, within it.

    SIGINT and SIGTERM are acted on after the step under way, when its state is saved.

    Parameters
    ----------
    data
        Its ``train`` split is trained on; ``val``, where there is one, chooses the best epoch.
    data_spec
        ``{"name": …, "params": {…}}``: how `open_data` gets `data` again, for extraction.
    config
        Everything that is chosen.
    out
        Gets ``last.safetensors``, ``best.safetensors`` (best ``all`` on val), ``run.json``,
        ``run.yaml`` (what --config takes) and ``metrics.csv``.
    device
        auto, cpu, cuda or cuda:i.
    metrics
        What to report of val predictions; must give ``all``.
    reporter
        Is told about every epoch and batch.
    resume
        Go on from ``last.safetensors``; on a CPU the result has the bits of an uninterrupted run.
    overwrite
        Replace a training that `out` holds. It stays as it is until the last epoch of the new one
        is saved, which is written beside it till then; with `resume` that goes on from there.
    replace_in_place
        With `overwrite`, remove the old training first, for disks that cannot hold both.
    strict
        Refuse, rather than note, the same image in two splits or with two labels.

    Returns
    -------
    Trained
        What the training came to.

    Raises
    ------
    InputError
        The backbone is unknown or unusable, an image cannot be read, or the loss diverges.
    WorkerError
        A process that loads images has failed.
    OutputExistsError, StaleError
        `out` holds something; or what is to be resumed was another training.
    """
    notes = look_over(data, "mend it, or take it out of the data", strict=strict)
    existing = _Existing(resume, overwrite, replace_in_place)
    with Ranks.join() as ranks, RunFolder(Path(out)) as folder:
        for note in notes if ranks.first else ():
            reporter.warn(note)
        began, where = time.monotonic(), resolve_device(device, ranks.local)
        images = SeenImages(data, _input_spec(data, config))
        output = _Output(folder, existing, reporter if ranks.first else SILENT)
        job = _Job(images, data_spec, config, output, ranks, where)
        record = _train(job, metrics)
        return _trained(folder.out, record, time.monotonic() - began, notes)


@dataclass(frozen=True)
class _Existing:
    """What is done about a training that is there already."""

    resume: bool
    overwrite: bool
    replace_in_place: bool


@dataclass(frozen=True)
class _Output:
    """Where a training is written, and what is told about it."""

    folder: RunFolder
    existing: _Existing
    reporter: Reporter


@dataclass(frozen=True)
class _Job:
    """A training, as one process of those that share it is asked for it.

    `data_spec` is how the images are opened again; `device` is where this process computes.
    """

    images: SeenImages
    data_spec: Mapping[str, Any]
    config: TrainConfig
    output: _Output
    ranks: Ranks
    device: torch.device


def _input_spec(data: ImageData, config: TrainConfig) -> InputSpec:
    """Return how the network that the settings name sees the images."""
    return input_spec(
        config.backbone, config.image_size, data.native_size, mean=config.mean, std=config.std
    )


def _train(job: _Job, metrics: Metrics) -> dict[str, Any]:
    """Train, alone or as one process of a job; return the record of the last epoch's state."""
    folder = job.output.folder
    identity, session = _begin(job)
    size = session.epoch_size()
    if job.ranks.first:
        folder.make_ready(_most_bytes(session.model, job.config, job.images.data))
        made_by = {
            "device": device_name(job.device),
            "processes": job.ranks.size,
            "versions": versions(),
        }
        save_settings(folder.work, {**identity, "epoch": size, **made_by, "git": git()})
        save_metrics(folder.work, session.record["history"])
    job.output.reporter.say(session.about(size))
    if folder.beside:
        job.output.reporter.say(
            f"{folder.out} stays until this training is whole, which is in {folder.work} till then"
        )
    _run_epochs(job, session, metrics, event_suffix(identity))
    job.ranks.gather(None)  # nobody leaves before all are done
    session.team.leave()
    if job.ranks.first:
        folder.finish()
    return session.record


def _begin(job: _Job) -> tuple[dict[str, Any], Session]:
    """Begin a training, or go on with it; return what decides its result, and its session."""
    config, images, folder = job.config, job.images, job.output.folder
    init = None if config.init is None else read_init(config.init)
    identity = _identity(job, init)
    previous = _previous(job, identity)
    model, layer = initial_network(
        config, len(images.data.class_names), images.spec.size, previous, init, job.output.reporter
    )
    record = {**identity, **_begun(layer, previous)}
    save, team = _Saver(folder, job.ranks, job.output.reporter), Team(job.ranks, job.device)
    learner = _learner(job, model, record["layer"], previous)
    session = Session(config, images, learner, Progress(record, save), team)
    if previous is not None:
        place = f"{_place(previous.record)} of {config.epochs}"
        job.output.reporter.say(f"resuming {folder.work} after {place}")
    return identity, session


def _run_epochs(job: _Job, session: Session, metrics: Metrics, suffix: str) -> None:
    """Train the epochs that are left; the first process saves each, and notes it for TensorBoard.

    `suffix` ends the name of TensorBoard's file.
    """
    run, first = job.output.folder.work, job.ranks.first
    record_event = events(run, suffix) if first else nullcontext(lambda _entry: None)
    alone = one_thread(job.config.backbone == TINY_CNN)
    with alone, closing(session), session.interruption, record_event as event:
        for epoch in range(session.record["epoch"], job.config.epochs):
            is_best = session.run_epoch(epoch, metrics, job.output.reporter)
            if first:
                save_epoch(run, session.checkpoint(), is_best=is_best)
            event(session.record["history"][-1])


def _previous(job: _Job, identity: Mapping[str, Any]) -> Checkpoint | None:
    """Return what to go on from; the first process decides, the others read what it read."""
    folder, existing, ranks = job.output.folder, job.output.existing, job.ranks
    previous = None
    if ranks.first:
        previous = folder.begin(
            identity,
            resume=existing.resume,
            overwrite=existing.overwrite,
            replace_in_place=existing.replace_in_place,
        )
    begun, beside = ranks.share([previous is not None, folder.beside])
    if not ranks.first:
        folder.join(beside=beside)
        previous = read_checkpoint(folder.work / LAST) if begun else None
    return previous


def _most_bytes(model: nn.Module, config: TrainConfig, data: ImageData) -> int:
    """Return what a training takes at most: its checkpoints, and one that is being written."""
    weights = n_bytes(model.state_dict())
    moments = n_bytes({name: each for name, each in model.named_parameters() if each.requires_grad})
    state = weights + moments * (2 if config.optimizer == "adamw" else 1)
    return 2 * state + (weights if "val" in data.splits else 0)


class _Saver:
    """Saves a training within an epoch: of a job, the first process does."""

    def __init__(self, folder: RunFolder, ranks: Ranks, reporter: Reporter) -> None:
        self.folder, self.ranks, self.reporter = folder, ranks, reporter

    def __call__(self, state: Checkpoint, /) -> None:
        """Save the state, and say where."""
        last = self.folder.work / LAST
        if self.ranks.first:
            write_checkpoint(last, state)
            place = _place(state.record)
            self.reporter.say(f"saved {last} after {place}; --resume goes on from it")

    def kept(self) -> str:
        """Say what is saved of the training, and of the one that it was to replace."""
        last = self.folder.work / LAST
        saved = f"; {last} keeps the state that was saved before" if last.is_file() else ""
        return f"{saved}; {self.folder.out} is as it was" if self.folder.beside else saved


def _place(record: Mapping[str, Any]) -> str:
    """Say how far a checkpoint is."""
    step = record.get("step", 0)
    return f"step {step} of epoch {record['epoch'] + 1}" if step else f"epoch {record['epoch']}"


def _identity(job: _Job, init: Checkpoint | None) -> dict[str, Any]:
    """Return everything that decides a training's result, as JSON."""
    data = job.images.data
    return {
        **({} if init is None else {"init": _start(init)}),
        "config": job.config.to_json(),
        "input": job.images.spec.to_json(),
        "data": data_record(data),
        "data_spec": dict(job.data_spec),
        "class_names": list(data.class_names),
        "class_counts": data.counts.tolist(),
        "shots": data.shots.to_json(),
    }


def _start(init: Checkpoint) -> dict[str, Any]:
    """Return what a retraining began from, wherever that lies and whatever its seed."""
    recipe = recipe_record(init.record)
    del recipe["seed"]
    return {"tensors": tensors_digest(init.model), "recipe": recipe}


def _trained(run: Path, record: Mapping[str, Any], seconds: float, notes: Sequence[str]) -> Trained:
    """Return what the record of a finished training says."""
    best = record["best"]
    return Trained(
        run=str(run),
        checkpoint=str(run / (BEST if best else LAST)),
        epochs=record["epoch"],
        best=None if best is None else ValidatedEpoch(best["epoch"], best["val"]),
        last=record["history"][-1],
        seconds=seconds,
        notes=tuple(notes),
    )


def _begun(layer: str, previous: Checkpoint | None) -> dict[str, Any]:
    """Return the record's part that a training changes: new, or as a checkpoint left it."""
    begun = {
        "layer": layer,
        "epoch": 0,
        "step": 0,
        "loss_sum": 0.0,
        "history": [],
        "best": None,
    }
    if previous is None:
        return begun
    return {name: previous.record.get(name, value) for name, value in begun.items()}


def _learner(job: _Job, model: nn.Module, layer: str, previous: Checkpoint | None) -> Learner:
    """Put the network on its device; give it its optimiser, as it was left, and its objective."""
    config, device = job.config, job.device
    model = model.to(device)
    if config.sync_bn:
        model = synchronised(model, device)
    if config.channels_last and device.type == "cuda":
        model = model.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, config, layer)
    if previous is not None:
        restore_optimizer(optimizer, previous.optimizer)
    return Learner(model, optimizer, make_objective(config, job.images.data, model, device))
