"""The class-balanced optimum in a factor for each class, piece by piece."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from heads.solvers import scale_only as _scales
from heads.solvers.rows import TrainingRows
from tests.test_heads.data import Cloud, cloud


def problem(data: Cloud, logits: torch.Tensor) -> _scales.ScaleObjective:
    train = TrainingRows(torch.from_numpy(data.X), torch.from_numpy(data.y), 6)
    return _scales.ScaleObjective(
        logits.__getitem__, train.y_idx, 6, train.loss_shares(), 5e-4, logits
    )


def by_definition(data: Cloud, logits: np.ndarray, scale: np.ndarray) -> float:
    scores = logits.astype(np.float64) * scale
    losses = logsumexp(scores, axis=1) - scores[np.arange(len(scores)), data.y]
    return float((losses / (6 * data.counts[data.y])).sum() + 5e-4 / 2 * scale @ scale)


@pytest.mark.parametrize("size", [1, 300])
def test_value_gradient_and_hessian_belong_together(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, size: float
) -> None:
    monkeypatch.setattr(_scales, "PIECE", 6 * 64)  # several pieces
    data = cloud(rng)
    logits = torch.from_numpy(size * (data.X @ data.W.T + data.b))
    given = problem(data, logits)
    evaluate = given.value_and_gradient
    scale = torch.from_numpy(rng.uniform(0.5, 1.5, 6))
    nudge = torch.from_numpy(rng.normal(size=6)) * 1e-6

    value, slope = evaluate(scale)
    (ahead, up), (behind, down) = evaluate(scale + nudge), evaluate(scale - nudge)

    assert len(given.blocks) > 1
    assert value == pytest.approx(by_definition(data, logits.numpy(), scale.numpy()), rel=1e-12)
    assert (ahead - behind) / 2 == pytest.approx(float(slope @ nudge), rel=1e-5)
    want = given.hessian(scale) @ nudge
    torch.testing.assert_close((up - down) / 2, want, rtol=1e-4, atol=1e-12 * size**2)


def test_scores_beyond_the_range_of_exp_keep_their_loss(rng: np.random.Generator) -> None:
    data = cloud(rng)
    logits = torch.from_numpy(1e4 * (data.X @ data.W.T + data.b)).float()

    value, _ = problem(data, logits).value_and_gradient(torch.ones(6).double())

    assert value == pytest.approx(by_definition(data, logits.numpy(), np.ones(6)), rel=1e-6)
    assert value > 1e3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_start_from_few_rows_ends_at_the_same_optimum(
    rng: np.random.Generator, seed: int, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    data = cloud(rng, n_max=400)
    given = [torch.from_numpy(part).to(dtype) for part in (data.X, data.W, data.b)]
    X, W, b = given
    train = TrainingRows(X, torch.from_numpy(data.y), 6)
    plain = _scales.best_scale(train, W, b, 5e-4)
    monkeypatch.setattr(_scales, "MANY_LOGITS", 0)

    found = _scales.best_scale(train, W, b, 5e-4)

    assert found.scale.dtype == dtype
    torch.testing.assert_close(found.scale, plain.scale, atol=1e-6, rtol=0)
    assert found.verdict.gap <= (1e-9 if dtype == torch.float64 else 1e-6)


def test_the_product_with_the_hessian_is_that_of_the_matrix(rng: np.random.Generator) -> None:
    data = cloud(rng)
    given = problem(data, torch.from_numpy(data.X @ data.W.T + data.b))
    scale, direction = (torch.from_numpy(rng.uniform(0.5, 1.5, 6)) for _ in range(2))

    torch.testing.assert_close(
        given.hessian_product(scale)(direction),
        given.hessian(scale) @ direction,
        rtol=1e-10,
        atol=0,
    )


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("sure", [True, False])
def test_factors_are_at_their_optimum_at_any_size_of_the_logits(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, size: float, sure: bool
) -> None:
    if not sure:  # then Newton's method has all the way to go
        monkeypatch.setattr(_scales, "MOST", 1)
    data = cloud(rng)
    X, W, b = (torch.from_numpy(part) for part in (data.X, size * data.W, size * data.b))
    train = TrainingRows(X, torch.from_numpy(data.y), 6)
    found = _scales.best_scale(train, W, b, 5e-4)

    value, slope = problem(data, X @ W.T + b).exactly(found.scale)
    assert float(slope @ slope) / (2 * 5e-4) <= 1e-9 * value
