"""The folder of a training: two checkpoints, the settings, the numbers of every epoch."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from featbank.atomic import replace_text
from featbank.checkpoint import BEST, LAST, Checkpoint, read_checkpoint, write_checkpoint
from featbank.errors import OutputExistsError, StaleError
from featbank.identity import flattened

__all__ = [
    "CHANGEABLE",
    "CONFIG",
    "EVENTS",
    "METRICS",
    "RUN",
    "clear_parts",
    "clear_run",
    "open_run",
    "save_epoch",
    "save_settings",
]

RUN, CONFIG, METRICS = "run.json", "run.yaml", "metrics.csv"
EVENTS = "events.out.tfevents."  # TensorBoard's beginning of a name

# Settings that may change between an interruption and --resume: they alter no result. (Data that
# moved is the same data: its lists and classes are compared by what they hold, and what --init
# names by its tensors.)
CHANGEABLE = (
    "config.workers",
    "config.checkpoint_every",
    "config.init",
    *(f"data_spec.params.{name}" for name in ("root", "train", "val", "test", "classes")),
)


def open_run(
    run: Path, identity: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> Checkpoint | None:
    """Return the checkpoint to go on from, or None for a new training. Changes nothing.

    With `resume` and nothing to resume, a new training starts, so that one command line serves
    the first start and every restart.

    Raises
    ------
    OutputExistsError
        The folder holds something, and neither `resume` nor `overwrite` was asked for.
    StaleError
        The run there was started with other settings or data; the message names the first.
    """
    if run.exists() and not run.is_dir():
        message = f"{run} exists and is not a folder; choose another path for --out"
        raise OutputExistsError(message)
    if resume and (run / LAST).is_file():
        checkpoint = read_checkpoint(run / LAST)
        _require_same(run, checkpoint.record, identity)
        return checkpoint
    if run.is_dir() and any(run.iterdir()) and not overwrite and not _unfinished_start(run, resume):
        message = f"{run} exists; choose another path for --out, or add --overwrite or --resume"
        raise OutputExistsError(message)
    return None


def _unfinished_start(run: Path, resume: bool) -> bool:
    """Whether a run ended before its first checkpoint, and is to be started again."""
    begun = tuple(f".{name}." for name in (RUN, CONFIG))  # files that were being written
    names = [path.name for path in run.iterdir()]
    ours = all(name in (CONFIG, METRICS) or name.startswith((EVENTS, *begun)) for name in names)
    return resume and (RUN in names or ours)


def _require_same(run: Path, record: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    before, now = flattened(record), flattened(identity)
    for name in now:
        if name not in CHANGEABLE and before.get(name) != now[name]:
            message = (
                f"cannot resume {run}: {name} was {_short(before.get(name))} and is now "
                f"{_short(now[name])}; resume with the old one, or train into another --out"
            )
            raise StaleError(message)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def clear_run(run: Path) -> None:
    """Make the folder, and remove from it what an earlier training wrote; nothing else."""
    run.mkdir(parents=True, exist_ok=True)
    for name in (LAST, BEST, METRICS, RUN, CONFIG):
        (run / name).unlink(missing_ok=True)
    for file in run.glob(f"{EVENTS}*"):
        file.unlink()


def clear_parts(run: Path) -> None:
    """Remove files that a killed training was writing."""
    for name in (LAST, BEST, METRICS, RUN, CONFIG):
        for part in run.glob(f".{name}.*.partial"):
            part.unlink(missing_ok=True)


def save_settings(run: Path, settings: Mapping[str, Any]) -> None:
    """Write ``run.json``, and ``run.yaml``, with which --config runs the same again."""
    replace_text(run / RUN, json.dumps(settings, indent=2, sort_keys=True) + "\n")
    data = settings["data_spec"]
    options = {key: value for key, value in settings["config"].items() if value is not None}
    named = {"data": spec_text(data["name"], data["params"])} if "name" in data else {}
    replace_text(run / CONFIG, yaml.safe_dump({**named, **options}, sort_keys=False))


def spec_text(name: str, params: Mapping[str, Any]) -> str:
    """Write a data spec as the command line takes it."""
    listed = ",".join(f"{key}={_quoted(str(value))}" for key, value in params.items())
    return f"{name}:{listed}" if listed else name


def _quoted(value: str) -> str:
    if not set(",:'\"[]") & set(value):
        return value
    return f"'{value}'" if "'" not in value else f'"{value}"'


def save_epoch(run: Path, checkpoint: Checkpoint, *, is_best: bool) -> None:
    """Write the checkpoints and the metrics after an epoch.

    The best one goes first: a kill between the two leaves a run that repeats the epoch and
    writes the same best checkpoint again. It has no optimiser state; only the last one resumes.
    """
    if is_best:
        write_checkpoint(run / BEST, Checkpoint(checkpoint.record, checkpoint.model))
    write_checkpoint(run / LAST, checkpoint)
    replace_text(run / METRICS, _csv(checkpoint.record["history"]))


def _csv(history: Sequence[Mapping[str, Any]]) -> str:
    rows = [_flat_row(entry) for entry in history]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat_row(entry: Mapping[str, Any]) -> dict[str, Any]:
    val = {f"val_{name}": value for name, value in (entry["val"] or {}).items()}
    return {name: value for name, value in entry.items() if name != "val"} | val
