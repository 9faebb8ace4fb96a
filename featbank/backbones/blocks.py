"""Names of a network's blocks, which mixup and the retraining of the last block need."""

from __future__ import annotations

import re
from itertools import dropwhile

from torch import nn

from featbank.errors import InputError

__all__ = ["last_block", "names_from_last_block", "stage_names"]

_CONTAINERS = ("stages", "layers", "blocks")
_LISTS = (nn.Sequential, nn.ModuleList)


def stage_names(model: nn.Module) -> list[str]:
    """Return the names of a network's stages (of a transformer, its blocks) in forward order.

    Raises
    ------
    InputError
        It names them in none of the ways that timm's ResNets, ConvNeXts, transformers,
        EfficientNets and networks of ours do.
    """
    for name in _CONTAINERS:
        part = getattr(model, name, None)
        if isinstance(part, _LISTS) and len(part) > 1:
            return [f"{name}.{i}" for i in range(len(part))]
    layers = [name for name, _ in model.named_children() if re.fullmatch(r"layer\d", name)]
    if layers:
        return layers
    kind = type(model).__name__
    message = (
        f"cannot tell the blocks of {kind}: it has no stages, layers, blocks or layer1, layer2, …; "
        "use another backbone"
    )
    raise InputError(message)


def last_block(model: nn.Module) -> str:
    """Return the name of the last residual block (or transformer block, or convolution)."""
    name = stage_names(model)[-1]
    stage = model.get_submodule(name)
    inner = getattr(stage, "blocks", None)
    if isinstance(inner, _LISTS):
        return f"{name}.blocks.{len(inner) - 1}"
    children = list(stage.children())
    of_blocks = isinstance(stage, nn.Sequential) and all(list(each.children()) for each in children)
    return f"{name}.{len(children) - 1}" if of_blocks else name


def names_from_last_block(model: nn.Module) -> list[str]:
    """Return the names of the parameters of the last block and of what follows it."""
    start = last_block(model) + "."
    names = (name for name, _ in model.named_parameters())
    return list(dropwhile(lambda name: not name.startswith(start), names))
