"""Stage 2: cached features in, fitted classifiers out.

Every head is a scikit-learn classifier that takes numpy arrays or tensors. Beside the heads stand
`heads.metrics`, `heads.select`, `heads.sweep` and `heads.specs`.
"""

from heads._io import load, read_metadata, save
from heads.balanced_softmax import BalancedSoftmax
from heads.crt import ClassifierRetraining
from heads.joint import JointClassifier
from heads.logit_adjust import LogitAdjustment
from heads.lws import LearnableWeightScaling
from heads.many import fit_many
from heads.ncm import NearestClassMean
from heads.tau_norm import TauNorm

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
