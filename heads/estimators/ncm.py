"""The nearest-class-mean classifier."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heads._arrays import is_finite, match, row_blocks
from heads._checks import check_finite, check_sample_weight, check_training, refuse_overflow
from heads._labels import code_known, code_labels
from heads._params import check_one_of
from heads.errors import HeadInputError
from heads.estimators._faiss import faiss_searcher
from heads.estimators._nearest import (
    Exactly,
    Searcher,
    best_centroid,
    centroid_scores,
    torch_searcher,
)
from heads.estimators.base import Head, Scorer, as_before_on_failure
from heads.solvers.rows import TrainingRows
from heads.solvers.sums import class_means, class_sums, column_sums, unit_rows

__all__ = ["NearestClassMean"]

TRANSFORMS, METRICS = ("un", "l2n", "cl2n"), ("l2", "cosine", "dot")
# Divisors are raised to this, so that none is 0.
LEAST = torch.finfo(torch.float64).tiny
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


class _Running(NamedTuple):
    """What `partial_fit` goes on from: sums (C, D) float64 and counts (C,) of transformed rows."""

    sums: Tensor
    counts: Tensor
    transform: str


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
        What searches in `predict`. "auto" is torch, one product and a maximum, which is several
        times faster on the CPU (the BLAS in faiss's wheel does not know newer processors) and on
        a GPU (faiss issues 3045 and 2312). faiss holds float32 only.

    Attributes
    ----------
    centroids_ : array of shape (C, D)
        Sums of up to 32 rows are taken in the precision of X, and added in float64.
    mean_ : array of shape (D,) or None
        Mean of all training rows, for "cl2n".
    classes_ : ndarray of shape (C,)

    Raises
    ------
    HeadInputError
        In `fit`: a parameter outside its range, or features whose norm is beyond their dtype.

    Warns
    -----
    UserWarning
        In `fit`: where inner products with the class means hardly tell the classes.

    Notes
    -----
    In float32 a row can be so nearly as close to one centroid as to another that rounding would
    choose. `predict` scores such rows (best two closer than the worst rounding error) in float64,
    and among classes that are equal in float64 takes the first. So both engines give the same
    labels, those of exact arithmetic. `decision_function` replaces the same rows' scores, so its
    largest entry is the predicted class unless two classes round to one float32.

    `partial_fit` continues from the sums and counts that the head keeps until it is saved. With
    "un" and "l2n" a row counts the same whenever it comes, so the result is that of one `fit` on
    all rows, to the rounding of the sums. "cl2n" has no `partial_fit`: every row is centred by
    the mean of all, and what is divided by a norm cannot be centred anew.

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
    _sees_all = True

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
        """Return the parameter `transform`."""
        return vars(self)["transform"]

    def _check_params(self) -> None:
        owner = type(self).__name__
        check_one_of(owner, "transform", self._transform, TRANSFORMS)
        check_one_of(owner, "metric", self.metric, METRICS)
        check_one_of(owner, "centroids", self.centroids, CENTROIDS)
        check_one_of(owner, "engine", self.engine, ENGINES)

    def _fit(self, train: TrainingRows) -> dict[str, Any]:
        mean = _mean_row(train) if self._transform == "cl2n" else None
        sums = self._sums_of(train, mean)
        return self._centroids_of(sums, train.class_counts(), mean, train.feats.dtype)

    def _sums_of(self, train: TrainingRows, mean: Tensor | None = None) -> Tensor:
        """Return the weighted sums of the transformed rows of each class, (C, D) float64."""
        feats, y_idx, sample_weight = train.feats, train.y_idx, train.sample_weight
        unit, heaviest = self._transform != "un", None
        if sample_weight is not None:
            # Divided by the heaviest of their class: in float32 the weights could be 0.
            none = torch.zeros(train.n_classes, dtype=torch.float64, device=feats.device)
            heaviest = none.scatter_reduce(0, y_idx, sample_weight, "amax")
            sample_weight = (sample_weight / heaviest.clamp(min=LEAST)[y_idx]).to(feats.dtype)
        sums = class_sums(
            feats, y_idx, train.n_classes, centre=mean, unit=unit, sample_weight=sample_weight
        )
        if not is_finite(sums):
            check_finite(feats)
            refuse_overflow(sums)
        return sums if heaviest is None else sums * heaviest.unsqueeze(1)

    def _centroids_of(
        self, sums: Tensor, counts: Tensor, mean: Tensor | None, dtype: torch.dtype
    ) -> dict[str, Any]:
        """Return the fitted attributes that sums (C, D) and counts (C,) give."""
        means = class_means(sums, counts)
        if self.metric == "dot" and self.centroids == "mean":
            warn_of_common_part(means[counts > 0], self._transform == "un", dtype)
        means = unit_rows(means) if self.centroids == "unit" else means
        centroids = refuse_overflow(means.to(dtype))
        running = _Running(sums, counts, self._transform)
        return {"centroids_": centroids, "mean_": mean, "_running": running}

    @property
    def partial_fit(self) -> Callable[..., Self]:
        """Go on fitting: `partial_fit(X, y, classes=None, sample_weight=None)`.

        X (n, D) and y (n,) are more rows, of the weights (n,) that `fit` takes; `classes` (C,),
        needed in the first call, names all that will come. Predictions are refused while one of
        them has no row of weight above 0.

        Raises
        ------
        AttributeError
            With `transform="cl2n"`, which needs all rows at once.
        ValueError
            As `fit`; no classes in the first call, or a label that is not among them.
        """
        if self._transform == "cl2n":
            message = (
                "partial_fit: transform='cl2n' centres every row by the mean of all rows, so it "
                "needs them at once: use fit, or transform='l2n' or 'un'"
            )
            raise AttributeError(message)
        return self._partial_fit

    def _partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Go on fitting on more rows; see `partial_fit`."""
        self._check_params()
        first, known = not hasattr(self, "classes_"), self._known(classes)
        with as_before_on_failure([self]):
            feats, labels = check_training(self, X, y, reset=first, finite=False)
            y_idx = torch.from_numpy(code_known(labels, known, "of the first call"))
            if sample_weight is not None:
                checked = check_sample_weight(sample_weight, labels)
                sample_weight = torch.from_numpy(checked).to(feats.device)
            train = TrainingRows(feats, y_idx.to(feats.device), len(known), sample_weight)
            sums, counts = self._sums_of(train), train.class_counts()
            if not first:
                sums += match(self._running.sums, sums)
                counts = counts + self._running.counts.to(counts.device)
            return self._keep(self._centroids_of(sums, counts, None, feats.dtype), known, X)

    def _known(self, classes: Any) -> NDArray[Any]:
        """Return the classes of the first call, which may be this one."""
        first, message = not hasattr(self, "classes_"), ""
        running = getattr(self, "_running", None)
        if first and classes is None:
            message = "classes must be passed on the first call to partial_fit."
        elif not first and (running is None or running.transform != self._transform):
            message = "partial_fit: this head was loaded, or fitted with another transform, and "
            message += "has no sums to go on from; fit it anew"
        elif not first and classes is not None and set(classes) != set(self.classes_):
            message = f"`classes={classes}` is not the same as on last call to partial_fit"
        if message:
            raise HeadInputError(message)
        return code_labels(np.asarray(classes))[0] if first else self.classes_

    def _checked(self, X: Any) -> Tensor:
        """Return the checked features, or name a class that has no rows yet."""
        feats = super()._checked(X)
        running = getattr(self, "_running", None)
        empty = [] if running is None else (running.counts == 0).nonzero().squeeze(1).tolist()
        if empty:
            message = (
                f"class {self.classes_[empty[0]]} has no rows yet ({len(empty)} of "
                f"{len(self.classes_)} classes): give some to partial_fit before predicting"
            )
            raise HeadInputError(message)
        return feats

    def _prepared(self, feats: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """Return what is done to a query, and the centroids, so that two metrics remain."""
        mean = None if self.mean_ is None else match(self.mean_, feats)
        used, centroids = self.fitted_params(), match(self.centroids_, feats)
        transform = row_transform(used["transform"], mean)
        if used["metric"] != "cosine":
            return transform, centroids
        return lambda block: unit_rows(transform(block)), unit_rows(centroids)

    def _exactly(self, feats: Tensor) -> Callable[[Tensor], Exactly]:
        """Return the function from a block of rows to what gives some of its rows in float64."""
        prepare, centroids = self._prepared(feats[:0].double())
        unit = self.fitted_params()["centroids"] == "unit"
        centroids = unit_rows(centroids) if unit else centroids
        return lambda block: lambda near: (prepare(block[near].double()), centroids)

    def _scorer(self, feats: Tensor) -> Scorer:
        (prepare, centroids), exactly = self._prepared(feats), self._exactly(feats)
        inner = self.fitted_params()["metric"] != "l2"
        return lambda block: centroid_scores(
            prepare(block), centroids, inner=inner, exactly=exactly(block)
        )

    def _predict_idx(self, feats: Tensor) -> Tensor:
        searcher = self._searcher_for(feats)
        if feats.dtype == torch.float64:
            return super()._predict_idx(feats)
        (prepare, centroids), exactly = self._prepared(feats), self._exactly(feats)
        inner = self.fitted_params()["metric"] != "l2"
        search = searcher(centroids, inner=inner)
        blocks = (feats[rows] for rows in row_blocks(len(feats), max(centroids.shape)))
        found = [
            best_centroid(prepare(block), centroids, search, inner=inner, exactly=exactly(block))
            for block in blocks
        ]
        return torch.cat(found)

    def _searcher_for(self, feats: Tensor) -> Callable[..., Searcher]:
        """Return what makes a searcher of centroids for these features."""
        engine = self.fitted_params()["engine"]
        if engine == "faiss" and feats.dtype == torch.float64:
            message = "faiss holds float32 only: pass float32 features, or engine='auto' or 'torch'"
            raise HeadInputError(message)
        return faiss_searcher if engine == "faiss" else torch_searcher


def _mean_row(train: TrainingRows) -> Tensor:
    """Return the mean row (D,), each row by its sample weight."""
    feats, sample_weight = train.feats, train.sample_weight
    if sample_weight is None:
        return (column_sums(feats) / len(feats)).to(feats.dtype)
    share = sample_weight / sample_weight.max()  # scaled so that no weight leaves float32
    return (column_sums(feats, share.to(feats.dtype)) / share.sum()).to(feats.dtype)


def warn_of_common_part(means: Tensor, plain: bool, dtype: torch.dtype) -> None:
    """Warn where inner products with class means (C, D) tell little of what sets those apart.

    Where the classes have a large part in common, inner products of `plain` rows tell the lengths
    of the means; those of rows of norm 1 tell what rounding leaves of the difference.
    """
    common = means.mean(dim=0)
    shared = float(common.square().sum())
    apart = float((means - common).square().sum(dim=1).mean())
    least = 1e-2 if plain else 4 * torch.finfo(dtype).eps
    if apart < least * shared:
        message = (
            f"metric='dot': what the class means share is {(shared / apart) ** 0.5:.0f} times as "
            "long as what sets them apart, so inner products hardly tell the classes: use "
            "transform='cl2n', or metric='l2'"
            if apart > 0
            else "metric='dot': the class means are all the same, so nothing tells the classes"
        )
        warnings.warn(message, UserWarning, stacklevel=2)


def row_transform(name: str, mean: Tensor | None) -> Callable[[Tensor], Tensor]:
    """Return the function from rows (k, D) to transformed rows; "cl2n" subtracts `mean` (D,)."""
    if name == "un":
        return lambda rows: rows
    if mean is None:
        return unit_rows
    return lambda rows: unit_rows(rows - mean)
