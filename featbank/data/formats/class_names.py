"""Checks of class names, which come from files and folders that anybody may have made."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from featbank.errors import InputError
from featbank.runtime.names import printable

__all__ = ["require_names", "same_looking", "twins"]

# A longer name means that the file holds something else; it would fit no table.
LONGEST = 1000
# The Unicode categories of control characters, surrogates, and line and paragraph separators.
_UNSHOWABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})


def require_names(names: Sequence[str]) -> None:
    """Refuse names of classes that cannot be shown in a line of text.

    Raises
    ------
    InputError
        A name is empty, too long, or has control characters or bytes that are no UTF-8 in it.
    """
    for index, name in enumerate(names):
        if not name.strip():
            reason = "is empty"
        elif len(name) > LONGEST:
            reason = f"has {len(name):,} characters, and at most {LONGEST:,} are taken"
        elif any(unicodedata.category(char) in _UNSHOWABLE for char in name):
            reason = "has control characters, or bytes that are no UTF-8, in it"
        else:
            continue
        message = f"the name of class {index}, '{printable(name[:60])}', {reason}; rename it"
        raise InputError(message)


def same_looking(name: str) -> str:
    """Return a form that names which differ in case or Unicode form alone have in common."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def twins(names: Sequence[str]) -> list[str]:
    """Return one sentence for each group of classes whose names look the same."""
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(same_looking(name), []).append(index)
    return [
        f"classes {', '.join(map(str, group[:5]))} have names that look the same "
        f"('{printable(names[group[0]])}'); they are kept apart"
        for group in groups.values()
        if len(group) > 1
    ]
