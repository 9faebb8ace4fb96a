"""Exact search by faiss: the only module that imports it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from heads._checks import refuse_overflow
from heads.errors import HeadInputError
from heads.estimators._nearest import Searcher

__all__ = ["faiss_searcher"]

# faiss takes 1.5 GiB of a GPU for scratch unless told otherwise; brute force needs little.
_SCRATCH_BYTES = 64 << 20


def _faiss() -> ModuleType:
    """Return the module faiss, or say how to install it."""
    try:
        import faiss  # 0.2 s, and needed by one head
    except ImportError as error:
        message = (
            "nearest-class-mean search needs faiss: `pip install faiss-gpu` on Linux x86-64, "
            f"`pip install faiss-cpu` elsewhere, or pass engine='torch' ({error})"
        )
        raise ImportError(message) from error
    module: ModuleType = faiss
    return module


def _flat_index(faiss: ModuleType, centroids: Tensor, inner: bool) -> Any:
    """Return a faiss index of centroids (C, D), on their device."""
    width = centroids.shape[1]
    index = faiss.IndexFlatIP(width) if inner else faiss.IndexFlatL2(width)
    index.add(centroids.cpu().contiguous().numpy())
    if not centroids.is_cuda:
        return index
    if not faiss.get_num_gpus():
        message = "this faiss has no GPU; pass engine='torch' or 'auto', or features on the CPU"
        raise HeadInputError(message)
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(_SCRATCH_BYTES)
    return faiss.index_cpu_to_gpu(resources, centroids.device.index or 0, index)


def faiss_searcher(centroids: Tensor, *, inner: bool) -> Searcher:
    """Return a function from queries to their best class and their best two scores.

    Widths must be equal and every number finite: faiss checks neither, and answers an infinite
    distance with class -1, which is refused here.

    Parameters
    ----------
    centroids : Tensor of shape (C, D), float32, C >= 2
    inner : bool
        Score by inner product if true, else by minus the squared distance.

    Returns
    -------
    callable
        From float32 queries (n, D) to class, best and second-best score, (n,) each. Queries on a
        GPU pass through the host: faiss's bridge to torch works on the current device and not on
        the tensor's (faiss issue 3831).
    """
    index = _flat_index(_faiss(), centroids, inner)

    def search(queries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = index.search(queries.cpu().contiguous().numpy(), 2)
        values, classes = (torch.from_numpy(part).to(queries.device) for part in found)
        scores = values if inner else -values
        refuse_overflow(scores.masked_fill_(classes < 0, torch.inf))
        return classes[:, 0].clone(), scores[:, 0], scores[:, 1]

    return search
