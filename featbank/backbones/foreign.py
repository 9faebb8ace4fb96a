"""Checkpoints of other code: tensors and plain containers, and nothing that runs."""

from __future__ import annotations

import pickle  # noqa: TID251 - for the name of the error that torch raises
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featbank.errors import InputError
from featbank.files.plain_files import open_regular
from featbank.files.torch_file import prove_torch_file
from featbank.runtime.names import listed, printable

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

# Calls in a pickle that only make a value. A stand-in takes the value's place. Any other call could
# run a program, and is refused.
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
    path : Path
        The file.
    objects : bool
        Let objects of other classes pass (the ``args`` of a training script, say). Their classes
        are not imported: an empty dictionary stands in for each, and `stands_for` names its class.

    Raises
    ------
    MissingFileError
        There is no such file.
    InputError
        It is no regular file, none of torch.save, damaged, or asks for code to be run; none was.
        The message names the class or the function that is in the way.
    """
    if _is_torchscript(path):
        message = (
            f"{path} is a TorchScript program, which is not run; save its state_dict() instead"
        )
        raise InputError(message)
    others = _other_names(prove_torch_file(path))
    called: list[str] = []
    with torch.serialization.safe_globals(NUMPY_SCALARS):
        stand_ins = [(_stand_in(name, called), name) for name in others] if objects else []
        # torch's reader sets a state only where the class of what has it is known to it.
        known: list[Any] = (
            [*stand_ins, (_Array, "featbank.backbones.foreign._Array")] if objects else []
        )
        try:
            with torch.serialization.safe_globals(known), warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of protocols that it may refuse
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise InputError(_refusal(path, called, others)) from error
        except Exception as error:  # torch raises errors of many classes on odd files
            kind = type(error).__name__
            message = f"{path} is no file of torch.save ({kind})"
            raise InputError(_refusal(path, called, others) if others else message) from error


def _is_torchscript(path: Path) -> bool:
    """Tell whether a file is a program that torch.jit saved."""
    with open_regular(path) as file:
        try:
            names = zipfile.ZipFile(file).namelist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError):
            return False
    return any(name.endswith("/constants.pkl") for name in names)


def _refusal(path: Path, called: Sequence[str], others: Sequence[str]) -> str:
    """Return a message that says what a file holds beside tensors."""
    if called:
        reason = f"it calls {listed(called)}"
    elif others:
        reason = f"it has objects of {listed(others)}"
    else:
        reason = "its pickle has instructions that torch's safe reader does not take"
    remedy = "save the network's state_dict() alone, with torch.save as it is"
    return f"{path} holds more than tensors and was not run: {reason}; {remedy}"


def _other_names(names: frozenset[str]) -> list[str]:
    """Return those names of a file's classes and functions that torch does not know as safe."""
    scalars = (
        each if isinstance(each, tuple) else (each, _full_name(each)) for each in NUMPY_SCALARS
    )
    known = {name for _, name in scalars}
    now = {_in_python_3(name) for name in names}
    return sorted(name for name in now - known if not _KNOWN.fullmatch(name))


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _in_python_3(name: str) -> str:
    module, _, rest = name.partition(".")
    return f"{_RENAMED.get(module, module)}.{rest}"


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
    if not isinstance(content, Mapping):
        return None
    try:
        tensors = without_prefix(content["state_dict_best"]["classifier"])
        return {"weight": tensors["fc.weight"], "bias": tensors["fc.bias"]}
    except (KeyError, TypeError, AttributeError, IndexError):
        return None


def paper_network(content: Any) -> dict[str, Tensor] | None:
    """Return the backbone's tensors of a ``final_model_checkpoint.pth``, or None."""
    if not isinstance(content, Mapping):
        return None
    try:
        return without_prefix(content["state_dict_best"]["feat_model"])
    except (KeyError, TypeError, AttributeError, IndexError):
        return None
