"""Loading of weights that other code saved, with a report of what fitted."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from featbank.backbones.foreign import load_plain, paper_classifier, paper_network, stands_for
from featbank.errors import DamagedError, InputError, MissingFileError
from featbank.files.plain_files import open_regular
from featbank.files.utf8 import open_tensors
from featbank.runs.checkpoint import is_checkpoint, read_checkpoint
from featbank.runtime.names import listed, printable

__all__ = ["LoadReport", "WeightsFile", "load_file", "load_weights", "read_weights"]

# The keys under which training scripts save a network. Averaged weights are what the scripts
# evaluate, so they are looked for first, as in timm. Of a student and its teacher, the teacher is
# the averaged one.
AVERAGED = ("state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema", "params_ema")
WRAPPERS = (
    *AVERAGED,
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module"),
    *("weights", "params", "teacher", "student"),
)
# How deep wrappers are looked for inside wrappers; without a limit, a dictionary that contains
# itself would be searched for ever.
_DEEPEST = 4
# The number of a file's entries that an error message lists.
_SHOWN = 6
# Where several networks in one file fit, the one is taken whose names begin with the earliest of
# these: averaged weights first, then the network that the others are copies of.
_PREFERRED = ("model_ema", "ema", "teacher", "encoder_q", "online", "student")
_FOLLOWERS = ("momentum", "target", "encoder_k")
# A counter that early PyTorch did not save and that changes no output in eval mode.
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class WeightsFile:
    """Named tensors of a file.

    Attributes
    ----------
    path : Path
        The file.
    tensors : mapping
        The network's tensors by name.
    classifier : mapping, optional
        ``weight`` and ``bias`` of the linear classifier, which the code of Kang et al. keeps apart.
    part : str
        Where in the file the tensors were, and what else could have been meant; empty where the
        file holds nothing else.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    classifier: Mapping[str, Tensor] | None = None
    part: str = ""


@dataclass(frozen=True)
class LoadReport:
    """How a file's tensors fit a network, by their names.

    Attributes
    ----------
    source : str
        The file, and the part of it that was taken.
    matched : tuple of str
        Names of tensors that both have, in the same shape.
    missing, extra : tuple of str
        Names that only the network has, and names that only the file has.
    reshaped : tuple of str
        Names that both have, in different shapes.
    classifier : tuple of str
        Tensors of a classifier that the network has no place for.
    outside : tuple of str
        Tensors of the file's other parts, whose names do not begin as the network's do.
    """

    source: str
    matched: tuple[str, ...]
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()
    classifier: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether every tensor found its place, and every place its tensor."""
        return not (self.missing or self.extra or self.reshaped)

    def __str__(self) -> str:
        parts = [f"{len(self.matched)} tensors matched"]
        for word, names in (
            ("missing", self.missing),
            ("extra", self.extra),
            ("of another shape", self.reshaped),
            ("of a classifier left out", self.classifier),
        ):
            parts.append(_counted(word, names))
        if self.outside:
            parts.append(_counted("of other parts left out", self.outside))
        return f"{self.source}: " + ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return the counts and the names that did not match."""
        return {
            "matched": len(self.matched),
            "missing": list(self.missing),
            "extra": list(self.extra),
            "classifier_left_out": list(self.classifier),
            **({"other_parts_left_out": list(self.outside)} if self.outside else {}),
        }


def _counted(word: str, names: Sequence[str]) -> str:
    return f"{len(names)} {word}" + (f" ({listed(names)})" if names else "")


def read_weights(path: str | Path) -> WeightsFile:
    """Read tensors from a file: safetensors, `torch.save`, a checkpoint of ours or the paper's.

    What training scripts wrap them in (`WRAPPERS`) is unwrapped, averaged weights before others;
    objects of other classes beside them are passed over. Nothing in the file is run.

    Raises
    ------
    MissingFileError
        There is no such file.
    InputError
        It holds something else than named tensors; the message says what.
    """
    file = Path(path)
    if not file.exists():
        message = f"no weights {str(file)!r}; --weights wants a safetensors or torch.save file"
        raise MissingFileError(message)
    open_regular(file).close()
    if is_checkpoint(file):
        return WeightsFile(file, read_checkpoint(file).model)
    if file.suffix == ".safetensors":
        return _unwrapped(_safetensors(file), file)
    content = load_plain(file, objects=True)
    network = paper_network(content)
    if network is not None:
        return WeightsFile(file, network, paper_classifier(content))
    return _unwrapped(content, file)


