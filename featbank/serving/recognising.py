"""Telling a model's folder from others, without loading what runs it."""

from __future__ import annotations

import json
from pathlib import Path

from featbank.files.plain_files import read_plain

__all__ = ["CONFIG", "KEY", "MOST_BYTES", "is_model"]

CONFIG = "config.json"
# The key of our entry in config.json.
KEY = "featbank"
MOST_BYTES = 64 << 20


def is_model(folder: Path) -> bool:
    """Tell whether a folder's ``config.json`` has an entry of featbank's, whole or damaged."""
    if not (folder / CONFIG).exists() or (folder / "zarr.json").exists():
        return False
    try:
        return KEY in json.loads(read_plain(folder, folder / CONFIG, MOST_BYTES))
    except (OSError, ValueError, TypeError, RecursionError):
        return True  # a config.json that cannot be read is a damaged model's, not a bank's
