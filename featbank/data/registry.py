"""Data sets by name."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featbank.data.formats.cifar import open_cifar10_lt, open_cifar100_lt
from featbank.data.formats.digits import open_digits_lt
from featbank.data.formats.imagefolder import open_imagefolder
from featbank.data.formats.imagelist import open_imagelist
from featbank.data.params import Params
from featbank.data.types import ImageData
from featbank.errors import InputError
from featbank.runtime.names import printable, require_known

__all__ = ["DATA_SETS", "DataSet", "located", "open_data"]


@dataclass(frozen=True)
class DataSet:
    """How a data set is opened, and which parameters it has.

    Attributes
    ----------
    open : callable
        Makes the `ImageData` of parameters.
    required, optional : tuple of str
        The parameters that must be given, and those that may be.
    lists : tuple of str
        The parameters that name files, looked up from the working directory and then from ``root``.
    """

    open: Callable[[Params], ImageData]
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()


_CIFAR = ("imbalance", "profile", "seed", "val", "val_from", "verify", "many", "few")

DATA_SETS = {
    "digits-lt": DataSet(open_digits_lt, optional=("imbalance", "seed", "many", "few")),
    "imagelist": DataSet(
        open_imagelist,
        required=("root", "train"),
        optional=("name", "val", "test", "classes", "grey_bits", "many", "few"),
        lists=("train", "val", "test", "classes"),
    ),
    "imagefolder": DataSet(
        open_imagefolder,
        required=("root",),
        optional=("train", "val", "test", "grey_bits", "many", "few"),
    ),
    "cifar10-lt": DataSet(open_cifar10_lt, required=("root",), optional=_CIFAR),
    "cifar100-lt": DataSet(open_cifar100_lt, required=("root",), optional=_CIFAR),
}


def located(name: str, params: Params) -> dict[str, Any]:
    """Return the parameters of a data set, its paths the same from any working directory.

    A list that is not found from here is one below `root`, and stays as it is.
    """
    listed = [key for key in DATA_SETS[name].lists if Path(str(params.get(key, ""))).is_file()]
    paths = [key for key in ("root", *listed) if key in params]
    return {**params, **{key: str(Path(str(params[key])).absolute()) for key in paths}}


def open_data(name: str, params: Params) -> ImageData:
    """Return the data set `name` with its parameters, given as strings or as what they mean.

    Raises
    ------
    InputError
        The name or a parameter is unknown (the nearest ones are named), a parameter is missing,
        or the data set itself cannot be used.
    """
    require_known("data set", name, DATA_SETS)
    data_set = DATA_SETS[name]
    for key in params:
        require_known(f"parameter of {name}", key, data_set.required + data_set.optional)
    for key, value in params.items():
        if any(unicodedata.category(char) == "Cs" for char in str(value)):
            message = (
                f"{key}='{printable(str(value))}' has bytes in it that are no UTF-8; rename that "
                "folder or file, or make a link with another name to it"
            )
            raise InputError(message)
    missing = [key for key in data_set.required if key not in params]
    if missing:
        example = ",".join(f"{key}=…" for key in data_set.required)
        message = f"{name} needs {' and '.join(missing)}: write {name}:{example}"
        raise InputError(message)
    return data_set.open(params)
