"""Records as plain JSON values and back: a record's fields are the names in its JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

__all__ = ["fields_of", "known_fields", "plain"]

Record = TypeVar("Record")


def plain(value: Any) -> Any:
    """Return a value as JSON has it: records and mappings as dicts, sequences as lists.

    A record that has a `to_json` of its own is what that returns.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return value.to_json() if hasattr(value, "to_json") else fields_of(value)
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def fields_of(record: Any) -> dict[str, Any]:
    """Return the fields of a record as JSON has them, in the order of its class."""
    return {field.name: plain(getattr(record, field.name)) for field in fields(record)}


def known_fields(kind: type[Record], found: Mapping[str, Any], **parsed: Any) -> Record:
    """Build a record from the JSON object that `plain` made of one.

    Fields that the object lacks keep their defaults, and what it holds besides is left out.

    Parameters
    ----------
    kind : type
        The record's dataclass.
    found : mapping
        The JSON object.
    parsed
        Fields that are records themselves, as they have been read from the object already.

    Raises
    ------
    TypeError
        The object lacks a field that has no default.
    """
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # always a dataclass
    return kind(**{name: found[name] for name in names & found.keys()} | parsed)
