"""The two families of heads with one parameter whose scores are lines in it.

tau-norm: for products z_c = w_c . x > 0, log of the score z_c ||w_c||^-tau is log z_c - tau
log ||w_c||. Logit adjustment: the score is f_c - tau log pi_c. Both kinds of score come from one
matrix product, and both heads and both curves decide by the functions here, so they agree.

Near ties: rounding decides nothing. Where the best two float32 scores of a row differ by no more
than rounding can, the row is scored again in float64 from the same products, and classes that
are equal there (to 1e-12, relative) count as equal: the first wins.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from heads._arrays import match
from heads.curves._intervals import TIE, best_column
from heads.errors import HeadInputError
from heads.solvers.linear import linear_scores

__all__ = [
    "MOST_TAU",
    "AdjustLines",
    "Lines",
    "TauLines",
    "log_prior",
    "scaled_scores",
    "tau_scale",
]

# Beyond any use of either family, and well within float32.
MOST_TAU = 1e6


def tau_scale(weight: Tensor, tau: float) -> Tensor:
    """Return ||w_c||^-tau for the rows of weight (C, D), (C,) in its dtype; 1 for a row of zeros.

    Raises
    ------
    HeadInputError
        A norm is so small, or so large, that the scale is no normal number of the dtype: as
        infinity or 0 it would no longer tell one score from another.
    """
    norms = torch.linalg.vector_norm(weight, dim=1, dtype=torch.float64)
    scale = norms.masked_fill(norms == 0, 1).pow(-tau).to(weight.dtype)
    normal = torch.isfinite(scale) & (scale >= torch.finfo(weight.dtype).tiny)
    if not bool(normal.all()):
        row = int((~normal).nonzero()[0])
        size = "small" if norms[row] < 1 else "large"
        message = f"weight row {row} has norm {float(norms[row]):.1e}: too {size} for tau={tau:g}"
        raise HeadInputError(message)
    return scale


def scaled_scores(products: Tensor, scale: Tensor, b: Tensor) -> Tensor:
    """Return X W^T (n, C) with its columns scaled, plus b: one product serves every tau."""
    return torch.addcmul(b, products, scale)


def log_prior(prior: Tensor) -> Tensor:
    """Return log pi_c, float64, of counts or shares (C,); a class without rows counts as one row.

    A prior of zero would make the class win everywhere; one row is the least that can be seen.
    """
    counts = prior.double()
    shares = torch.where(counts > 0, counts, counts[counts > 0].min().clamp(max=1))
    return (shares / shares.sum()).log()


class Lines(ABC):
    """Scores that are lines in one parameter; `slopes` (C,) float64, on the device of W."""

    weight: Tensor
    slopes: Tensor

    def winners(self, products: Tensor, at: float) -> Tensor:
        """Return the class (k,) that scores highest at a parameter, of products (k, C)."""
        scores = self.scores(products, at)
        best, column = best_column(scores) if not scores.is_cuda else scores.max(dim=1)
        near = (scores >= (best - self.noise(best, at)).unsqueeze(1)).sum(dim=1) > 1
        rows = near.nonzero().squeeze(1)
        if len(rows):
            column[rows] = self._first_best(products[rows].double(), column[rows], at)
        return column

    def _first_best(self, products: Tensor, column: Tensor, at: float) -> Tensor:
        values, sign = self.fine(products, column)
        scores = values - at * sign.unsqueeze(1) * self.slopes
        best, column = scores.max(dim=1, keepdim=True)
        slack = TIE * (1 + values.gather(1, column).abs())
        return (scores >= best - slack).byte().argmax(dim=1)

    @abstractmethod
    def products(self, block: Tensor) -> Tensor:
        """Return the products (k, C) of a block of rows (k, D)."""

    @abstractmethod
    def scores(self, products: Tensor, at: float) -> Tensor:
        """Return the scores (k, C) of the head whose parameter is `at`."""

    @abstractmethod
    def noise(self, best: Tensor, at: float) -> Tensor:
        """Return how far rounding can move the difference of two scores, for best scores (k,)."""

    @abstractmethod
    def coarse_(self, products: Tensor) -> Tensor:
        """Turn products of rows whose sign is 1 into values (k, C), in their place."""

    @abstractmethod
    def exact(self, products: Tensor) -> Tensor:
        """Return float64 values of single products, of rows whose sign is 1."""

    @abstractmethod
    def fine(self, products: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """Return float64 values (k, C) and sign (k,) for `pairwise_intervals`.

        `column` (k,) is the class that the others of a row are compared with.
        """

    @abstractmethod
    def sign(self, own: Tensor) -> Tensor:
        """Return the sign (k,) of rows by the products of their true classes (k,)."""

    def hopeless(self, products: Tensor, own: Tensor) -> Tensor:
        """Tell which rows (k,) are wrong at every parameter, whatever the slopes."""
        return torch.zeros_like(own, dtype=torch.bool)


class TauLines(Lines):
    """Scores (w_c . x) ||w_c||^-tau of a weight (C, D)."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        norms = torch.linalg.vector_norm(weight, dim=1, dtype=torch.float64)
        self.slopes = norms.masked_fill(norms == 0, 1).log()
        self._zero = weight.new_zeros(())

    def products(self, block: Tensor) -> Tensor:
        """Return X W^T."""
        return block @ self.weight.T

    def scores(self, products: Tensor, at: float) -> Tensor:
        """Return X W^T with scaled columns."""
        return scaled_scores(products, tau_scale(self.weight, at), self._zero)

    def noise(self, best: Tensor, at: float) -> Tensor:
        """Return two roundings for each scale and one for each score."""
        return best.abs() * (8 * torch.finfo(best.dtype).eps)

    def coarse_(self, products: Tensor) -> Tensor:
        """Take logarithms; what is not positive becomes the smallest normal number.

        The logarithm of zero is -inf, and on a CPU takes sixty times as long.
        """
        return products.clamp_(min=torch.finfo(products.dtype).tiny).log_()

    def exact(self, products: Tensor) -> Tensor:
        """Return logarithms of some products, taken in float64."""
        return products.double().clamp_(min=0).log_()

    def fine(self, products: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """Return +-log|z|: against a negative z, the smaller the size the better."""
        sign = self.sign(products.gather(1, column.unsqueeze(1)).squeeze(1))
        size = products.abs().log()
        above = torch.where(products > 0, size, -torch.inf)
        below = torch.where(products < 0, -size, torch.inf)
        level = torch.where(products == 0, 0.0, products.sign() * torch.inf)
        level = torch.where(products == 0, 0.0, level)
        rows = sign.unsqueeze(1)
        return torch.where(rows > 0, above, torch.where(rows < 0, below, level)), sign

    def sign(self, own: Tensor) -> Tensor:
        """Return the sign of z_y: dividing by a norm never changes it."""
        return own.double().sign()

    def hopeless(self, products: Tensor, own: Tensor) -> Tensor:
        """Tell where z_y is not positive and another z is."""
        return (own <= 0) & (products.amax(dim=1) > 0)


class AdjustLines(Lines):
    """Scores w_c . x + b_c - tau log pi_c, of log_prior (C,) float64."""

    def __init__(self, weight: Tensor, bias: Tensor, prior: Tensor) -> None:
        self.weight, self.bias = weight, bias
        self.slopes = prior.double()
        self._size = float(self.slopes.abs().max())

    def products(self, block: Tensor) -> Tensor:
        """Return X W^T + b."""
        return linear_scores(block, self.weight, self.bias)

    def scores(self, products: Tensor, at: float) -> Tensor:
        """Return the logits minus tau log pi."""
        return products - match(at * self.slopes, products)

    def noise(self, best: Tensor, at: float) -> Tensor:
        """Return the roundings of the shift and of each score."""
        return (best.abs() + 2 * abs(at) * self._size) * (8 * torch.finfo(best.dtype).eps)

    def coarse_(self, products: Tensor) -> Tensor:
        """Return them: the logits are the values."""
        return products

    def exact(self, products: Tensor) -> Tensor:
        """Return the products as float64."""
        return products.double()

    def fine(self, products: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """Return the products, and a sign of 1."""
        return products.double(), torch.ones_like(column, dtype=torch.float64)

    def sign(self, own: Tensor) -> Tensor:
        """Return 1: logits of any sign are compared alike."""
        return torch.ones_like(own, dtype=torch.float64)
