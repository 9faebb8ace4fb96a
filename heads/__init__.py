"""Stage 2: cached features in, fitted classifiers out.

Every head is a scikit-learn classifier that takes numpy arrays or tensors. Beside the heads stand
`heads.metrics`, `heads.curves.select`, `heads.curves.sweep` and `heads.specs`.
"""

from heads._io import load, read_metadata, save
from heads.estimators.balanced_softmax import BalancedSoftmax
from heads.estimators.crt import ClassifierRetraining
from heads.estimators.joint import JointClassifier
from heads.estimators.logit_adjust import LogitAdjustment
from heads.estimators.lws import LearnableWeightScaling
from heads.estimators.many import fit_many
from heads.estimators.ncm import NearestClassMean
from heads.estimators.tau_norm import TauNorm

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
