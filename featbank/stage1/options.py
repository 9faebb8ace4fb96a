"""Choices with parameters, as a setting spells them: ``name`` or ``name:key=value,…``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from featbank.errors import InputError
from featbank.runtime.names import require_known

__all__ = ["Choice", "parse_choice"]


@dataclass(frozen=True)
class Choice:
    """A name, and every parameter it has, given or default."""

    name: str
    params: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.params[key]


def parse_choice(kind: str, text: str, known: Mapping[str, Mapping[str, Any]]) -> Choice:
    """Read a choice out of a setting.

    Parameters
    ----------
    kind
        What is chosen, for messages: ``loss``.
    text
        ``focal`` or ``focal:gamma=1.5``.
    known
        Parameters and their defaults by name; a default that is a number, or None, takes numbers.

    Raises
    ------
    InputError
        The name or a parameter is unknown, or a value is no number where one is wanted.
    """
    name, _, rest = text.partition(":")
    require_known(kind, name, known)
    params = dict(known[name])
    for part in rest.split(",") if rest else ():
        key, equals, value = part.partition("=")
        if not equals or not params:
            takes = "is not key=value" if params else "is a parameter, and it has none"
            message = f"{kind} {text!r}: {part!r} {takes}"
            raise InputError(message)
        require_known(f"parameter of {kind} {name}", key.strip(), params)
        wants_text = isinstance(params[key.strip()], str)
        params[key.strip()] = value.strip() if wants_text else _number(kind, text, part, value)
    return Choice(name, params)


def _number(kind: str, text: str, part: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        message = f"{kind} {text!r}: {part!r} is not a number"
        raise InputError(message) from None
