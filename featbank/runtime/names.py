"""Names in messages: shown safely, listed, and the nearest ones to a name that is not known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from featbank.errors import InputError
from heads.names import did_you_mean

__all__ = ["listed", "printable", "require_known"]

# A message lists all known names only where there are at most this many.
_LISTED = 12


def printable(text: str) -> str:
    """Escape characters that are not printable, so that names in files cannot steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return the first few names for a message, escaped, with a mark where there are more."""
    shown = ", ".join(printable(name) for name in names[:most])
    return shown + (", …" if len(names) > most else "")


def require_known(kind: str, name: str, known: Iterable[str], where: str = "") -> None:
    """Raise `InputError` with the nearest names unless a name is one of those that are known.

    Parameters
    ----------
    kind : str
        What the name is of, as ``backbone``.
    name : str
        What was given.
    known : iterable of str
        The names that are allowed.
    where : str
        Where all of them are listed, if they are too many for a message.
    """
    choices = sorted(known)
    if name in choices:
        return
    near = did_you_mean(name, choices)
    hint = f"; {near}" if near else ""
    if len(choices) <= _LISTED:
        hint += f" (known: {', '.join(choices)})"
    elif where:
        hint += f" ({where})"
    message = f"unknown {kind} {name!r}{hint}"
    raise InputError(message)
