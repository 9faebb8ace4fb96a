"""How good a head is, and how sure that is."""

from heads.metrics.accuracy import (
    FEW,
    GROUPS,
    MANY,
    MEDIUM,
    absent_classes,
    confidence_interval,
    evaluate,
    group_means,
    shot_groups,
)

__all__ = [
    "FEW",
    "GROUPS",
    "MANY",
    "MEDIUM",
    "absent_classes",
    "confidence_interval",
    "evaluate",
    "group_means",
    "shot_groups",
]
