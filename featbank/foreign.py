"""Checkpoints of other code: tensors and plain containers, and nothing that runs."""

from __future__ import annotations

import pickle  # noqa: TID251 - for the name of the error that torch raises
import pickletools
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featbank._plain import open_regular
from featbank.errors import InputError
from featbank.names import listed, printable

__all__ = [
    "load_plain",
    "paper_classifier",
    "paper_network",
    "stands_for",
    "without_prefix",
]

# A checkpoint's numbers beside its tensors (a best accuracy, say) are often numpy scalars. numpy 1
# and numpy 2 name the function that makes them differently.
NUMPY_SCALARS: list[Any] = [
    np.dtype,
    (np._core.multiarray.scalar, "numpy._core.multiarray.scalar"),  # type: ignore[attr-defined]
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]
    *(type(np.dtype(code)) for code in ("f2", "f4", "f8", "?", "U")),
    *(type(np.dtype(f"{kind}{size}")) for kind in "iu" for size in (1, 2, 4, 8)),
]

# Calls that do no more than make a value. A stand-in takes the value's place; any other call in a
# pickle is a program, and refused.
_PATHS = ("Path", "PurePath", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
_MAKERS = frozenset(
    {
        *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in _PATHS),
        *(f"datetime.{name}" for name in ("date", "time", "datetime", "timedelta", "timezone")),
        "collections.defaultdict",
        "decimal.Decimal",
        "types.SimpleNamespace",
    }
)
_ARRAYS = frozenset(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core"))
_STANDS_FOR = "featbank stands for"


def load_plain(path: Path, *, objects: bool = False) -> Any:
    """Load a file of `torch.save`, refusing everything but tensors, numbers and containers.

    Parameters
    ----------
    path
        The file.
    objects
        Let objects of other classes pass (the ``args`` of a training script, say). Their classes
        are not imported: an empty dictionary stands in for each, and `stands_for` names its class.

    Raises
    ------
    MissingFileError
        There is no such file.
    InputError
        It is no such file, or asks for code to be run; none was. The message names the class or
        the function that is in the way.
    """
    open_regular(path).close()
    with torch.serialization.safe_globals(NUMPY_SCALARS):
        others = _other_names(path)
        called: list[str] = []
        stand_ins = [(_stand_in(name, called), name) for name in others] if objects else []
        # torch's reader sets a state only where the class of what has it is known to it.
        known: list[Any] = [*stand_ins, (_Array, "featbank.foreign._Array")] if objects else []
        try:
            with torch.serialization.safe_globals(known), warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of protocols that it may refuse
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise InputError(_refusal(path, called, others)) from error
        except Exception as error:  # torch raises whatever its parser stumbles over
            kind = type(error).__name__
            message = f"{path} is no file of torch.save ({kind})"
            if "torchscript" in str(error).lower():
                message = f"{path} is a TorchScript program, which is not run; save a state_dict()"
            elif others:
                message = _refusal(path, called, others)
            raise InputError(message) from error


def _refusal(path: Path, called: Sequence[str], others: Sequence[str]) -> str:
    """Say what of a file is more than tensors."""
    if called:
        reason = f"it calls {listed(called)}"
    elif others:
        reason = f"it has objects of {listed(others)}"
    else:
        reason = "its pickle has instructions that torch's safe reader does not take"
    remedy = "save the network's state_dict() alone, with torch.save as it is"
    return f"{path} holds more than tensors and was not run: {reason}; {remedy}"


def _other_names(path: Path) -> list[str]:
    """Return the names of the classes and functions in a file that torch does not know as safe."""
    try:
        names = set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # noqa: BLE001 - no zip file, or one that torch.load will refuse with a reason
        names = set(_names_in_pickles(path))
    scalars = (
        each if isinstance(each, tuple) else (each, _full_name(each)) for each in NUMPY_SCALARS
    )
    return sorted(names - {name for _, name in scalars})


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


# A file that torch.save wrote before version 1.6 begins with four pickles: a magic number, a
# version, the system, and the content.
_PICKLES = 4


def _names_in_pickles(path: Path) -> Iterator[str]:
    """Yield the classes and functions that a file's first pickles name; nothing is unpickled."""
    with path.open("rb") as file:
        try:
            for _ in range(_PICKLES):
                for code, argument, _ in pickletools.genops(file):
                    if code.name == "GLOBAL":
                        module, _, name = str(argument).partition(" ")
                        full = f"{_RENAMED.get(module, module)}.{name}"
                        if not _KNOWN.fullmatch(full):
                            yield full
        except Exception:  # noqa: BLE001 - no pickle; torch.load says so
            return


# Protocol 2 has the names that modules had in Python 2.
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}
# What tensors are made of in a file of torch.save, and what else torch reads by itself.
_KNOWN = re.compile(
    r"torch\.\w+|torch\.(_utils|_tensor|storage|nn\.parameter|serialization)\.\w+"
    r"|collections\.(OrderedDict|Counter)|_codecs\.encode|builtins\.(set|bytearray|complex)"
)


class _Array:
    """Stands for a numpy array: torch's reader calls what makes one, and then sets its state."""

    def __setstate__(self, _state: object) -> None:
        """Take no state."""


def _stand_in(name: str, called: list[str]) -> type:
    """Return a class that takes the place of the one called `name`, which is never imported.

    Making an object of it gives an `OrderedDict`, the one container that torch's reader both fills
    with items and gives a state. Calling it is refused, and noted in `called`, unless the name is
    one that only makes a value.
    """

    def made() -> OrderedDict[str, Any]:
        empty: OrderedDict[str, Any] = OrderedDict()
        vars(empty)[_STANDS_FOR] = name
        return empty

    class Called(type):
        def __call__(cls, *_args: object) -> object:
            if name in _ARRAYS:
                return _Array()
            if name in _MAKERS:
                return made()
            called.append(name)
            raise pickle.UnpicklingError(name)

    class StandIn(metaclass=Called):
        def __new__(cls, *_args: object) -> Any:
            return made()

    return StandIn


def stands_for(value: object) -> str | None:
    """Return the name of the class of which a value of `load_plain` is a stand-in, or None."""
    if isinstance(value, _Array):
        return "numpy.ndarray"
    if isinstance(value, OrderedDict) and _STANDS_FOR in vars(value):
        return printable(vars(value)[_STANDS_FOR])
    return None


def without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop the ``module.`` that DataParallel puts before every name."""
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def paper_classifier(content: Any) -> dict[str, Tensor] | None:
    """Return weight (C, D) and bias (C,) of a ``final_model_checkpoint.pth``, or None.

    The code of Kang et al. (ICLR 2020) saves {"state_dict_best": {"feat_model": …, "classifier":
    {"module.fc.weight", "module.fc.bias"}}}.
    """
    try:
        tensors = without_prefix(content["state_dict_best"]["classifier"])
        return {"weight": tensors["fc.weight"], "bias": tensors["fc.bias"]}
    except (KeyError, TypeError, AttributeError, IndexError):
        return None


def paper_network(content: Any) -> dict[str, Tensor] | None:
    """Return the backbone's tensors of a ``final_model_checkpoint.pth``, or None."""
    try:
        return without_prefix(content["state_dict_best"]["feat_model"])
    except (KeyError, TypeError, AttributeError, IndexError):
        return None
