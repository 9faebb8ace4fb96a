"""The rows (x, 1) of a linear classifier with a bias, and coordinates that condition them well."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from heads._arrays import row_blocks

__all__ = ["Basis", "FeaturesAndOne", "as_one", "principal_basis"]


def as_one(W: Tensor, b: Tensor) -> Tensor:
    """Return W (C, D) and b (C,) as one array (C, D + 1), float64."""
    return torch.cat([W.double(), b.double().unsqueeze(1)], dim=1)


class FeaturesAndOne:
    """Rows (x, 1), (n, D + 1) in float64, put together from features (n, D) where they are read."""

    dtype = torch.float64

    def __init__(self, feats: Tensor) -> None:
        self.feats = feats
        self.shape = (len(feats), feats.shape[1] + 1)
        self.is_cuda = feats.is_cuda

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.feats)

    def __getitem__(self, rows: slice) -> Tensor:
        """Return some of the rows (k, D + 1)."""
        block = self.feats[rows]
        both = block.new_empty(len(block), self.shape[1], dtype=self.dtype)
        both[:, :-1] = block
        both[:, -1] = 1
        return both


@dataclass(frozen=True)
class Basis:
    """Coordinates z = (x, 1) @ into, (r,), in which scores are z point^T.

    (W, b) = point @ into^T. The columns of `into` are orthogonal, so the squared norm of (W, b) is
    that of the point with coordinate j multiplied by `stretch`_j.
    """

    into: Tensor  # (D + 1, r), float64

    def coordinates(self, feats: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Return Z (n, r) of `feats` (n, D), in blocks; computed in `dtype`, else as they are."""
        dtype = feats.dtype if dtype is None else dtype
        out = feats.new_empty(len(feats), self.into.shape[1], dtype=dtype)
        into = self.into.to(dtype)
        for rows in row_blocks(len(feats), feats.shape[1]):
            torch.addmm(into[-1], feats[rows].to(dtype), into[:-1], out=out[rows])
        return out

    def linear(self, point: Tensor) -> Tensor:
        """Return (W, b) as one array (C, D + 1) of a point (C, r)."""
        return point @ self.into.T

    def point(self, linear: Tensor) -> Tensor:
        """Return the coordinates (C, r) of (W, b), given as one array (C, D + 1)."""
        return self.gradient(linear) / self.stretch

    def gradient(self, in_linear: Tensor) -> Tensor:
        """Return the gradient (C, r) in the coordinates of one in (W, b), (C, D + 1)."""
        return in_linear @ self.into

    @cached_property
    def stretch(self) -> Tensor:
        """Return the squared length of each column, (r,), float64."""
        return self.into.square().sum(dim=0)


def principal_basis(feats: Tensor, loss_share: Tensor, rank: int, seed: int = 0) -> Basis:
    """Return whitened principal directions of the weighted second moments of (x, 1).

    The directions lie in the span of the constant, the mean and a further set. Where `rank` is
    well below D that set is `rank` directions of a randomised range finder with two power
    iterations; else it is the rows, where they are fewer than D, or all directions. None of
    them is left out, however small its moment: beside large features that of the constant is
    small too. The mean is a direction like the others, so the penalty, which weighs the bias as it
    weighs W, is a sum over coordinates.

    Parameters
    ----------
    feats : Tensor of shape (n, D)
    loss_share : Tensor of shape (n,)
        Each row's part of the loss, which weighs it in the moments.
    rank : int
        How many principal directions to find.
    seed : int, default 0
        Seed of the range finder's random directions.

    References
    ----------
    Halko, Martinsson and Tropp, "Finding Structure with Randomness", SIAM Review 2011,
    algorithm 4.4.
    """
    share = (loss_share / loss_share.sum()).double()
    mean = torch.zeros(feats.shape[1], dtype=torch.float64, device=feats.device)
    for rows in row_blocks(*feats.shape):
        mean += share[rows] @ feats[rows].double()
    drawn, second = _moments(feats, share, mean, rank, seed)
    moment, turn = torch.linalg.eigh(second)
    into = torch.cat([drawn @ turn[:-1], turn[-1:]])
    # A direction in which no row varies is whitened no further than this: it would be nothing but
    # rounding. `solve` scales every direction by its curvature in any case.
    least = torch.finfo(feats.dtype).eps ** (2 / 3) * moment[-1]
    into = (into * moment.clamp(min=least).rsqrt())[
        :, -len(feats) :
    ]  # n rows span at most n directions
    return Basis(into.flip(1))


def _moments(
    feats: Tensor, share: Tensor, mean: Tensor, rank: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Return orthonormal directions (D, k) and the second moments of (x @ directions, 1).

    Both are float64. The moments (k + 1, k + 1) are summed from the covariance of the centred rows
    and the part of the mean, which keeps the digits of features far from the origin.
    """
    n, width = feats.shape

    def centred(rows: slice) -> Tensor:
        return (feats[rows].double() - mean) * share[rows].sqrt().unsqueeze(1)

    if rank + 2 < width:
        drawn = _range(feats, share.to(feats.dtype), mean.to(feats.dtype), rank, seed)
        spread = _covariance(feats, share.to(feats.dtype), mean.to(feats.dtype), drawn)
        varies, drawn = (drawn.T @ spread).double(), drawn.double()
    elif n < width:
        rows = centred(slice(n))
        drawn = torch.linalg.qr(torch.cat([rows.T, mean.unsqueeze(1)], dim=1)).Q
        varies = (rows @ drawn).T @ (rows @ drawn)
    else:
        drawn = torch.eye(width, dtype=torch.float64, device=feats.device)
        varies = torch.zeros_like(drawn)
        for block in map(centred, row_blocks(n, width)):
            varies.addmm_(block.T, block)
    far = _with_one((mean @ drawn).unsqueeze(0))
    second = far.T @ far
    second[:-1, :-1] += (varies + varies.T) / 2
    return drawn, second


def _range(feats: Tensor, share: Tensor, mean: Tensor, rank: int, seed: int) -> Tensor:
    """Return orthonormal directions (D, rank + 1) that span principal ones and the mean."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(feats.shape[1], rank, generator=generator).to(feats)
    for _ in range(3):
        drawn = torch.linalg.qr(_covariance(feats, share, mean, drawn)).Q
    return torch.linalg.qr(torch.cat([drawn, mean.unsqueeze(1)], dim=1)).Q


def _covariance(feats: Tensor, share: Tensor, mean: Tensor, directions: Tensor) -> Tensor:
    """Multiply directions (D, k) by the weighted covariance (D, D), which is never made."""
    total = torch.zeros_like(directions)
    for rows in row_blocks(*feats.shape):
        z = feats[rows] @ directions - mean @ directions
        total += feats[rows].T @ (z * share[rows].unsqueeze(1))
    return total


def _with_one(rows: Tensor) -> Tensor:
    """Return (x, 1) for each row (k, D)."""
    return torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
