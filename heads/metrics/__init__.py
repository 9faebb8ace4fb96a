"""How good a head is, and how sure that is.

What is named here is imported when it is first asked for: shot groups need no engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from heads.lazy import lazy_names

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


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
