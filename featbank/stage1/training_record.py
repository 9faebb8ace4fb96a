"""The check that a checkpoint's record holds what the record of a training does."""

from __future__ import annotations

from featbank.data.transforms import InputSpec, eval_transform
from featbank.errors import DamagedError, FeatbankError
from featbank.runs.checkpoint import Checkpoint
from featbank.stage1.config import TrainConfig

__all__ = ["require_record"]

_KINDS = {"class_names": list, "data_spec": dict, "epoch": int}


def require_record(checkpoint: Checkpoint, source: str) -> None:
    """Refuse a checkpoint whose record does not say what a training's does.

    Anybody can write a file with a digest that fits what it holds.

    Raises
    ------
    DamagedError
        Something is missing or of another kind.
    """
    record = checkpoint.record
    try:
        TrainConfig.from_json(record["config"])
        eval_transform(InputSpec.from_json(record["input"]))
        kinds = {name: type(record[name]) for name in ("class_names", "data_spec", "epoch")}
        wrong = [name for name, kind in kinds.items() if kind is not _KINDS[name]]
        names = record["class_names"]
        wrong += [] if all(isinstance(each, str) for each in names) else ["class_names"]
        dict(record["data"]["lists"])
    except FeatbankError:
        raise
    except Exception as error:  # a record that featbank did not write can fail in any way
        message = f"{source} has no record of a training ({type(error).__name__})"
        raise DamagedError(message) from error
    if wrong:
        message = f"{source} has no record of a training: {wrong[0]} is of another kind"
        raise DamagedError(message)
