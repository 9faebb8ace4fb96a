"""What a model says of itself: what its numbers mean, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from featbank.data.transforms import InputSpec
from featbank.errors import DamagedError
from featbank.results.plain import plain
from featbank.results.records import Reached
from featbank.serving.prior import assumed_prior

__all__ = ["ModelRecord"]


@dataclass(frozen=True)
class ModelRecord:
    """What a model's file or folder says beside its tensors.

    Attributes
    ----------
    class_names : tuple of str
        Of the columns of the scores, in their order.
    input : InputSpec, optional
        How an image is brought to what the network sees; None for a head without a network.
    backbone : str
        The network's name.
    head : str
        The head's name.
    spec : str
        The head as a command line names it.
    params : mapping
        The head's parameters.
    temperature : float
        What scores are divided by before the softmax.
    class_counts : tuple of int, optional
        Training rows of the columns' classes.
    results : tuple of Reached
        What the head reached where it was fitted.
    provenance : mapping
        Digest of the bank, identity of the features, the split that chose, notes.
    """

    class_names: tuple[str, ...]
    input: InputSpec | None = None
    backbone: str = ""
    head: str = ""
    spec: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    temperature: float = 1.0
    class_counts: tuple[int, ...] | None = None
    results: tuple[Reached, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def assumed_prior(self) -> Any:
        """Return the class probabilities (C,) for which the probabilities hold; see `prior`."""
        counts = self.class_counts
        if counts is None:
            return np.full(len(self.class_names), 1 / len(self.class_names))
        return assumed_prior(self.head, self.params, counts)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of it."""
        return {
            "schema": 1,
            "class_names": list(self.class_names),
            "input": None if self.input is None else self.input.to_json(),
            "backbone": self.backbone,
            "head": self.head,
            "spec": self.spec,
            "params": dict(self.params),
            "temperature": self.temperature,
            "class_counts": None if self.class_counts is None else list(self.class_counts),
            "results": plain(self.results),
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any], source: str) -> Self:
        """Read the object that `to_json` gave.

        Raises
        ------
        DamagedError
            It is no such object; the message begins with `source`.
        """
        try:
            if found["schema"] != 1:
                raise ValueError(found["schema"])
            counts, spec = found.get("class_counts"), found["input"]
            record = cls(
                class_names=tuple(map(str, found["class_names"])),
                input=None if spec is None else InputSpec.from_json(spec),
                backbone=str(found["backbone"]),
                head=str(found["head"]),
                spec=str(found["spec"]),
                params=dict(found["params"]),
                temperature=float(found["temperature"]),
                class_counts=None if counts is None else tuple(map(int, counts)),
                results=tuple(map(Reached.from_json, found["results"])),
                provenance=dict(found["provenance"]),
            )
            if not (0 < record.temperature < float("inf")) or len(record.class_names) < 2:
                raise ValueError(record.temperature)
            if record.class_counts and len(record.class_counts) != len(record.class_names):
                raise ValueError(record.class_counts)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"{source} is no record of a model that this version reads ({error})"
            raise DamagedError(" ".join(message.split())) from error
        return record
