"""Every loss against its formula, written out slowly; what weighs the classes, and when."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from featbank.backbones.backbones import SplitNetwork, find_classifier
from featbank.backbones.normalized_linear import NormalizedLinear
from featbank.stage1 import losses
from featbank.stage1.config import TrainConfig
from featbank.stage1.criterion import Criterion, make_criterion, parse_defer, parse_loss
from tests import reference_losses as slow

COUNTS = np.array([50, 12, 3, 1])
CPU = torch.device("cpu")


@pytest.fixture
def rows(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Float64 logits of 40 rows and their labels."""
    logits = 3 * torch.from_numpy(rng.normal(size=(40, 4)))
    return logits.requires_grad_(), torch.from_numpy(rng.integers(0, 4, 40))


COUNTS_TENSOR = torch.from_numpy(COUNTS).double()
MARGINS = torch.from_numpy(losses.ldam_margins(COUNTS, 0.5))
CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "ce": (losses.cross_entropy, slow.cross_entropy),
    "smoothed": (
        lambda z, y: losses.cross_entropy(z, y, 0.2),
        lambda z, y: slow.cross_entropy(z, y, 0.2),
    ),
    "focal": (lambda z, y: losses.focal(z, y, 2.0), lambda z, y: slow.focal(z, y, 2.0)),
    "softmax focal": (
        lambda z, y: losses.softmax_focal(z, y, 1.5),
        lambda z, y: slow.softmax_focal(z, y, 1.5),
    ),
    "ldam": (
        lambda z, y: losses.ldam(z, y, MARGINS, 30.0),
        lambda z, y: slow.ldam(z, y, COUNTS.tolist(), 0.5, 30.0),
    ),
    "balanced softmax": (
        lambda z, y: losses.balanced_softmax(z, y, COUNTS_TENSOR),
        lambda z, y: slow.balanced_softmax(z, y, COUNTS.tolist()),
    ),
    "logit adjusted": (
        lambda z, y: losses.logit_adjusted(z, y, COUNTS_TENSOR, 1.3),
        lambda z, y: slow.logit_adjusted(z, y, COUNTS.tolist(), 1.3),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_loss_is_its_formula_on_every_row(name: str, rows: Any) -> None:
    fast, written_out = CASES[name]
    logits, labels = rows
    scale = 0.1 if name == "ldam" else 1.0  # cosines are small
    got = fast(scale * logits, labels)

    want = [
        written_out((scale * z).tolist(), int(y))
        for z, y in zip(logits.detach(), labels, strict=True)
    ]
    # Margins and sigmoids are computed in float32.
    np.testing.assert_allclose(got.detach().numpy(), want, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [0.0, 80.0])
def test_gradients_are_finite_where_a_row_is_quite_sure_or_quite_wrong(
    name: str, size: float
) -> None:
    logits = (torch.tensor([[size, -size], [-size, size], [size, size]])).float()
    padded = torch.cat((logits, torch.zeros(3, 2)), dim=1).requires_grad_()
    loss = CASES[name][0](padded, torch.tensor([0, 0, 1])).sum()
    loss.backward()

    assert torch.isfinite(loss)
    assert torch.isfinite(padded.grad).all()


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_gradients_stay_finite_below_gamma_one(gamma: float) -> None:
    logits = torch.tensor([[90.0, -90.0], [-90.0, 90.0]], requires_grad=True)
    for loss in (losses.focal, losses.softmax_focal):
        loss(logits, torch.tensor([0, 0]), gamma).sum().backward()
        assert torch.isfinite(logits.grad).all()


def test_focal_at_gamma_zero_and_balanced_softmax_at_tau_one_are_what_they_generalise(
    rows: Any,
) -> None:
    logits, labels = rows
    torch.testing.assert_close(
        losses.softmax_focal(logits, labels, 0.0), losses.cross_entropy(logits, labels).float()
    )
    own = nn.functional.one_hot(labels, 4).double()
    sigmoids = nn.functional.binary_cross_entropy_with_logits(logits, own, reduction="none")
    torch.testing.assert_close(losses.focal(logits, labels, 0.0), sigmoids.sum(dim=1).float())
    torch.testing.assert_close(
        losses.balanced_softmax(logits, labels, COUNTS_TENSOR),
        losses.logit_adjusted(logits, labels, COUNTS_TENSOR, 1.0),
    )


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.99, 0.9999, 1.0])
def test_effective_numbers_are_geometric_sums(beta: float) -> None:
    got = losses.effective_number_weights(COUNTS, beta)
    np.testing.assert_allclose(got, slow.effective_number(COUNTS.tolist(), beta), rtol=1e-12)
    assert got.sum() == pytest.approx(4)


