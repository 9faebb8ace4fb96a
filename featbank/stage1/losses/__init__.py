"""Losses of stage 1: one file each, functions of logits (N, C) and labels (N,) to losses (N,)."""

from __future__ import annotations

from featbank.stage1.losses.balanced_softmax import balanced_softmax
from featbank.stage1.losses.cross_entropy import cross_entropy
from featbank.stage1.losses.effective_number import effective_number_weights
from featbank.stage1.losses.focal import focal, softmax_focal
from featbank.stage1.losses.ldam import ldam, ldam_margins
from featbank.stage1.losses.logit_adjusted import logit_adjusted

__all__ = [
    "balanced_softmax",
    "cross_entropy",
    "effective_number_weights",
    "focal",
    "ldam",
    "ldam_margins",
    "logit_adjusted",
    "softmax_focal",
]
