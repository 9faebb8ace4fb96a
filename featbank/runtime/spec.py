"""Specs as typed on the command line: ``name``, ``name:key=value,…`` or a YAML file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featbank.errors import UsageError

__all__ = ["Spec", "load_yaml", "parse_range", "parse_shots", "parse_spec"]

QUOTES = "\"'"

# No file of settings is larger. PyYAML takes seconds for a megabyte, and a hundred times its bytes.
YAML_BYTES = 1 << 20


@dataclass(frozen=True)
class Spec:
    """A name and its parameters, values as typed."""

    name: str
    params: dict[str, Any]

    def __str__(self) -> str:
        if not self.params:
            return self.name
        return f"{self.name}:" + ",".join(f"{key}={value}" for key, value in self.params.items())


def parse_spec(text: str) -> Spec:
    """Parse ``name[:key=value,…]``; a value with , or : is quoted; or read a ``.yaml`` file.

    The YAML file is one mapping with ``name`` and the parameters beside it.
    """
    if text.endswith((".yaml", ".yml")):
        return read_yaml(Path(text))
    name, _, rest = text.partition(":")
    if not name:
        message = f"{text!r} is no spec; write name or name:key=value,key=value"
        raise UsageError(message)
    params: dict[str, Any] = {}
    for part in split_outside_quotes(rest) if rest else ():
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals or not key:
            message = f"in {text!r}: {part!r} is not key=value"
            raise UsageError(message)
        if key in params:
            message = f"in {text!r}: {key} is given twice"
            raise UsageError(message)
        params[key] = unquote(value.strip())
    return Spec(name, params)


def split_outside_quotes(text: str) -> Iterator[str]:
    """Split at commas that stand in no quotes and no brackets."""
    part, quote, depth = "", "", 0
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in QUOTES:
            quote = char
        elif char in "[]":
            depth += 1 if char == "[" else -1
        elif char == "," and depth == 0:
            yield part
            part = ""
            continue
        part += char
    if quote:
        message = f"in {text!r}: a quote {quote} is not closed"
        raise UsageError(message)
    yield part


def unquote(value: str) -> str:
    """Take the quotes off a value that stands in them."""
    if len(value) >= 2 and value[0] in QUOTES and value[-1] == value[0]:
        return value[1:-1]
    return value


def load_yaml(path: Path) -> Any:
    """Return what a YAML file of plain values holds.

    Raises
    ------
    ValueError
        It is no regular file, too large for settings, or no YAML; the message is one line.
    """
    import yaml

    from featbank.files.plain_files import open_regular

    with open_regular(path) as handle:
        raw = handle.read(YAML_BYTES + 1)
    if len(raw) > YAML_BYTES:
        message = f"it is larger than {YAML_BYTES >> 20} MiB"
        raise ValueError(message)
    try:
        return yaml.safe_load(raw.decode())
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def read_yaml(path: Path) -> Spec:
    """Read a spec from a YAML mapping with the key ``name``."""
    if not os.path.lexists(path):
        message = f"spec file {path} does not exist"
        raise UsageError(message)
    try:
        content = load_yaml(path)
    except ValueError as error:
        message = f"{path} is not YAML: {error}"
        raise UsageError(message) from error
    if not isinstance(content, dict) or not isinstance(content.get("name"), str):
        message = f"{path} must be a mapping with the key name"
        raise UsageError(message)
    return Spec(content.pop("name"), {str(key): value for key, value in content.items()})


def parse_shots(text: str | None) -> tuple[int, int] | None:
    """Parse ``MANY,FEW`` into two thresholds."""
    if text is None:
        return None
    try:
        many, few = (int(part) for part in text.split(","))
    except ValueError:
        message = f"--shots wants two whole numbers as 100,20; got {text!r}"
        raise UsageError(message) from None
    return many, few


def parse_range(text: str, parts: int) -> list[float]:
    """Parse ``start:stop`` (2 parts) or ``start:stop:step`` (3)."""
    form = ":".join(("start", "stop", "step")[:parts])
    try:
        numbers = [float(part) for part in text.split(":")]
    except ValueError:
        numbers = []
    valid = len(numbers) == parts and all(abs(number) < 1e6 for number in numbers)
    if not valid or numbers[0] > numbers[1] or (parts == 3 and numbers[2] <= 0):
        message = f"{text!r} is not {form} with start <= stop and a step above 0"
        raise UsageError(message)
    return numbers
