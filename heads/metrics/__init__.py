"""How good a head is, and how sure that is.

What is named here is imported when it is first asked for: shot groups need no engine.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heads.metrics.accuracy import absent_classes, confidence_interval, evaluate, group_means
    from heads.metrics.shots import FEW, GROUPS, MANY, MEDIUM, ShotGroups, Shots

# Where each public name is defined.
_HOMES = {
    "FEW": "heads.metrics.shots",
    "GROUPS": "heads.metrics.shots",
    "MANY": "heads.metrics.shots",
    "MEDIUM": "heads.metrics.shots",
    "ShotGroups": "heads.metrics.shots",
    "Shots": "heads.metrics.shots",
    "absent_classes": "heads.metrics.accuracy",
    "confidence_interval": "heads.metrics.accuracy",
    "evaluate": "heads.metrics.accuracy",
    "group_means": "heads.metrics.accuracy",
}

__all__ = [
    "FEW",
    "GROUPS",
    "MANY",
    "MEDIUM",
    "ShotGroups",
    "Shots",
    "absent_classes",
    "confidence_interval",
    "evaluate",
    "group_means",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home."""
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
