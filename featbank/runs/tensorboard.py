"""TensorBoard events beside the metrics, where tensorboard is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from featbank.files.utf8 import utf8_path

__all__ = ["events", "scalars"]


@contextmanager
def events(run: Path, suffix: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Give a function that writes an epoch's entry of the history as events into the run's folder.

    Without tensorboard it does nothing; ``metrics.csv`` holds the same numbers. The file's name,
    which TensorBoard chooses, ends with `suffix`, by which the training knows it for its own.
    """
    if find_spec("tensorboard") is None:
        yield lambda _entry: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with utf8_path(run) as place, closing(SummaryWriter(place, filename_suffix=suffix)) as opened:
        writer: Any = opened

        def write(entry: Mapping[str, Any]) -> None:
            for name, value in scalars(entry).items():
                writer.add_scalar(name, value, entry["epoch"])
            writer.flush()

        yield write


def scalars(entry: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of an epoch under the names that TensorBoard groups."""
    val = {f"val/{name}": value for name, value in (entry["val"] or {}).items()}
    named = {"train/loss": entry["train_loss"], "train/lr": entry["lr"], **val}
    return {name: float(value) for name, value in named.items() if value is not None}
