"""The paper's stage-2 training, on cached features: SGD over batches by class frequency.

Any number of fits go together. Fits that draw the same rows share a *stream* of batches. A stack
of parameters is (S, H, …), H fits on each of S streams, and one step moves them all by one gather
and one product. A fit alone is a stack of one, so it computes the same as in company.

Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition"
(ICLR 2020); the numbers are those of its code's `config/ImageNet_LT/cls_crt_*.yaml`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from heads._arrays import one_thread_if_small
from heads.balancing.sampling import rows_by_q
from heads.errors import HeadInputError

__all__ = [
    "FLOOR_STEPS",
    "Plan",
    "Recipe",
    "Schedule",
    "descend_together",
    "plan_steps",
    "sampled_rows",
    "schedule_of",
]

# On a small data set int(N / batch) steps an epoch are none, or so few that they train next to
# nothing. Below so many batches of data a fit takes at least so many steps in all.
SMALL_BATCHES, FLOOR_STEPS = 10, 200
# The row numbers of a fit are drawn at once. So many take 4 GB.
MOST_DRAWS = 1 << 29
# Steps before a CUDA graph is captured, because libraries choose their kernels in the first ones.
WARM_STEPS = 3

Slopes = Sequence[Tensor]


@dataclass(frozen=True)
class Recipe:
    """The numbers of one SGD fit.

    Attributes
    ----------
    lr : float
        Learning rate of the first epoch.
    momentum, weight_decay : float
        As in `torch.optim.SGD`.
    batch : int
        Rows of a step.
    epochs : int
    per_class : int
        Rows in a row from each class drawn, with q = 0.
    q : float
        Classes are drawn in proportion to n_c^q.
    n_views : int
        Above 1 the rows are that many views of the same rows, one view after another.
    """

    lr: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch: int = 512
    epochs: int = 10
    per_class: int = 4
    q: float = 0.0
    n_views: int = 1

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch: half a cosine from `lr` towards zero."""
        return self.lr * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))


@dataclass(frozen=True)
class Plan:
    """How many steps a fit takes in an epoch and in all, and whether the floor raised that."""

    steps_per_epoch: int
    n_steps: int
    floored: bool


@dataclass(frozen=True)
class Schedule:
    """What the fits of a stack do at each step, besides their gradients.

    Attributes
    ----------
    rates : Tensor of shape (n_steps, S, H)
        Learning rates. Past its last step a fit's rate is 0 and never used.
    decays, momenta : Tensors of shape (S, H)
    stops : tuple of length H, decreasing
        The number of steps that fit h of every stream takes.
    """

    rates: Tensor
    decays: Tensor
    momenta: Tensor
    stops: tuple[int, ...]


def plan_steps(n_rows: int, recipe: Recipe, n_classes: int = 1) -> Plan:
    """Return int(N / batch) steps an epoch, or as many as reach the floor where N is small.

    N counts a row once, however many views of it there are.

    Raises
    ------
    HeadInputError
        More rows would be drawn than there is memory for their numbers.
    """
    n_rows //= recipe.n_views
    steps = n_rows // recipe.batch
    small = n_rows < SMALL_BATCHES * recipe.batch
    floored = small and steps * recipe.epochs < FLOOR_STEPS
    if floored:
        steps = math.ceil(FLOOR_STEPS / recipe.epochs)
    # A step costs as much to plan as 32 rows, and each class has one handful at least.
    n_draws = steps * recipe.epochs * max(recipe.batch, 32)
    n_draws = max(n_draws, recipe.per_class * n_classes)
    if n_draws > MOST_DRAWS:
        message = (
            f"too little memory for what was asked: epochs={recipe.epochs}, batch={recipe.batch} "
            f"and per_class={recipe.per_class} draw {n_draws:.1e} rows of {n_rows}; at most "
            f"{MOST_DRAWS:.1e} can be held"
        )
        raise HeadInputError(message)
    return Plan(steps, steps * recipe.epochs, floored)


def schedule_of(fits: Sequence[Sequence[tuple[Recipe, Plan]]], like: Tensor) -> Schedule:
    """Return the schedule of a stack, given by stream and fit, in the dtype of `like`."""
    stops = tuple(plan.n_steps for _, plan in fits[0])
    rates = np.zeros((stops[0], len(fits), len(stops)))
    for s, stream in enumerate(fits):
        for h, (recipe, plan) in enumerate(stream):
            by_epoch = [recipe.rate(epoch) for epoch in range(recipe.epochs)]
            rates[: plan.n_steps, s, h] = np.repeat(by_epoch, plan.steps_per_epoch)
    decays = np.array([[recipe.weight_decay for recipe, _ in stream] for stream in fits])
    momenta = np.array([[recipe.momentum for recipe, _ in stream] for stream in fits])
    rate, decay, momentum = (torch.from_numpy(part).to(like) for part in (rates, decays, momenta))
    return Schedule(rate, decay, momentum, stops)


