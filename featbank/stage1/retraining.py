"""Retraining a part of a network on images: what moves, what stands still."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from featbank.backbones.blocks import names_from_last_block
from featbank.errors import InputError
from featbank.runs.checkpoint import Checkpoint, find_checkpoint, read_checkpoint
from featbank.stage1.training_record import require_record

__all__ = ["freeze", "load_backbone", "read_init", "set_training"]


def freeze(model: nn.Module, layer: str, part: str) -> None:
    """Let only a part of a network learn, *in place*.

    Parameters
    ----------
    model, layer
        The network and its classifier's name.
    part
        ``classifier``; ``last-block``: also the last block and what follows it; or ``all``.
    """
    trained = {name for name, _ in model.named_parameters() if name.startswith(f"{layer}.")}
    if part == "last-block":
        trained |= set(names_from_last_block(model))
    for name, each in model.named_parameters():
        each.requires_grad_(part in ("all", "none") or name in trained)


def set_training(model: nn.Module, *, shift_bn: bool = False) -> None:
    """Put a network in training mode, and what is frozen in it in eval mode.

    With `shift_bn` frozen batch normalisation still uses and averages the batches' statistics, as
    in the code of Kang et al. (``train()`` on every network) and MiSLAS, which calls it that.
    """
    _set_mode(model, True, shift_bn)


def _set_mode(part: nn.Module, mode: bool, shift_bn: bool) -> None:
    own = [each.requires_grad for each in part.parameters()]
    mode = any(own) if own else mode  # dropout and the like go with the module around them
    part.training = mode or (shift_bn and isinstance(part, _BatchNorm))
    for child in part.children():
        _set_mode(child, mode, shift_bn)


def read_init(run: str | Path) -> Checkpoint:
    """Return the checkpoint, best on val, of the training to start from.

    Raises
    ------
    MissingFileError, DamagedError
        There is none, or it is damaged.
    InputError
        It is of a network with two branches.
    """
    path = find_checkpoint(run)
    found = read_checkpoint(path)
    require_record(found, str(path))
    if found.record["config"].get("method", "plain") != "plain":
        message = f"--init {run} is a network with two branches (--method bbn); give a plain one"
        raise InputError(message)
    return found


def load_backbone(model: nn.Module, layer: str, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load everything but the classifier of another training, *in place*.

    Parameters
    ----------
    model : Module
        The network that is changed.
    layer : str
        The name of its classifier.
    tensors : mapping
        The other training's tensors, by name.
    source : str
        Where they come from, for the message.

    Raises
    ------
    InputError
        The networks differ.
    """
    kept = {name: value for name, value in tensors.items() if not _of(name, layer)}
    there = {name: value for name, value in model.state_dict().items() if not _of(name, layer)}
    differ = [
        name for name in {**there, **kept}
        if name not in there or name not in kept or there[name].shape != kept[name].shape
    ]  # fmt: skip
    if differ:
        message = (
            f"the network of --init {source} is another one: {len(differ)} tensors differ, the "
            f"first {differ[0]!r}; retrain with its --backbone"
        )
        raise InputError(message)
    model.load_state_dict(kept, strict=False)


def _of(name: str, layer: str) -> bool:
    return name.startswith(f"{layer}.")