def _safetensors(file: Path) -> dict[str, Tensor]:
    try:
        with open_tensors(file) as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        message = f"{file} is no safetensors file, or is damaged: {_one_line(error)}"
        raise InputError(message) from error


def _unwrapped(content: Any, file: Path) -> WeightsFile:
    """Return the tensors of the network that is meant, wherever in the file's content they are."""
    found = list(_networks(content)) or [((), each) for each in (_flat(content),) if each]
    if not found:
        message = f"{file} holds no named tensors of a network, but {_described(content)}"
        if _objects(content):
            message += "; an object is more than tensors and was not run: save its state_dict()"
        raise InputError(message)
    (place, tensors), *others = found
    part = f"its {'.'.join(place)!r}" if place else ""
    rest = [repr(".".join(other)) for other, _ in others if other]
    return WeightsFile(file, tensors, part=part + (f", not {listed(rest)}" if rest else ""))


def _networks(
    content: Any, place: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Yield every network in a file, the one that is meant first: its keys, and its tensors.

    Tensors that stand beside a wrapper (a best accuracy, say) are no network, nor are numbers.
    """
    if not isinstance(content, Mapping) or len(place) > _DEEPEST:
        return
    wrapped = False
    for key in WRAPPERS:
        for found in _networks(content.get(key), (*place, key)):
            wrapped = True
            yield found
    named = {str(name): each for name, each in content.items() if isinstance(each, Tensor)}
    if not wrapped and any(each.ndim for each in named.values()):
        yield place, named


def _flat(content: Any) -> dict[str, Tensor]:
    """Return the tensors of networks under keys of a script's own, by names that begin with them.

    ``{"encoder": {"conv.weight": …}}`` gives ``encoder.conv.weight``.
    """
    if not isinstance(content, Mapping):
        return {}
    return {
        f"{'.'.join((str(key), *place))}.{name}": tensor
        for key, value in content.items()
        for place, tensors in _networks(value)
        for name, tensor in tensors.items()
    }


def _described(content: Any) -> str:
    """Say what a file holds that is no network."""
    values = content if isinstance(content, Mapping) and stands_for(content) is None else None
    if values is None:
        return stands_for(content) or f"a {type(content).__name__} without names"
    parts = [
        f"{printable(repr(name))} ({stands_for(value) or type(value).__name__})"
        for name, value in list(values.items())[:_SHOWN]
    ]
    return ", ".join(parts) + (", …" if len(values) > _SHOWN else "") or "nothing"


def _objects(content: Any) -> bool:
    """Tell whether a file holds objects of classes that were not loaded, at its top."""
    values = content.values() if isinstance(content, Mapping) else ()
    return any(stands_for(each) is not None for each in (content, *values))


def load_file(
    model: nn.Module, weights: WeightsFile, backbone: str, heads: tuple[str, ...]
) -> LoadReport:
    """Load a file's tensors into a network, *in place*, or refuse.

    Every tensor must find its place, and every place its tensor. Only a classifier may be over,
    or stay as it is initialised where the file's has other classes or none. Names may all begin
    with the same words (``module.``, ``_orig_mod.``, ``model.``, …); and a file may hold other
    parts beside a network that is there as a whole, whose names begin otherwise.

    Parameters
    ----------
    model : nn.Module
        The network.
    weights : WeightsFile
        What `read_weights` gave; the names that other code uses are first converted as timm does.
    backbone : str
        The network's name, for messages.
    heads : tuple of str
        Names of the layers that are the network's classifier.

    Returns
    -------
    LoadReport
        What matched, what was left out, and which part of the file was taken.

    Raises
    ------
    InputError
        It does not fit, or several networks in it do; the message counts and names what does not.
    """
    tried: list[_Tried] = []
    for prefix in _prefixes(list(weights.tensors), _anchor(model, heads)):
        tried.append(_compared(model, weights, prefix, heads))
        if tried[-1].report.fits and not tried[-1].report.outside:
            break  # the whole file is this network
    fitting = [each for each in tried if each.report.fits]
    if not fitting:
        report = max((each.report for each in tried), key=lambda each: len(each.matched))
        message = f"weights do not fit backbone {backbone!r}: {report}; name the one they are of"
        raise InputError(message)
    meant = _meant(fitting, weights.path)
    try:
        model.load_state_dict({n: meant.given[n] for n in meant.report.matched}, strict=False)
    except (RuntimeError, NotImplementedError) as error:  # tensors without data, or quantised ones
        message = f"{weights.path} has tensors that cannot be copied: {_one_line(error)}"
        raise InputError(message) from error
    return meant.report


def _one_line(error: Exception) -> str:
    return printable(" ".join(str(error).split())[:300])


class _Tried(NamedTuple):
    """The tensors whose names begin with `prefix`, without it, and how they fit a network."""

    prefix: str
    given: dict[str, Tensor]
    report: LoadReport


def _compared(
    model: nn.Module, weights: WeightsFile, prefix: str, heads: tuple[str, ...]
) -> _Tried:
    """Compare the tensors whose names begin with `prefix` with a network's."""
    inside = {
        name.removeprefix(prefix): each
        for name, each in weights.tensors.items()
        if name.startswith(prefix)
    }
    there, given = model.state_dict(), _converted(inside, model)
    if weights.classifier is not None:
        head = heads[0] if heads else "fc"
        given |= {f"{head}.{key}": each for key, each in weights.classifier.items()}

    def of_head(name: str) -> bool:
        return any(name.startswith(f"{head}.") for head in heads)

    fits = {name for name in there if name in given and given[name].shape == there[name].shape}
    how = [weights.part, f"names without {printable(repr(prefix))}" if prefix else ""]
    said = "; ".join(filter(None, how))
    name = printable(weights.path.name)
    report = LoadReport(
        source=f"{name} ({said})" if said else name,
        matched=tuple(name for name in there if name in fits),
        missing=tuple(n for n in there if n not in given and not (of_head(n) or _COUNTER in n)),
        extra=tuple(name for name in given if name not in there and not of_head(name)),
        reshaped=tuple(n for n in there if n in given and n not in fits and not of_head(n)),
        classifier=tuple(name for name in given if of_head(name) and name not in fits),
        outside=tuple(name for name in weights.tensors if not name.startswith(prefix)),
    )
    return _Tried(prefix, given, report)


def _anchor(model: nn.Module, heads: tuple[str, ...]) -> str:
    """Return the name of a network's first tensor that is not its classifier's."""
    names = (n for n in model.state_dict() if not n.startswith(tuple(f"{h}." for h in heads)))
    return next(names, "")


def _prefixes(names: Sequence[str], anchor: str) -> list[str]:
    """Return what a network's names may begin with in a file, the shortest first.

    Nothing; the words that all names share, one after another; and whatever stands before the name
    of the network's first tensor, where other parts lie beside it.
    """
    shared = [""]
    while len({name.removeprefix(shared[-1]).partition(".")[0] for name in names}) == 1 and all(
        "." in name.removeprefix(shared[-1]) for name in names
    ):
        shared.append(shared[-1] + names[0].removeprefix(shared[-1]).partition(".")[0] + ".")
    before = [name.removesuffix(anchor) for name in names if name.endswith(f".{anchor}")]
    return list(dict.fromkeys([*shared, *sorted(before, key=len)]))


def _meant(fitting: Sequence[_Tried], path: Path) -> _Tried:
    """Return the one of several networks in a file that is meant, or refuse to guess."""

    def rank(each: _Tried) -> int:
        words = each.prefix.split(".")
        if any(follower in word for word in words for follower in _FOLLOWERS):
            return len(_PREFERRED) + 1
        found = (i for i, first in enumerate(_PREFERRED) for w in words if w.startswith(first))
        return min(found, default=len(_PREFERRED))

    ranks = sorted((rank(each), i) for i, each in enumerate(fitting))
    if len(ranks) > 1 and ranks[0][0] == ranks[1][0]:
        names = listed([repr(each.prefix) for each in fitting])
        message = f"{path} holds several networks that fit, by names that begin with {names}; "
        raise InputError(message + "save the one that is meant alone")
    return fitting[ranks[0][1]]


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
