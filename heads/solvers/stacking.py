"""Which fits share their batches: the streams of a set of SGD fits, and stacks of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heads.solvers.sgd import Plan, Recipe, Schedule, sampled_rows, schedule

__all__ = ["Bundle", "bundles"]

Start = TypeVar("Start")


@dataclass(frozen=True)
class Bundle(Generic[Start]):
    """Fits that make one stack.

    members (S, H): places of the fits; starts: what each stream's generator drew first;
    batches (n_steps, S, batch): rows of every step and stream; plan: what each fit does.
    """

    members: NDArray[np.int64]
    starts: list[Start]
    batches: Tensor
    plan: Schedule

    def stacked(self, of_streams: Tensor) -> Tensor:
        """Return (S, H, …): each fit its own copy of what its stream has in `of_streams` (S, …)."""
        n_heads = self.members.shape[1]
        return of_streams.unsqueeze(1).repeat(1, n_heads, *(1,) * (of_streams.ndim - 1))


def bundles(
    recipes: Sequence[Recipe],
    plans: Sequence[Plan],
    states: Sequence[Any],
    y_idx: Tensor,
    like: Tensor,
    start: Callable[[np.random.Generator], Start],
) -> list[Bundle[Start]]:
    """Draw the batches of fits that have one batch size, and put the fits into stacks.

    Fits with the same seed, q and handfuls share a stream; one with fewer steps takes the
    beginning of it. Streams whose fits take the same numbers of steps make one stack.

    Parameters
    ----------
    recipes, plans, states : sequences
        Of each fit; a state is a seed, or a generator, which belongs to its fit alone.
    y_idx : Tensor of shape (n,)
    like : Tensor
        Of the dtype and device to compute in.
    start : callable
        What a stream's generator draws before its rows.
    """
    streams = _streams(recipes, plans, states)
    drawn = {}
    for key, members in streams.items():
        rng, first = np.random.default_rng(states[members[0]]), members[0]
        drawn[key] = start(rng), sampled_rows(y_idx, recipes[first], plans[first], rng)
    alike: dict[tuple[int, ...], list[Hashable]] = {}
    for key, members in streams.items():
        alike.setdefault(tuple(plans[i].n_steps for i in members), []).append(key)
    return [
        Bundle(
            np.array([streams[key] for key in keys]),
            [drawn[key][0] for key in keys],
            torch.stack([drawn[key][1] for key in keys], dim=1),
            schedule([[(recipes[i], plans[i]) for i in streams[key]] for key in keys], like),
        )
        for keys in alike.values()
    ]


def _streams(
    recipes: Sequence[Recipe], plans: Sequence[Plan], states: Sequence[Any]
) -> dict[Hashable, list[int]]:
    """Return the fits of each stream, those with most steps first."""
    streams: dict[Hashable, list[int]] = {}
    for place, (recipe, state) in enumerate(zip(recipes, states, strict=True)):
        handful = recipe.per_class if recipe.q == 0 else 0
        seed = int(state) if isinstance(state, Integral) else None
        key = (seed, recipe.q, handful, recipe.n_views) if seed is not None else place
        streams.setdefault(key, []).append(place)
    for members in streams.values():
        members.sort(key=lambda place: -plans[place].n_steps)
    return streams
