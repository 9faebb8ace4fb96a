"""Stage 1: train a network on long-tailed images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from featbank.architecture import finish_network
from featbank.backbones import (
    TINY_CNN,
    build_model,
    classifier_names,
    find_classifier,
    input_spec,
)
from featbank.checkpoint import BEST, LAST, Checkpoint, read_checkpoint, write_checkpoint
from featbank.config import TrainConfig
from featbank.data.transforms import InputSpec
from featbank.data.types import ImageData
from featbank.device import device_name, one_thread, resolve_device
from featbank.events import events
from featbank.objective import make_objective
from featbank.optim import make_optimizer, restore_optimizer
from featbank.parallel import Team, synchronised
from featbank.partial import freeze, load_backbone, read_init
from featbank.progress import SILENT, Reporter
from featbank.provenance import data_record, git, tensors_digest, versions
from featbank.ranks import Ranks
from featbank.runs import clear_parts, clear_run, open_run, save_epoch, save_settings
from featbank.session import Metrics, Session
from featbank.weights import load_file, load_weights, read_weights

__all__ = ["Metrics", "train"]


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
    with Ranks.join() as ranks:
        watcher = reporter if ranks.first else SILENT
        return _train(
            data, data_spec, config, Path(out), device, metrics, watcher, ranks, resume, overwrite
        )


def _train(
    data: ImageData,
    data_spec: Mapping[str, Any],
    config: TrainConfig,
    run: Path,
    device: str | torch.device,
    metrics: Metrics,
    reporter: Reporter,
    ranks: Ranks,
    resume: bool,
    overwrite: bool,
) -> dict[str, Any]:
    """Train, as one process of a job or alone."""
    began, where = time.monotonic(), resolve_device(device, ranks.local)
    spec = input_spec(
        config.backbone, config.image_size, data.native_size, mean=config.mean, std=config.std
    )
    init = None if config.init is None else read_init(config.init)
    identity = _identity(data, data_spec, config, spec, init)
    previous = _previous(run, identity, ranks, resume=resume, overwrite=overwrite)
    model, layer = _network(data, config, spec, previous, init, reporter)
    team = Team(ranks, where)
    save = _saver(run, reporter) if ranks.first else _silent_saver
    session = _start(data, config, spec, identity, team, where, previous, save, model, layer)
    if previous is not None:
        reporter.say(f"resuming {run} after {_place(previous.record)} of {config.epochs}")
    size = session.epoch_size()
    settings = {
        **identity,
        "epoch": size,
        "device": device_name(where),
        "processes": ranks.size,
        "versions": versions(),
        "git": git(),
    }
    if ranks.first:
        if previous is None:
            clear_run(run)
        clear_parts(run)
        save_settings(run, settings)
    reporter.say(session.about(size))
    record_events = events(run) if ranks.first else nullcontext(lambda _entry: None)
    with one_thread(config.backbone == TINY_CNN), session.interruption, record_events as event:
        for epoch in range(session.record["epoch"], config.epochs):
            is_best = session.run_epoch(epoch, metrics, reporter)
            if ranks.first:
                save_epoch(run, session.checkpoint(), is_best=is_best)
            event(session.record["history"][-1])
    ranks.gather(None)  # the first may serve the store: it waits for the others
    team.leave()
    return _summary(run, session.record, time.monotonic() - began)


def _previous(
    run: Path, identity: Mapping[str, Any], ranks: Ranks, *, resume: bool, overwrite: bool
) -> Checkpoint | None:
    """Return what to go on from; the first process decides, the others read what it read."""
    previous = None
    if ranks.first:
        previous = open_run(run, identity, resume=resume, overwrite=overwrite)
    if ranks.share(previous is not None) and not ranks.first:
        previous = read_checkpoint(run / LAST)
    return previous


def _saver(run: Path, reporter: Reporter) -> Callable[[Checkpoint], None]:
    """Return what saves a training within an epoch."""

    def save(state: Checkpoint) -> None:
        write_checkpoint(run / LAST, state)
        reporter.say(f"saved {run / LAST} after {_place(state.record)}; --resume goes on from it")

    return save


def _silent_saver(_state: Checkpoint) -> None:
    """Save nothing: the job's first process does."""


def _place(record: Mapping[str, Any]) -> str:
    """Say how far a checkpoint is."""
    step = record.get("step", 0)
    return f"step {step} of epoch {record['epoch'] + 1}" if step else f"epoch {record['epoch']}"


def _identity(
    data: ImageData,
    data_spec: Mapping[str, Any],
    config: TrainConfig,
    spec: InputSpec,
    init: Checkpoint | None,
) -> dict[str, Any]:
    """Return everything that decides a training's result, as JSON."""
    return {
        **({} if init is None else {"init": {"tensors": tensors_digest(init.model)}}),
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


def _network(
    data: ImageData,
    config: TrainConfig,
    spec: InputSpec,
    previous: Checkpoint | None,
    init: Checkpoint | None,
    reporter: Reporter,
) -> tuple[nn.Module, str]:
    """Build the network, new or as a checkpoint left it; return it and its classifier's name."""
    fresh = config.pretrained and previous is None
    n_classes = len(data.class_names)
    model = build_model(config.backbone, n_classes, spec.size, seed=config.seed, pretrained=fresh)
    if config.weights is not None and previous is None:
        weights, heads = read_weights(config.weights), classifier_names(config.backbone)
        reporter.say(str(load_file(model, weights, config.backbone, heads)))
    model = finish_network(model, config, spec.size)
    layer = find_classifier(model, spec.size)
    if previous is not None:
        load_weights(model, previous.model, "the checkpoint")
    elif init is not None:
        load_backbone(model, layer, init.model, str(config.init))
    freeze(model, layer, config.retrain)
    return model, layer


def _start(
    data: ImageData,
    config: TrainConfig,
    spec: InputSpec,
    identity: Mapping[str, Any],
    team: Team,
    device: torch.device,
    previous: Checkpoint | None,
    save: Callable[[Checkpoint], None],
    model: nn.Module,
    layer: str,
) -> Session:
    """Put the network on its device and build its optimiser, new or as a checkpoint left it."""
    begun = {
        "layer": layer,
        "epoch": 0,
        "step": 0,
        "loss_sum": 0.0,
        "history": [],
        "best": None,
    }
    model = model.to(device)
    if config.sync_bn:
        model = synchronised(model, device)
    if config.channels_last and device.type == "cuda":
        model = model.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, config, layer)
    if previous is not None:
        restore_optimizer(optimizer, previous.optimizer)
        begun = {name: previous.record.get(name, value) for name, value in begun.items()}
    record = {**identity, **begun}
    objective = make_objective(config, data, model, device)
    return Session(data, config, spec, device, model, optimizer, objective, record, save, team)
