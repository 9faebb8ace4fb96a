"""Class probabilities that a head's scores take for granted, and those of where it is used."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featbank.errors import InputError
from featbank.files.plain_files import open_regular
from featbank.runtime.names import printable
from heads.balancing.class_frequency import class_probabilities

__all__ = ["assumed_prior", "log_shift", "read_prior", "target_prior"]

Floats = NDArray[np.float64]
_MOST_BYTES = 64 << 20


def assumed_prior(head: str, params: Mapping[str, Any], counts: ArrayLike) -> Floats:
    """Return the class probabilities (C,) for which a head's probabilities hold.

    A softmax classifier that was fitted with class j drawn in proportion to n_j^q states the
    posterior of a world in which classes come so (Saerens et al. 2002). Heads whose scores come
    from balanced training, from an adjustment that takes the training prior out, or from distances
    to class means have none of their own, and are taken for uniform.

    Parameters
    ----------
    head : str
        The head's name.
    params : mapping
        Its parameters.
    counts : array of shape (C,)
        Training rows of each class.
    """
    q = 0.0
    if head == "joint":
        q = 1.0
    elif head in ("crt", "lws"):
        q = float(params.get("q") or 0.0)
    elif head == "logit-adjust":
        q = 1.0 - float(params.get("tau") or 0.0)
    return class_probabilities(counts, q)


def log_shift(target: ArrayLike, assumed: ArrayLike) -> Floats:
    """Return what is added to log-probabilities (n, C) that hold for another prior, (C,).

    Saerens, Latinne and Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori
    Probabilities" (Neural Computation, 2002), equation 2.4, in logarithms. A class of target
    probability 0 gets -inf.

    Parameters
    ----------
    target, assumed : arrays of shape (C,)
        Class probabilities where the model is used, and those for which its outputs hold.
    """
    new, old = np.asarray(target, np.float64), np.asarray(assumed, np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(new) - np.log(np.maximum(old, np.finfo(np.float64).tiny)))


def target_prior(name: str, class_names: Sequence[str], counts: Sequence[int] | None) -> Floats:
    """Return the class probabilities (C,) that ``train``, ``uniform`` or a file's path stands for.

    Raises
    ------
    InputError
        The training counts are not known, or the file does not give every class a probability.
    """
    if name == "uniform":
        return np.full(len(class_names), 1 / len(class_names))
    if name != "train":
        return read_prior(Path(name), class_names)
    if counts is None:
        message = (
            "this head does not say how many training rows each class has; fit it again, or give "
            "the probabilities in a file with --prior FILE"
        )
        raise InputError(message)
    return class_probabilities(counts, 1.0)


def read_prior(path: Path, class_names: Sequence[str]) -> Floats:
    """Read class probabilities (C,) from a CSV file of lines ``class,probability``.

    Numbers from 0 that are not all 0; they are divided by their sum, so counts do as well. A first
    line whose second field is no number is a heading.

    Raises
    ------
    InputError
        A class is missing, unknown or named twice, or a number cannot be a probability.
    """
    with open_regular(path) as file:
        raw = file.read(_MOST_BYTES)
    try:
        rows = [row for row in csv.reader(StringIO(raw.decode("utf-8-sig"), newline="")) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        message = f"{path} is no CSV file of lines class,probability ({error})"
        raise InputError(printable(message)) from error
    found: dict[str, float] = {}
    for line, row in enumerate(rows, start=1):
        value = _number(row[1]) if len(row) == 2 else None
        if value is None and line == 1 and len(row) == 2:
            continue
        if value is None or row[0] in found:
            why = "names a class again" if row[0] in found else "is not class,probability"
            message = f"{path}, line {line} {why}: {','.join(row)[:80]}"
            raise InputError(printable(message))
        found[row[0]] = value
    missing = [name for name in class_names if name not in found]
    unknown = [name for name in found if name not in set(class_names)]
    if missing or unknown:
        what = f"lacks class {missing[0]!r}" if missing else f"has no class {unknown[0]!r} of ours"
        raise InputError(printable(f"{path} {what}; it must name the {len(class_names)} classes"))
    values = np.array([found[name] for name in class_names])
    if values.sum() <= 0:
        message = f"{path} gives every class the probability 0"
        raise InputError(message)
    return np.asarray(values / values.sum())


def _number(text: str) -> float | None:
    """Return a finite number from 0, None for any other text."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < np.inf else None
