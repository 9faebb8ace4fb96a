"""Means, norms and sums of the rows of each class; every function reads the rows once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from heads._arrays import one_thread_each, row_blocks
from heads.errors import HeadInputError

__all__ = ["class_means", "class_sums", "column_sums", "rows_by_class", "unit_rows"]

# So many rows of one class are added in their own precision, and their sums in float64. A float32
# sum of 32 terms is off by at most 31 roundings of the terms' sizes. Converting one sum in the
# place of 32 rows costs a thirtieth.
BAG = 32
# Numbers in one piece of work: enough that the calls cost little beside it, and few enough to stay
# in a cache. Plain sums copy no rows, so their pieces are larger.
PIECE, PLAIN_PIECE = 1 << 21, 1 << 23
# Norms between this and its reciprocal have squares that float32 holds to full precision.
_TINY = 1e-15


def rows_by_class(y_idx: Tensor, n_classes: int) -> Tensor:
    """Return the row numbers (n,) of labels (n,) in order of class, and in a class as stored."""
    if y_idx.is_cuda:
        return torch.argsort(y_idx, stable=True)
    # numpy sorts whole numbers of 16 bits in linear time.
    short = y_idx.numpy().astype(np.min_scalar_type(n_classes))
    return torch.from_numpy(np.argsort(short, kind="stable"))


Work = Callable[[slice], Tensor]


@dataclass(frozen=True)
class _Bags:
    """Rows in order of class (n,), cut where a class ends or `BAG` rows are together."""

    order: Tensor
    ends: Tensor  # (m + 1,): bag i is order[ends[i] : ends[i + 1]]
    classes: Tensor  # (m,)

    @classmethod
    def of(cls, y_idx: Tensor, n_classes: int) -> _Bags:
        """Cut the rows of labels (n,) into bags."""
        order = rows_by_class(y_idx, n_classes)
        counts = torch.bincount(y_idx, minlength=n_classes)
        n_bags = (counts + (BAG - 1)) // BAG
        classes = torch.arange(n_classes, device=y_idx.device).repeat_interleave(n_bags)
        place = torch.arange(len(classes), device=y_idx.device)
        place -= (n_bags.cumsum(0) - n_bags)[classes]
        begins = (counts.cumsum(0) - counts)[classes] + BAG * place
        return cls(order, torch.cat([begins, begins.new_tensor([len(order)])]), classes)

    def rows(self, chosen: slice) -> tuple[Tensor, Tensor]:
        """Return the row numbers of some bags, and where among them each bag begins."""
        ends = self.ends[chosen.start : chosen.stop + 1]
        return self.order[ends[0] : ends[-1]], ends[:-1] - ends[0]

    def pieces(self, n_rows: int) -> Iterator[slice]:
        """Cut the bags into slices of at most about so many rows."""
        step = max(1, n_rows // BAG)
        for start in range(0, len(self.classes), step):
            yield slice(start, min(start + step, len(self.classes)))


def class_sums(
    feats: Tensor,
    y_idx: Tensor,
    n_classes: int,
    *,
    centre: Tensor | None = None,
    unit: bool = False,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """Sum the rows of each class, or what centring and division by the norm make of them.

    Parameters
    ----------
    feats : Tensor of shape (n, D)
    y_idx : Tensor of shape (n,), int64 in [0, n_classes)
    n_classes : int
    centre : Tensor of shape (D,), optional
        Subtracted from every row first.
    unit : bool
        Divide every row by its norm then; a row of zeros stays zero.
    sample_weight : Tensor of shape (n,) like `feats`, optional
        Multiplies every row, once it is centred and divided.

    Returns
    -------
    Tensor of shape (n_classes, D), float64; a class without rows has zeros. NaN or infinity in
    `feats` leaves a number here that is not finite.
    """
    width, plain = feats.shape[1], centre is None and not unit
    most = max(BAG, (PLAIN_PIECE if plain else PIECE) // width)
    sums = torch.zeros(n_classes, width, dtype=torch.float64, device=feats.device)
    bags = _Bags.of(y_idx, n_classes)
    work = (
        _bag_sums(feats, bags, sample_weight)
        if plain
        else _unit_sums(feats, bags, most, centre, unit, sample_weight)
    )
    for chosen in bags.pieces(most):
        sums.index_add_(0, bags.classes[chosen], work(chosen).double())
    return sums


def _bag_sums(feats: Tensor, bags: _Bags, sample_weight: Tensor | None) -> Work:
    """Return a function from a slice of bags to their sums (k, D)."""

    def work(chosen: slice) -> Tensor:
        rows, begins = bags.rows(chosen)
        share = None if sample_weight is None else sample_weight[rows]
        return embedding_bag(rows, feats, begins, mode="sum", per_sample_weights=share)

    return work


def _unit_sums(
    feats: Tensor,
    bags: _Bags,
    most: int,
    centre: Tensor | None,
    unit: bool,
    sample_weight: Tensor | None,
) -> Work:
    """Return the same for rows that are centred, and divided by their norm if `unit`."""
    scratch = feats.new_empty(most, feats.shape[1])
    everywhere = torch.arange(most, device=feats.device)

    def work(chosen: slice) -> Tensor:
        rows, begins = bags.rows(chosen)
        block = torch.index_select(feats, 0, rows, out=scratch[: len(rows)])
        if centre is not None:
            block -= centre
        share = row_norms(block).reciprocal_() if unit else None
        if sample_weight is not None:
            share = sample_weight[rows] if share is None else share.mul_(sample_weight[rows])
        places = everywhere[: len(rows)]
        return embedding_bag(places, block, begins, mode="sum", per_sample_weights=share)

    return work


def column_sums(feats: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """Return the sum (D,) over the rows of feats (n, D), each times its sample weight (n,), if any.

    Sums over blocks of rows are added in float64.
    """
    if sample_weight is not None:
        blocks = row_blocks(len(feats), feats.shape[1])
        parts = [sample_weight[rows] @ feats[rows] for rows in blocks]
        return torch.stack(parts).sum(dim=0, dtype=torch.float64)
    step = max(BAG, PIECE // feats.shape[1])
    blocks = (slice(start, start + step) for start in range(0, len(feats), step))
    with one_thread_each(feats.is_cuda or len(feats) <= step) as spread:
        parts = list(spread(lambda rows: feats[rows].sum(dim=0), blocks))
    return torch.stack(parts).sum(dim=0, dtype=torch.float64)


def class_means(sums: Tensor, counts: Tensor) -> Tensor:
    """Divide sums (C, D) by counts (C,); a class without rows keeps its zeros."""
    return sums / torch.where(counts > 0, counts, 1).unsqueeze(1)


def row_norms(rows: Tensor) -> Tensor:
    """Return the norm of each row (n, D), (n,), and 1 for a row of zeros.

    Rows whose squares leave the normal numbers of float32 are measured in float64.

    Raises
    ------
    HeadInputError
        A norm of finite numbers is infinity: divided by it, the row would be zero.
    """
    norms = torch.linalg.vector_norm(rows, dim=1)
    least, most = torch.aminmax(norms)
    if least > _TINY and most < 1 / _TINY:
        return norms
    odd = ~((norms > _TINY) & (norms < 1 / _TINY))  # NaN is odd too
    norms[odd] = torch.linalg.vector_norm(rows[odd].double(), dim=1).to(rows.dtype)
    if bool((norms.isinf() & torch.isfinite(rows).all(dim=1)).any()):
        message = (
            f"the norm of a row of X is beyond what {str(rows.dtype).split('.')[-1]} can hold or "
            "square: scale the features down"
        )
        raise HeadInputError(message)
    return norms.masked_fill_(norms == 0, 1)


def unit_rows(rows: Tensor) -> Tensor:
    """Divide each row (n, D) by its norm; a row of zeros stays zero."""
    return rows / row_norms(rows).unsqueeze(1)
