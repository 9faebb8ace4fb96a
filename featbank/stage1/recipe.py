"""Training by names: a data set's, a published recipe's, and the settings that differ from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featbank.data import located, open_data
from featbank.errors import UsageError
from featbank.runtime.names import require_known
from featbank.runtime.progress import SILENT, Reporter
from featbank.runtime.spec import Spec
from featbank.stage1.config import TrainConfig
from featbank.stage1.presets import PRESETS, RECIPES, retraining
from featbank.stage1.retraining import read_init
from featbank.stage1.session import Metrics
from featbank.stage1.train import Trained, train
from heads.metrics import ShotGroups, Shots, evaluate

__all__ = ["recipe", "shot_metrics", "train_by_name"]

Ints = NDArray[np.int64]

# What is reported of every epoch's predictions on val.
EPOCH_METRICS = ("all", "many", "medium", "few", "micro")


def train_by_name(
    data: Spec | None,
    out: str | Path,
    settings: Mapping[str, Any],
    *,
    preset: str | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    replace_in_place: bool = False,
    strict: bool = False,
    reporter: Reporter = SILENT,
) -> Trained:
    """Train stage 1 on a data set that is named; what `featbank train` runs.

    Every epoch is validated by the accuracies `all`, `many`, `medium`, `few` and `micro`.

    Parameters
    ----------
    data : Spec or None
        Name and parameters of the data set, as `open_data` takes them. None takes that of the
        training to start from, which `settings` name as ``init``.
    out : path
        The folder of the training.
    settings : mapping
        Fields of `TrainConfig` that differ from the recipe; a value of None leaves the recipe's.
    preset : str, optional
        A published recipe, by its name in `featbank.stage1.presets.RECIPES`.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
    resume, overwrite, replace_in_place, strict : bool
        As `featbank.stage1.train.train` takes them.
    reporter : Reporter
        Is told about every epoch and batch.

    Returns
    -------
    Trained
        What the training came to.

    Raises
    ------
    UsageError
        No data set is named, neither here nor by the training to start from.
    InputError
        The data set, the preset or a setting is unknown or unusable; and what `train` raises.
    """
    init = settings.get("init")
    started = None if init is None else read_init(init).record
    named = data or data_of(started, init)
    images = open_data(named.name, named.params)
    return train(
        images,
        {"name": named.name, "params": located(named.name, named.params)},
        recipe(named.name, settings, preset=preset, started=started),
        out,
        device=device,
        metrics=shot_metrics(images.shots),
        reporter=reporter,
        resume=resume,
        overwrite=overwrite,
        strict=strict,
        replace_in_place=replace_in_place,
    )


def data_of(started: Mapping[str, Any] | None, init: str | Path | None) -> Spec:
    """Return the data set of the training to start from."""
    if started is None:
        message = "no data set is named; give one, as digits-lt or imagelist:root=DIR,train=FILE"
        raise UsageError(message)
    if "name" not in started["data_spec"]:
        message = (
            f"the training {init} was given its images from Python; name the data set (--data)"
        )
        raise UsageError(message)
    return Spec(started["data_spec"]["name"], started["data_spec"]["params"])


def recipe(
    data_name: str,
    settings: Mapping[str, Any],
    *,
    preset: str | None = None,
    started: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """Return the recipe of a training, with the settings that differ from it.

    Parameters
    ----------
    data_name : str
        Name of the data set. Without `preset` and `started` the recipe is the one that suits it
        (`featbank.stage1.presets.PRESETS`), or else the defaults of `TrainConfig`.
    settings : mapping
        Fields of `TrainConfig`; a value of None leaves the recipe's.
    preset : str, optional
        A published recipe, by its name in `featbank.stage1.presets.RECIPES`.
    started : mapping, optional
        Record of the training that a retraining starts from, whose settings it takes over.

    Raises
    ------
    InputError
        The preset is unknown, or the settings make no training.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if preset is not None:
        require_known("preset", preset, RECIPES)
        base = RECIPES[preset]
    elif started is not None:
        base = TrainConfig.from_json(started["config"])
    else:
        base = PRESETS.get(data_name, TrainConfig())
    given = {**(retraining() if started is not None else {}), **given}
    for name in ("weights", "init"):
        if given.get(name) is not None:
            given[name] = str(Path(given[name]).absolute())  # run.yaml is read from anywhere
    return dataclasses.replace(base, **given)


def shot_metrics(shots: Shots) -> Metrics:
    """Return the function that `train` validates an epoch by: accuracies by shot group."""

    def metrics(labels: Ints, predicted: Ints, counts: Ints) -> dict[str, float | None]:
        found = evaluate(labels, predicted, ShotGroups(counts, shots))
        return {name: found[name] for name in EPOCH_METRICS}

    return metrics
