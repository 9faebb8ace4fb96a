"""Stage 2: cached features in, fitted classifiers out.

Every head is a scikit-learn classifier that takes numpy arrays or tensors. Beside the heads stand
`heads.metrics`, `heads.curves` and `heads.specs`. What is named here is imported when it is first
asked for, so that ``import heads`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from heads.lazy import lazy_names

if TYPE_CHECKING:
    from heads._load import load, read_metadata
    from heads._save import save
    from heads.estimators.balanced_softmax import BalancedSoftmax
    from heads.estimators.crt import ClassifierRetraining
    from heads.estimators.joint import JointClassifier
    from heads.estimators.logit_adjust import LogitAdjustment
    from heads.estimators.lws import LearnableWeightScaling
    from heads.estimators.many import fit_many
    from heads.estimators.ncm import NearestClassMean
    from heads.estimators.tau_norm import TauNorm

# Where each public name is defined.
_HOMES = {
    "BalancedSoftmax": "heads.estimators.balanced_softmax",
    "ClassifierRetraining": "heads.estimators.crt",
    "JointClassifier": "heads.estimators.joint",
    "LearnableWeightScaling": "heads.estimators.lws",
    "LogitAdjustment": "heads.estimators.logit_adjust",
    "NearestClassMean": "heads.estimators.ncm",
    "TauNorm": "heads.estimators.tau_norm",
    "fit_many": "heads.estimators.many",
    "load": "heads._load",
    "read_metadata": "heads._load",
    "save": "heads._save",
}
_ROOMS = ("curves", "metrics", "specs")

__all__ = [
    "BalancedSoftmax",
    "ClassifierRetraining",
    "JointClassifier",
    "LearnableWeightScaling",
    "LogitAdjustment",
    "NearestClassMean",
    "TauNorm",
    "fit_many",
    "load",
    "read_metadata",
    "save",
]


_find, _names = lazy_names(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name from its home, or a public module."""
    return import_module(f"heads.{name}") if name in _ROOMS else _find(name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted((*_names(), *_ROOMS))
