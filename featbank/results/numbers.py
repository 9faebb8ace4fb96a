"""Numbers as tables show them."""

from __future__ import annotations

__all__ = ["GROUPS", "percent"]

# The columns of a table of accuracies.
GROUPS = ("many", "medium", "few", "all")


def percent(value: float | None) -> str:
    """Show a fraction as a percentage; a group with no classes as a dash."""
    return "-" if value is None else f"{100 * value:.1f}"