def sampled_rows(y_idx: Tensor, recipe: Recipe, plan: Plan, rng: np.random.Generator) -> Tensor:
    """Draw the row numbers of every batch of a fit.

    Where rows have several views, each pass over the data sees the next view, and after the last
    the first again. The rows that are drawn do not depend on how many views there are.

    Parameters
    ----------
    y_idx : Tensor of shape (n,)
        The labels of all rows, in all views.
    recipe : Recipe
    plan : Plan
        How many batches to draw.
    rng : numpy.random.Generator
        The only source of chance.

    Returns
    -------
    Tensor of shape (n_steps, batch), int64, on the device of `y_idx`
    """
    n_draws, n_rows = plan.n_steps * recipe.batch, len(y_idx) // recipe.n_views
    rows = rows_by_q(y_idx[:n_rows].cpu().numpy(), recipe.q, n_draws, recipe.per_class, rng)
    if recipe.n_views > 1:
        rows = rows + n_rows * (np.arange(n_draws) // n_rows % recipe.n_views)
    return torch.from_numpy(rows).to(y_idx.device).view(plan.n_steps, recipe.batch)


def descend_together(
    params: Sequence[Tensor],
    gradient: Callable[[Sequence[Tensor], Tensor], Slopes],
    batches: Tensor,
    schedule: Schedule,
) -> None:
    """Move stacks of parameters in place by SGD with momentum and weight decay.

    Each fit goes as `torch.optim.SGD` would take it alone.

    Parameters
    ----------
    params : sequence of tensors (S, H, …), contiguous
    gradient : callable
        From the parameters of the first h fits of each stream, (S, h, …), and the row numbers
        (S, batch) of a step to the gradients of their mean losses, shaped as the parameters.
    batches : Tensor of shape (n_steps, S, batch), int64
        Row numbers of every step and stream.
    schedule : Schedule
        The rates, weight decays and momenta of every fit.

    Raises
    ------
    HeadInputError
        Parameters are not finite at the end.
    """
    velocity = [torch.zeros_like(param) for param in params]
    products = batches.shape[2] * sum(param.numel() for param in params)
    with one_thread_if_small(products):
        for steps, n_active in _stretches(schedule.stops):
            moving = [param[:, :n_active].contiguous() for param in params]
            speeds = [speed[:, :n_active].contiguous() for speed in velocity]
            step = _step(moving, speeds, gradient, schedule, n_active)
            _run(step, batches[steps], schedule.rates[steps, :, :n_active])
            for whole, part in zip((*params, *velocity), (*moving, *speeds), strict=True):
                whole[:, :n_active] = part  # a copy, unless all are moving
    _refuse_divergence(params, schedule)


def _stretches(stops: Sequence[int]) -> Iterator[tuple[slice, int]]:
    """Yield steps between which no fit ends, and how many fits are still going."""
    begin = 0
    for n_active in range(len(stops), 0, -1):
        if stops[n_active - 1] > begin:
            yield slice(begin, stops[n_active - 1]), n_active
            begin = stops[n_active - 1]


def _step(
    params: Sequence[Tensor],
    speeds: Sequence[Tensor],
    gradient: Callable[[Sequence[Tensor], Tensor], Slopes],
    schedule: Schedule,
    n_active: int,
) -> Callable[[Tensor, Tensor], None]:
    """Return the function that takes one step, of its rows (S, batch) and rates (S, h)."""
    momenta, decays = schedule.momenta[:, :n_active], schedule.decays[:, :n_active]

    def step(rows: Tensor, rates: Tensor) -> None:
        for param, speed, slope in zip(params, speeds, gradient(params, rows), strict=True):
            momentum, decay, rate = (
                factor.reshape(*factor.shape, *(1,) * (param.ndim - 2))
                for factor in (momenta, decays, rates)
            )
            torch.addcmul(slope, speed, momentum, out=speed)
            speed.addcmul_(param, decay)
            param.addcmul_(speed, rate, value=-1)

    return step


def _run(step: Callable[[Tensor, Tensor], None], batches: Tensor, rates: Tensor) -> None:
    """Take one step after another; on CUDA as replays of one captured graph.

    A step is some thirty kernels, most of them short: launched one by one they cost more than the
    product. The graph finds its rows and rates by a counter on the device, so that a replay needs
    nothing from the host.
    """
    n_eager = len(batches) if not batches.is_cuda else min(WARM_STEPS, len(batches))
    if not batches.is_cuda:
        for rows, rate in zip(batches, rates, strict=True):
            step(rows, rate)
        return
    place = torch.zeros(1, dtype=torch.int64, device=batches.device)

    def next_step() -> None:
        step(batches.index_select(0, place)[0], rates.index_select(0, place)[0])
        place.add_(1)

    here, side = torch.cuda.current_stream(), torch.cuda.Stream(batches.device)  # type: ignore[no-untyped-call]
    side.wait_stream(here)
    with torch.cuda.stream(side):
        for _ in range(n_eager):
            next_step()
    here.wait_stream(side)
    if n_eager == len(batches):
        return
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        next_step()
    for _ in range(len(batches) - n_eager):
        graph.replay()


def _refuse_divergence(params: Sequence[Tensor], schedule: Schedule) -> None:
    """Refuse parameters that are not finite, and name the numbers of the fit they belong to."""
    finite = torch.stack([torch.isfinite(param).flatten(2).all(dim=2) for param in params]).all(0)
    if not bool(finite.all()):
        lr, decay, momentum = (
            float(part[~finite].min())
            for part in (schedule.rates[0], schedule.decays, schedule.momenta)
        )
        message = (
            f"training diverged at lr={lr:g}: lower lr, or scale the features down "
            f"(weight_decay={decay:g}, momentum={momentum:g})"
        )
        raise HeadInputError(message)
