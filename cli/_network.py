"""The options that name a network: a training of ours, or a backbone that was trained elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from featbank.extraction.network import Foundation

__all__ = ["source_of"]


def source_of(
    run: Path | None, backbone: str | None, given: Mapping[str, Any], run_option: str = "RUN"
) -> Path | Foundation:
    """Return the training that is meant, or the backbone that was trained elsewhere.

    Parameters
    ----------
    run : Path, optional
        The folder of a training, or a checkpoint.
    backbone : str, optional
    given : mapping
        The other arguments of `Foundation` by name; None stands for an option that was left out.
    run_option : str
        How the command calls `run`.
    """
    from featbank.extraction.network import Foundation

    named = {name: value for name, value in given.items() if value is not None}
    if backbone is None:
        if run is None:
            message = f"give {run_option}, or --backbone NAME with --pretrained or --weights FILE"
            raise click.UsageError(message)
        if named:
            option = next(iter(named)).replace("_", "-")
            message = f"--{option} goes with --backbone, not with a training's {run_option}"
            raise click.UsageError(message)
        return run
    if run is not None:
        message = f"give {run_option} or --backbone, not both (got {run} and {backbone})"
        raise click.UsageError(message)
    return Foundation(backbone, **named)
