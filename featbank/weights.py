"""Weights of other code into a network, with a report of what fitted."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from featbank.checkpoint import is_checkpoint, read_checkpoint
from featbank.errors import DamagedError, InputError, MissingFileError
from featbank.foreign import load_plain, paper_classifier, paper_network, without_prefix

__all__ = ["LoadReport", "WeightsFile", "load_file", "load_weights", "read_weights"]

# Where training scripts put the network in what they save.
WRAPPERS = ("state_dict", "model", "model_state_dict", "teacher")
# A counter that early PyTorch did not save and that changes no output in eval mode.
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class WeightsFile:
    """Named tensors of a file, and the linear classifier that the paper's code keeps apart."""

    path: Path
    tensors: Mapping[str, Tensor]
    classifier: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class LoadReport:
    """Names of a network's tensors and a file's: in both, only in the one, only in the other.

    `classifier` are those of a classifier that the network has no place for.
    """

    source: str
    matched: tuple[str, ...]
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()
    classifier: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{len(self.matched)} tensors matched"]
        for word, names in (
            ("missing", self.missing),
            ("extra", self.extra),
            ("of another shape", self.reshaped),
            ("of a classifier left out", self.classifier),
        ):
            shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            parts.append(f"{len(names)} {word}" + (f" ({shown})" if names else ""))
        return f"{self.source}: " + ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return the counts and the names that did not match."""
        return {
            "matched": len(self.matched),
            "missing": list(self.missing),
            "extra": list(self.extra),
            "classifier_left_out": list(self.classifier),
        }


def read_weights(path: str | Path) -> WeightsFile:
    """Read tensors from a file: safetensors, `torch.save`, a checkpoint of ours or the paper's.

    ``state_dict``, ``model``, ``model_state_dict`` and ``teacher`` are unwrapped, ``module.`` is
    dropped from names, and nothing in the file is run.

    Raises
    ------
    MissingFileError
        There is no such file.
    InputError
        It holds something else than named tensors.
    """
    file = Path(path)
    if not file.is_file():
        message = f"no weights {str(file)!r}; --weights wants a safetensors or torch.save file"
        raise MissingFileError(message)
    if is_checkpoint(file):
        return WeightsFile(file, read_checkpoint(file).model)
    if file.suffix == ".safetensors":
        return WeightsFile(file, _named_tensors(_safetensors(file), file))
    content = load_plain(file)
    network = paper_network(content)
    if network is not None:
        return WeightsFile(file, network, paper_classifier(content))
    return WeightsFile(file, _named_tensors(content, file))


def _safetensors(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        message = f"{file} is no safetensors file, or is damaged: {' '.join(str(error).split())}"
        raise InputError(message) from error


def _named_tensors(content: Any, file: Path) -> dict[str, Tensor]:
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = content if isinstance(content, Mapping) else {}
    named = {str(name): each for name, each in tensors.items() if isinstance(each, Tensor)}
    if not named:
        message = f"{file} holds no named tensors of a network"
        raise InputError(message)
    return without_prefix(named)


def load_file(
    model: nn.Module, weights: WeightsFile, backbone: str, heads: tuple[str, ...]
) -> LoadReport:
    """Load a file's tensors into a network, *in place*, or refuse.

    Every tensor must find its place, and every place its tensor. Only a classifier may be over,
    or stay as it is initialised where the file's has other classes or none.

    Parameters
    ----------
    model, backbone
        The network, and what it is called.
    weights
        What `read_weights` gave; the names that other code uses are first converted as timm does.
    heads
        Names of the layers that are the network's classifier.

    Raises
    ------
    InputError
        It does not fit; the message counts and names what does not.
    """
    there, given = model.state_dict(), _converted(weights.tensors, model)
    if weights.classifier is not None:
        head = heads[0] if heads else "fc"
        given |= {f"{head}.{key}": each for key, each in weights.classifier.items()}

    def of_head(name: str) -> bool:
        return any(name.startswith(f"{head}.") for head in heads)

    fits = {name for name in there if name in given and given[name].shape == there[name].shape}
    report = LoadReport(
        source=weights.path.name,
        matched=tuple(name for name in there if name in fits),
        missing=tuple(n for n in there if n not in given and not (of_head(n) or _COUNTER in n)),
        extra=tuple(name for name in given if name not in there and not of_head(name)),
        reshaped=tuple(n for n in there if n in given and n not in fits and not of_head(n)),
        classifier=tuple(name for name in given if of_head(name) and name not in fits),
    )
    if report.missing or report.extra or report.reshaped:
        message = f"weights do not fit backbone {backbone!r}: {report}; name the one they are of"
        raise InputError(message)
    model.load_state_dict({name: given[name] for name in fits}, strict=False)
    return report


def _converted(tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Rename and resize tensors as timm does for weights that it fetches."""
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None or not type(model).__module__.startswith("timm."):
        return dict(tensors)
    try:
        with torch.no_grad():
            return dict(convert(dict(tensors), model))
    except Exception:  # noqa: BLE001 - tensors of another network; the report will say so
        return dict(tensors)


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load a checkpoint's tensors into a model, every one of them, or say that they do not fit."""
    try:
        model.load_state_dict(dict(tensors))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        message = f"{source} does not fit its own backbone (another timm version?): {reason}"
        raise DamagedError(message) from error
