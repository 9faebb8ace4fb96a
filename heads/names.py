"""What to say about a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "near_names"]


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names most like one that is not known, at most three, the nearest first."""
    return difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.5)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "did you mean A or B?" for the names most like `name`; nothing where none is."""
    near = near_names(name, known)
    return f"did you mean {' or '.join(near)}?" if near else ""
