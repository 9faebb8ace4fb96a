"""The nearest-class-mean classifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor

from heads._arrays import match, row_blocks
from heads._base import Head, Scorer
from heads._checks import check_one_of, refuse_overflow
from heads._faiss import faiss_searcher
from heads._nearest import Searcher, best_centroid, centroid_scores, torch_searcher
from heads._stats import class_means, class_sums, unit_rows
from heads.errors import HeadInputError

__all__ = ["NearestClassMean"]

TRANSFORMS, METRICS = ("un", "l2n", "cl2n"), ("l2", "cosine", "dot")
CENTROIDS, ENGINES = ("mean", "unit"), ("auto", "faiss", "torch")


class _NotAMethod:
    """A parameter whose name scikit-learn would take for a method.

    scikit-learn knows a transformer by `hasattr(head, "transform")`, and a pipeline would call
    it. So the value is kept where parameters are kept, and read through `get_params`.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, head: Any, owner: type) -> NoReturn:
        message = f"{self.name} is a parameter: read it as get_params()[{self.name!r}]"
        raise AttributeError(message)

    def __set__(self, head: Any, value: object) -> None:
        vars(head)[self.name] = value


class NearestClassMean(Head):
    """Label a row by the class whose mean feature is nearest.

    Parameters
    ----------
    transform : {"un", "l2n", "cl2n"}, default "cl2n"
        What is done to every row: nothing; division by its norm; subtraction of the mean of all
        training rows, then division by the norm. A row of norm 0 stays zero.
    metric : {"l2", "cosine", "dot"}, default "l2"
        Score: minus the squared Euclidean distance; the cosine; the inner product (which the
        paper's code divides by D and calls cos; the order is the same).
    centroids : {"mean", "unit"}, default "mean"
        Class means of the transformed rows, as they are or divided by their norms.
    engine : {"auto", "faiss", "torch"}, default "auto"
        What searches in `predict`. faiss holds float32 only, so "auto" means faiss for float32 on
        the CPU and torch otherwise: for float64, and on a GPU, where one product and a maximum
        are several times faster (faiss issues 3045 and 2312).

    Attributes
    ----------
    centroids_ : array of shape (C, D)
        Summed in float64 over the rows of each class.
    mean_ : array of shape (D,) or None
        Mean of all training rows, for "cl2n".
    classes_ : ndarray of shape (C,)

    Notes
    -----
    In float32 a row can be so nearly as close to one centroid as to another that rounding would
    choose. `predict` scores such rows (best two closer than the worst rounding error) in float64,
    and among classes that are equal in float64 takes the first. So both engines give the same
    labels, those of exact arithmetic. `decision_function` replaces the same rows' scores, so its
    largest entry is the predicted class unless two classes round to one float32.

    References
    ----------
    Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition",
    ICLR 2020, section 4.2, and `models/KNNClassifier.py` of its code.

    Examples
    --------
    >>> import numpy as np
    >>> from heads import NearestClassMean
    >>> X, y = np.array([[0.0, 1.0], [0.0, 3.0], [5.0, 0.0]]), ["cat", "cat", "dog"]
    >>> str(NearestClassMean().fit(X, y).predict(np.array([[4.0, 1.0]]))[0])
    'dog'
    """

    transform = _NotAMethod()
    _fitted = ("centroids_", "mean_")

    def __init__(
        self,
        transform: str = "cl2n",
        metric: str = "l2",
        centroids: str = "mean",
        engine: str = "auto",
    ) -> None:
        self.transform = transform
        self.metric = metric
        self.centroids = centroids
        self.engine = engine

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name."""
        return {name: vars(self)[name] for name in self._get_param_names()}

    @property
    def _transform(self) -> str:
        return vars(self)["transform"]

    def _check_params(self) -> None:
        owner = type(self).__name__
        check_one_of(owner, "transform", self._transform, TRANSFORMS)
        check_one_of(owner, "metric", self.metric, METRICS)
        check_one_of(owner, "centroids", self.centroids, CENTROIDS)
        check_one_of(owner, "engine", self.engine, ENGINES)

    def _fit(self, feats: Tensor, y_idx: Tensor, n_classes: int) -> dict[str, Any]:
        counts = torch.bincount(y_idx, minlength=n_classes)
        mean = None
        if self._transform == "cl2n":
            total = class_sums(feats, torch.zeros_like(y_idx), 1, torch.clone)
            mean = (total[0] / len(feats)).to(feats.dtype)
        sums = class_sums(feats, y_idx, n_classes, row_transform(self._transform, mean))
        means = class_means(sums, counts)
        means = unit_rows(means) if self.centroids == "unit" else means
        return {"centroids_": refuse_overflow(means.to(feats.dtype)), "mean_": mean}

    def _prepared(self, feats: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """Return what is done to a query, and the centroids, so that two metrics remain."""
        mean = None if self.mean_ is None else match(self.mean_, feats)
        transform, centroids = row_transform(self._transform, mean), match(self.centroids_, feats)
        if self.metric != "cosine":
            return transform, centroids
        return lambda block: unit_rows(transform(block)), unit_rows(centroids)

    def _scorer(self, feats: Tensor) -> Scorer:
        prepare, centroids = self._prepared(feats)
        inner = self.metric != "l2"
        return lambda block: centroid_scores(prepare(block), centroids, inner=inner)

    def _predict_idx(self, feats: Tensor) -> Tensor:
        searcher = self._searcher_for(feats)
        if feats.dtype == torch.float64:
            return super()._predict_idx(feats)
        prepare, centroids = self._prepared(feats)
        inner = self.metric != "l2"
        search = searcher(centroids, inner=inner)
        blocks = row_blocks(len(feats), max(centroids.shape))
        found = [best_centroid(prepare(feats[b]), centroids, search, inner=inner) for b in blocks]
        return torch.cat(found)

    def _searcher_for(self, feats: Tensor) -> Callable[..., Searcher]:
        if self.engine == "faiss" and feats.dtype == torch.float64:
            message = "faiss holds float32 only: pass float32 features, or engine='auto' or 'torch'"
            raise HeadInputError(message)
        by_faiss = self.engine == "faiss" or (self.engine == "auto" and not feats.is_cuda)
        return faiss_searcher if by_faiss else torch_searcher


def row_transform(name: str, mean: Tensor | None) -> Callable[[Tensor], Tensor]:
    """Return the function from rows (k, D) to transformed rows; `mean` (D,) is cl2n's."""
    if name == "un":
        return lambda rows: rows
    if mean is None:
        return unit_rows
    return lambda rows: unit_rows(rows - mean)
