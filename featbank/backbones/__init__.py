"""Networks by name, what images they take, and weights of other code for them.

>>> from featbank import backbones
>>> backbones.input_spec("tiny-cnn", None, 8).size
8
>>> backbones.classifier_names("tiny-cnn")
('classifier',)

The names are imported when they are first asked for, because torch takes seconds to load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from heads.lazy import lazy_names

if TYPE_CHECKING:
    from featbank.backbones.backbones import (
        build_model,
        classifier_names,
        input_spec,
        split_classifier,
    )
    from featbank.backbones.weights import load_file, read_weights

__all__ = [
    "build_model",
    "classifier_names",
    "input_spec",
    "load_file",
    "read_weights",
    "split_classifier",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "build_model": "featbank.backbones.backbones",
        "classifier_names": "featbank.backbones.backbones",
        "input_spec": "featbank.backbones.backbones",
        "load_file": "featbank.backbones.weights",
        "read_weights": "featbank.backbones.weights",
        "split_classifier": "featbank.backbones.backbones",
    },
)
