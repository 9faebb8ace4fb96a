"""Data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from featbank.data.digits import open_digits_lt
from featbank.data.imagelist import open_imagelist
from featbank.data.params import Params
from featbank.data.types import ImageData
from featbank.errors import InputError
from featbank.names import require_known

__all__ = ["DATA_SETS", "DataSet", "open_data"]


@dataclass(frozen=True)
class DataSet:
    """How a data set is opened, and which parameters it must and may have."""

    open: Callable[[Params], ImageData]
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


DATA_SETS = {
    "digits-lt": DataSet(open_digits_lt, optional=("imbalance", "seed", "many", "few")),
    "imagelist": DataSet(
        open_imagelist,
        required=("root", "train"),
        optional=("val", "test", "classes", "many", "few"),
    ),
}


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
    missing = [key for key in data_set.required if key not in params]
    if missing:
        example = ",".join(f"{key}=…" for key in data_set.required)
        message = f"{name} needs {' and '.join(missing)}: write {name}:{example}"
        raise InputError(message)
    return data_set.open(params)