def test_effective_numbers_keep_their_digits_close_to_one() -> None:
    counts, beta = np.array([1000, 7]), 1 - 1e-10
    got = losses.effective_number_weights(counts, beta)
    np.testing.assert_allclose(got, slow.effective_number(counts.tolist(), beta), rtol=1e-11)


def criterion(loss: str, defer: str = "none", epochs: int = 10) -> Criterion:
    return make_criterion(parse_loss(loss), parse_defer(defer), 0.0, COUNTS, epochs, CPU)


def test_class_balanced_losses_weigh_from_the_start_and_drw_from_its_epoch(rows: Any) -> None:
    logits, labels = rows
    each = losses.cross_entropy(logits, labels)
    weights = torch.from_numpy(slow.effective_number(COUNTS.tolist(), 0.9))
    weighted = (weights[labels] * each).mean()

    from_start = criterion("cb-ce:beta=0.9")
    torch.testing.assert_close(from_start(logits, labels, 0), weighted, rtol=1e-6, atol=0)
    deferred = criterion("ce", "drw:start=0.75,beta=0.9")
    torch.testing.assert_close(deferred(logits, labels, 7), each.mean())
    torch.testing.assert_close(deferred(logits, labels, 8), weighted, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        ("focal:gamma=2", "focal"),
        ("focal:gamma=1.5,form=softmax", "softmax focal"),
        ("ldam", "ldam"),
        ("balanced-softmax", "balanced softmax"),
        ("logit-adjusted:tau=1.3", "logit adjusted"),
    ],
)
def test_a_loss_by_name_is_that_loss(loss: str, name: str, rows: Any) -> None:
    logits, labels = rows
    want = CASES[name][0](logits, labels).mean()
    torch.testing.assert_close(criterion(loss)(logits, labels, 0), want, check_dtype=False)
    smooth = make_criterion(parse_loss("ce"), parse_defer("none"), 0.2, COUNTS, 1, CPU)
    torch.testing.assert_close(
        smooth(logits, labels, 0), CASES["smoothed"][0](logits, labels).mean()
    )


def test_a_normalised_classifier_gives_cosines_and_is_banked_as_unit_rows(
    rng: np.random.Generator,
) -> None:
    with torch.random.fork_rng(devices=[]):
        layer = NormalizedLinear(6, 4)
    torch.testing.assert_close(layer.weight.detach().norm(dim=1), torch.ones(4))
    with torch.no_grad():
        layer.weight *= torch.tensor([[1.0], [5.0], [0.1], [2.0]])
    features = torch.from_numpy(rng.normal(size=(30, 6))).float()

    cosines = nn.functional.cosine_similarity(features[:, None], layer.weight[None], dim=2)
    torch.testing.assert_close(layer(features), cosines)
    banked = SplitNetwork(nn.Identity(), layer, "classifier")
    assert (banked.bias == 0).all()
    scores = features @ banked.weight.T
    torch.testing.assert_close(scores / features.norm(dim=1, keepdim=True), cosines)


def test_the_recipe_changes_the_classifier_where_its_loss_needs_it() -> None:
    from featbank.stage1.network import build_network

    def built(**settings: Any) -> nn.Module:
        return build_network(TrainConfig(backbone="tiny-cnn", **settings), 4, 8)

    assert isinstance(built(loss="ldam").classifier, NormalizedLinear)
    assert find_classifier(built(loss="ldam"), 8) == "classifier"
    for loss in ("focal", "cb-focal"):
        bias: Any = built(loss=loss).classifier.bias
        torch.testing.assert_close(torch.sigmoid(bias), torch.full((4,), 0.25))
    plain: Any = built().classifier
    softmax: Any = built(loss="focal:form=softmax").classifier
    assert torch.equal(plain.bias, softmax.bias)
