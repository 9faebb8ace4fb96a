"""Value, gradient and Hessian product of the objectives, against autograd in float64."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from heads.solvers.certificate import PenalisedObjective
from heads.solvers.coordinates import principal_basis
from heads.solvers.curvature import HessianStandIn
from heads.solvers.objective import Goal, SoftmaxObjective
from heads.solvers.rows import TrainingRows
from heads.solvers.scale_only import ScaleObjective
from tests.test_heads.data import cloud

DECAY, N_CLASSES, WIDTH = 0.03, 6, 5
Formula = Callable[[Tensor], Tensor]


def rows(rng: np.random.Generator, weighted: bool) -> TrainingRows:
    data = cloud(rng, N_CLASSES, WIDTH)
    sample_weight = torch.from_numpy(rng.uniform(0.1, 3, len(data.y))) if weighted else None
    return TrainingRows(torch.from_numpy(data.X), torch.from_numpy(data.y), 6, sample_weight)


def parts_of_the_loss(train: TrainingRows, class_shares: Tensor | None) -> Tensor:
    """Each row's part u_i of the loss, row by row."""
    weights, shares = train.sample_weight, class_shares
    weights = torch.ones(len(train)).double() if weights is None else weights
    shares = torch.ones(N_CLASSES).double() / N_CLASSES if shares is None else shares
    parts = [
        float(shares[y] * w / weights[train.y_idx == y].sum())
        for y, w in zip(train.y_idx.tolist(), weights, strict=True)
    ]
    return torch.tensor(parts, dtype=torch.float64)


def softmax_problem(
    rng: np.random.Generator, variant: str, weighted: bool, anchored: bool, directions: int
) -> tuple[SoftmaxObjective, Formula, Tensor]:
    """Return an objective, its formula in the point, and a point; 0 directions: on features."""
    train = rows(rng, weighted)
    shares = (
        None if variant == "cRT" else train.class_counts().double() / train.class_counts().sum()
    )
    prior = train.class_counts().double().log() if variant == "balanced softmax" else None
    W, b = (torch.from_numpy(rng.normal(size=s)) for s in ((N_CLASSES, WIDTH), N_CLASSES))
    anchor = (W, b) if anchored else None
    goal = Goal(shares, prior, anchor)
    padded = torch.cat([train.feats, torch.ones(len(train), 1)], dim=1).double()
    into = torch.eye(WIDTH + 1).double()
    if directions:
        basis = principal_basis(train.feats, goal.loss_shares(train), directions)
        objective = SoftmaxObjective.in_coordinates(train, goal, DECAY, basis, torch.float64)
        into = basis.into
    else:
        objective = SoftmaxObjective.on_features(train, goal, DECAY)
    start = torch.cat([W, b[:, None]], dim=1) if anchored else torch.zeros(())
    u = parts_of_the_loss(train, shares)

    def formula(point: Tensor) -> Tensor:
        moved = point @ into.T  # (W, b) less the anchor
        scores = padded @ (moved + start).T + (0 if prior is None else prior)
        losses = cross_entropy(scores, train.y_idx, reduction="none")
        return u @ losses + DECAY / 2 * moved.square().sum()

    return objective, formula, torch.from_numpy(rng.normal(size=(N_CLASSES, into.shape[1])))


def agrees_with_autograd(
    objective: PenalisedObjective, formula: Formula, point: Tensor, direction: Tensor
) -> None:
    moving = point.clone().requires_grad_()
    value = formula(moving)
    (slope,) = torch.autograd.grad(value, moving, create_graph=True)
    (bend,) = torch.autograd.grad((slope * direction).sum(), moving)

    for found, gradient in (objective.value_and_gradient(point), objective.exactly(point)):
        assert found == pytest.approx(value.item(), rel=1e-12)
        torch.testing.assert_close(gradient, slope.detach(), rtol=1e-9, atol=1e-12)
    product = objective.hessian_product(point)(direction)
    torch.testing.assert_close(product, bend, rtol=1e-9, atol=1e-12)


# In few directions the anchor lies outside the coordinates, so that its scores are an offset.
@pytest.mark.parametrize("directions", [0, WIDTH, 2])
@pytest.mark.parametrize("anchored", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("variant", ["joint", "cRT", "balanced softmax"])
def test_the_softmax_objective_is_its_formula(
    rng: np.random.Generator, variant: str, weighted: bool, anchored: bool, directions: int
) -> None:
    objective, formula, point = softmax_problem(rng, variant, weighted, anchored, directions)
    direction = torch.from_numpy(rng.normal(size=point.shape))

    agrees_with_autograd(objective, formula, point, direction)
    assert float(objective.loss_share.sum()) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("weighted", [True, False])
def test_the_scale_objective_is_its_formula(rng: np.random.Generator, weighted: bool) -> None:
    train = rows(rng, weighted)
    logits = torch.from_numpy(rng.normal(size=(len(train), N_CLASSES)))
    share = train.loss_shares()
    objective = ScaleObjective(logits.__getitem__, train.y_idx, 6, share, DECAY, logits)
    u = parts_of_the_loss(train, None)

    def formula(scale: Tensor) -> Tensor:
        losses = cross_entropy(logits * scale, train.y_idx, reduction="none")
        return u @ losses + DECAY / 2 * scale.square().sum()

    point, direction = (torch.from_numpy(rng.normal(size=N_CLASSES)) for _ in range(2))
    agrees_with_autograd(objective, formula, point, direction)
    product = objective.hessian(point) @ direction
    torch.testing.assert_close(objective.hessian_product(point)(direction), product)


@pytest.mark.parametrize("anchored", [True, False])
def test_both_choices_of_rows_describe_one_problem(
    rng: np.random.Generator, anchored: bool
) -> None:
    train = rows(rng, weighted=True)
    W, b = (torch.from_numpy(rng.normal(size=s)) for s in ((N_CLASSES, WIDTH), N_CLASSES))
    goal = Goal(anchor=(W, b) if anchored else None)
    basis = principal_basis(train.feats, goal.loss_shares(train), WIDTH)
    within = SoftmaxObjective.in_coordinates(train, goal, DECAY, basis, torch.float64)
    outside = SoftmaxObjective.on_features(train, goal, DECAY)
    linear = outside.point(*(torch.from_numpy(rng.normal(size=part.shape)) for part in (W, b)))

    value, gradient = outside.exactly(linear)
    same, inner = within.exactly(basis.point(linear))

    assert same == pytest.approx(value, rel=1e-12)
    torch.testing.assert_close(inner, basis.gradient(gradient))
    assert within.excess(inner) == pytest.approx(outside.excess(gradient), rel=1e-9)


def test_the_stand_in_is_the_hessian_of_each_class_alone(rng: np.random.Generator) -> None:
    objective, formula, point = softmax_problem(rng, "cRT", False, False, WIDTH)
    hessian = torch.autograd.functional.hessian(formula, point)
    of_classes = [torch.linalg.inv(hessian[c, :, c, :]) for c in range(N_CLASSES)]
    gradient = torch.from_numpy(rng.normal(size=point.shape))

    found = HessianStandIn(objective, objective.probabilities(point)).undone(gradient)

    want = torch.stack([inverse @ g for inverse, g in zip(of_classes, gradient, strict=True)])
    torch.testing.assert_close(found, want - want.mean(dim=0), rtol=1e-8, atol=1e-10)
