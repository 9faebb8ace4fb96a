"""The files of a training: two checkpoints, the settings, the numbers of every epoch.

Which folder they are in, and when, is `featbank.runs.run_folder`'s.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from featbank.bank.provenance_diff import flattened
from featbank.files.atomic import replace_text
from featbank.files.plain_files import read_plain
from featbank.runs.checkpoint import BEST, LAST, Checkpoint, record_of, write_checkpoint
from heads.canonical import canonical

__all__ = [
    "CHANGEABLE",
    "CONFIG",
    "EVENTS",
    "FILES",
    "METRICS",
    "RUN",
    "training_difference",
    "event_suffix",
    "own_run",
    "partial_of",
    "save_epoch",
    "save_metrics",
    "save_settings",
]

RUN, CONFIG, METRICS = "run.json", "run.yaml", "metrics.csv"
FILES = (LAST, BEST, METRICS, CONFIG, RUN)
EVENTS = "events.out.tfevents."  # TensorBoard's event files begin with this
RUN_BYTES = 64 << 20
# The entries of a training's record by which it is the same training.
IDENTITY = (
    "config", "input", "data", "data_spec", "class_names", "class_counts", "shots", "init",
)  # fmt: skip

# Settings that may change between an interruption and --resume, because they alter no result. Paths
# are among them: data that was moved is compared by what its lists and classes hold, and the
# training that --init names by its tensors.
CHANGEABLE = (
    "config.workers",
    "config.checkpoint_every",
    "config.init",
    *(f"data_spec.params.{name}" for name in ("root", "train", "val", "test", "classes")),
)


def own_run(run: Path) -> list[Path] | None:
    """Return featbank's own files in a training's folder, its record last; None where it is none.

    The record is ``run.json``, or where that is gone the header of a checkpoint. Event files are
    known by the training's digest at the end of their name (`event_suffix`).
    """
    settings = read_settings(run)
    record = settings or record_of(run, LAST) or record_of(run, BEST)
    if record is None:
        return None
    there = sorted(os.listdir(run))
    names = [name for name in there if name.startswith(EVENTS) and is_event_of(record, name)]
    names += [name for name in there if partial_of(name) is not None]
    if settings is not None:
        names += [name for name in FILES if name in there]
    else:
        names += [name for name in (BEST, LAST) if record_of(run, name) is not None]
    return [Path(name) for name in names]


def read_settings(run: Path) -> dict[str, Any] | None:
    """Return what ``run.json`` says; None where it is not a training's."""
    try:
        record = json.loads(read_plain(run, run / RUN, RUN_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    parts = {"config": dict, "data_spec": dict, "class_names": list, "class_counts": list}
    ours = isinstance(record, dict) and all(
        isinstance(record.get(name), kind) for name, kind in parts.items()
    )
    return record if ours else None


def partial_of(name: str) -> str | None:
    """Return the file that a killed training was writing under a name; None for other names."""
    found = re.fullmatch(r"\.(.+)\.[0-9a-f]{16}\.partial", name)
    return found[1] if found and found[1] in FILES else None


def event_suffix(record: Mapping[str, Any]) -> str:
    """Return the end of the names of a training's event files: a digest of its identity."""
    found = flattened({name: record[name] for name in IDENTITY if name in record})
    kept = {name: value for name, value in found.items() if name not in CHANGEABLE}
    return f".featbank-{hashlib.sha256(canonical(kept)).hexdigest()[:16]}"


def is_event_of(record: Mapping[str, Any], name: str) -> bool:
    """Tell whether an event file belongs to the training of a record, which may hold anything."""
    try:
        return name.endswith(event_suffix(record))
    except (ValueError, TypeError, RecursionError):
        return False


def training_difference(record: Mapping[str, Any], identity: Mapping[str, Any]) -> str | None:
    """Say in what a training differs from another one; None where the result is the same."""
    before, now = flattened(record), flattened(identity)
    for name in now:
        if name not in CHANGEABLE and before.get(name) != now[name]:
            return f"{name} was {_short(before.get(name))} and is now {_short(now[name])}"
    return None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


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
    save_metrics(run, checkpoint.record["history"])


def save_metrics(run: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write the numbers of every epoch so far, if there is one.

    A kill after a checkpoint and before this leaves an epoch out, so resuming writes them too.
    """
    if history:
        replace_text(run / METRICS, _csv(history))


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
