"""Which fits share their batches: the streams of a set of SGD fits, and stacks of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heads.solvers.rows import TrainingRows
from heads.solvers.sgd import Plan, Recipe, Schedule, sampled_rows, schedule_of

__all__ = ["Bundle", "SgdFit", "bundles"]

Start = TypeVar("Start")


@dataclass(frozen=True)
class SgdFit:
    """One SGD fit: its recipe, its plan, and where its chance comes from.

    state is a seed, or a numpy generator, which belongs to this fit alone.
    """

    recipe: Recipe
    plan: Plan
    state: Any


@dataclass(frozen=True)
class Bundle(Generic[Start]):
    """Fits that make one stack: H fits on each of S streams of batches.

    Attributes
    ----------
    members : ndarray of shape (S, H)
        Places of the fits in the list that was given.
    starts : list of length S
        What each stream's generator drew first.
    batches : Tensor of shape (n_steps, S, batch), int64
        Row numbers of every step and stream.
    schedule : Schedule
        What each fit does at each step.
    """

    members: NDArray[np.int64]
    starts: list[Start]
    batches: Tensor
    schedule: Schedule

    def stacked(self, of_streams: Tensor) -> Tensor:
        """Return (S, H, …), a copy for each fit of what its stream has in `of_streams` (S, …)."""
        n_heads = self.members.shape[1]
        return of_streams.unsqueeze(1).repeat(1, n_heads, *(1,) * (of_streams.ndim - 1))


def bundles(
    fits: Sequence[SgdFit], train: TrainingRows, start: Callable[[np.random.Generator], Start]
) -> list[Bundle[Start]]:
    """Draw the batches of fits that have one batch size, and put the fits into stacks.

    Fits with the same seed, q and per_class share a stream; one with fewer steps takes the
    beginning of it. Streams whose fits take the same numbers of steps make one stack.

    Parameters
    ----------
    fits : sequence of SgdFit
    train : TrainingRows
        The dtype and device of its features are those that the fits compute in.
    start : callable
        From a stream's generator to what it draws before its rows.
    """
    streams = _streams(fits)
    drawn = {}
    for key, members in streams.items():
        longest = fits[members[0]]
        rng = np.random.default_rng(longest.state)
        first = start(rng)
        drawn[key] = first, sampled_rows(train.y_idx, longest.recipe, longest.plan, rng)
    alike: dict[tuple[int, ...], list[Hashable]] = {}
    for key, members in streams.items():
        alike.setdefault(tuple(fits[i].plan.n_steps for i in members), []).append(key)
    return [
        Bundle(
            np.array([streams[key] for key in keys]),
            [drawn[key][0] for key in keys],
            torch.stack([drawn[key][1] for key in keys], dim=1),
            _schedule(keys, streams, fits, train.feats),
        )
        for keys in alike.values()
    ]


def _schedule(
    keys: Sequence[Hashable],
    streams: Mapping[Hashable, Sequence[int]],
    fits: Sequence[SgdFit],
    like: Tensor,
) -> Schedule:
    """Return what the fits of some streams, given by their keys, do at each step."""
    members = [[fits[i] for i in streams[key]] for key in keys]
    return schedule_of([[(fit.recipe, fit.plan) for fit in stream] for stream in members], like)


def _streams(fits: Sequence[SgdFit]) -> dict[Hashable, list[int]]:
    """Return the fits of each stream, those with most steps first."""
    streams: dict[Hashable, list[int]] = {}
    for place, fit in enumerate(fits):
        recipe = fit.recipe
        handful = recipe.per_class if recipe.q == 0 else 0
        seed = int(fit.state) if isinstance(fit.state, Integral) else None
        key = (seed, recipe.q, handful, recipe.n_views) if seed is not None else place
        streams.setdefault(key, []).append(place)
    for members in streams.values():
        members.sort(key=lambda place: -fits[place].plan.n_steps)
    return streams
