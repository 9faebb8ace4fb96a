"""A model to use: `featbank.Model` labels new images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from featbank.backbones.backbones import TINY_CNN
from featbank.data.loader import Batch, BatchPlan, eval_batches, image_loader
from featbank.data.transforms import pixel_transform
from featbank.data.types import ImageSplit
from featbank.errors import InputError
from featbank.extraction.network import Foundation
from featbank.results.predictions import Prediction, Predictions, best_classes
from featbank.runtime.device import one_thread, resolve_device
from featbank.runtime.names import require_known
from featbank.runtime.progress import SILENT, Reporter
from featbank.serving.backends import Backend, Loaded, two_columns
from featbank.serving.folder import load_exported
from featbank.serving.images import as_split
from featbank.serving.loading import parts_of
from featbank.serving.prior import log_shift, target_prior
from featbank.serving.record import ModelRecord

__all__ = ["ON_BAD_IMAGE", "Model", "Scored"]

Floats = NDArray[np.float64]
ON_BAD_IMAGE = ("skip", "error")


@dataclass(frozen=True)
class Scored:
    """A batch of images with what the network made of them.

    Attributes
    ----------
    rows : ndarray of shape (B,)
        The images' places in their split.
    scores, features : ndarrays of shape (B, C) and (B, D)
        Of all rows, those included whose image could not be read.
    bad : dict
        Why an image could not be read, by its row.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    features: NDArray[np.float32]
    bad: dict[int, str]


class Model(Loaded):
    """A frozen network with a fitted head, or what was exported of them.

    Its attributes are those of `Loaded`: `record`, `backend` and `head`.
    """

    @classmethod
    def load(
        cls,
        path: str | Path | Foundation,
        head: str | Path | None = None,
        *,
        which: str = "best",
        device: str = "auto",
        trust: bool = False,
    ) -> Self:
        """Load a folder that `featbank export` wrote, or a training and a head fitted on its bank.

        Parameters
        ----------
        path : path or Foundation
            The folder; with `head`, the folder of a training or one checkpoint file, or a network
            that was trained elsewhere.
        head : path, optional
            A head that was fitted on features of that training.
        which : {"best", "last"}
            Which checkpoint of a training.
        device : str
            ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
        trust : bool
            Also load a ``pt2`` program, which can run code of whoever wrote it.

        Raises
        ------
        StaleError
            The head was fitted on features of another network.
        DamagedError
            A file is not, byte for byte, what was exported.
        InputError
            The format needs what is not installed, or trust that was not given.
        """
        where = resolve_device(device)
        if head is None and not isinstance(path, Foundation):
            return cls.of(load_exported(Path(path), where, trust=trust))
        if head is None:
            message = "a network alone labels nothing: name a head that was fitted on its features"
            raise InputError(message)
        return cls.of(parts_of(path, Path(head), which).loaded(where))

    @classmethod
    def of(cls, loaded: Loaded) -> Self:
        """Return the model of what was loaded."""
        return cls(loaded.record, loaded.backend, loaded.head)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the probabilities' columns."""
        return self.record.class_names

    def predict(
        self,
        images: Any,
        *,
        top_k: int = 1,
        min_confidence: float = 0.0,
        prior: str | ArrayLike | None = None,
        on_bad_image: str = "skip",
        batch_size: int = 64,
        workers: int = 0,
        reporter: Reporter = SILENT,
    ) -> Predictions:
        """Label images.

        Parameters
        ----------
        images : path, PIL image, uint8 array of shape (H, W, 3), or a sequence of these
            Image files, folders of any depth, and ``.txt`` lists of paths.
        top_k : int
            How many classes each prediction names.
        min_confidence : float
            Images whose best class has a smaller probability get no label.
        prior : "train", "uniform", path, or array of shape (C,), optional
            How often the classes come where the model is used: as in training, all alike, by a CSV
            file of lines ``class,probability``, or by numbers in the order of `class_names`. By
            default the probabilities are the head's own.
        on_bad_image : {"skip", "error"}
            Give an image that cannot be read no label, and say why in its prediction; or stop.
        batch_size, workers : int
            Images at a time, and processes that decode them.
        reporter : Reporter
            Is told how far the work is.

        Returns
        -------
        Predictions
            One for each image, in their order.

        Raises
        ------
        InputError
            There are no images, or a parameter is outside its range.
        """
        split, notes = as_split(images)
        for note in notes:
            reporter.warn(note)
        labelling = Labelling(self, top_k, min_confidence, prior)
        found: list[Prediction] = []
        with reporter.track("predict", len(split), "images") as advance:
            for batch in self.scored(
                split, batch_size=batch_size, workers=workers, on_bad_image=on_bad_image
            ):
                found += labelling.of(batch, split)
                advance(len(batch.rows))
        return Predictions(found)

    def predict_proba(self, images: Any, *, batch_size: int = 64, workers: int = 0) -> Floats:
        """Return probabilities (n, C) of images, columns in the order of `class_names`.

        Parameters
        ----------
        images, batch_size, workers
            As in `predict`; an image that cannot be read is an error.
        """
        batches = self.readable(images, batch_size, workers)
        return np.concatenate([self.probabilities(batch.scores) for batch in batches])

    def decision_function(self, images: Any, *, batch_size: int = 64, workers: int = 0) -> Any:
        """Return scores (n, C) of images, before temperature and softmax, float32.

        Parameters
        ----------
        images, batch_size, workers
            As in `predict`; an image that cannot be read is an error.
        """
        batches = self.readable(images, batch_size, workers)
        return np.concatenate([batch.scores for batch in batches])

    def transform(self, images: Any, *, batch_size: int = 64, workers: int = 0) -> Any:
        """Return the features (n, D) of images that the head labels, float32.

        Parameters
        ----------
        images, batch_size, workers
            As in `predict`; an image that cannot be read is an error.
        """
        batches = self.readable(images, batch_size, workers)
        return np.concatenate([batch.features for batch in batches])

    def readable(self, images: Any, batch_size: int, workers: int) -> Iterator[Scored]:
        """Yield the scores of images, all of which must be readable, batch by batch.

        Parameters
        ----------
        images, batch_size, workers
            As in `predict`.
        """
        split, _ = as_split(images)
        return self.scored(split, batch_size=batch_size, workers=workers, on_bad_image="error")

    def scored(
        self, split: ImageSplit, *, batch_size: int, workers: int, on_bad_image: str
    ) -> Iterator[Scored]:
        """Yield the scores of a split's images, batch by batch.

        Every batch has `batch_size` images, the last filled up, so that an image's scores do not
        depend on how many others there are.

        Parameters
        ----------
        split : ImageSplit
            Its labels are not looked at.
        batch_size, workers : int
            Images at a time, and processes that decode them.
        on_bad_image : {"skip", "error"}
            As in `predict`.
        """
        require_known("choice for bad images", on_bad_image, ON_BAD_IMAGE)
        if batch_size < 1:
            message = f"batch_size must be at least 1; got {batch_size}"
            raise InputError(message)
        spec = self.record.input
        if spec is None or self.backend is None:
            message = "a head alone labels features, not images: name its network too"
            raise InputError(message)
        plan = BatchPlan(eval_batches(len(split), batch_size))
        transform = pixel_transform(spec)
        with (
            self.threads(),
            image_loader(split, transform, spec.size, plan, workers=workers) as loader,
        ):
            done = 0
            for batch in loader:
                size = min(batch_size, len(split) - done)
                done += size
                yield self.of_batch(self.backend, batch, size, on_bad_image)

    def of_batch(self, backend: Backend, batch: Batch, size: int, on_bad_image: str) -> Scored:
        """Return the scores of the first `size` images of a batch; the others fill it up.

        Parameters
        ----------
        backend : Backend
            What computes the scores.
        batch : Batch
            Of images as `pixel_transform` makes them.
        size : int
            How many of its images are asked for.
        on_bad_image : {"skip", "error"}
            As in `predict`.
        """
        if on_bad_image == "error" and batch.bad:
            message = f"{next(iter(batch.bad.values()))}; mend it, or leave it unlabelled (skip)"
            raise InputError(message)
        scores, features = backend(batch.images.to(torch.uint8))
        return Scored(batch.rows[:size], scores[:size], features[:size], batch.bad)

    def threads(self) -> AbstractContextManager[None]:
        """Return the setting of threads that extraction takes for this network."""
        return one_thread(self.record.backbone == TINY_CNN)

    def of_features(self, features: Any) -> NDArray[np.float32]:
        """Return scores (n, C) of features (n, D).

        Raises
        ------
        InputError
            The model has no head beside its network, it takes features of another width, or a
            row has NaN or infinity in it.
        """
        if self.head is None:
            message = "this model has no head of its own to label features with; give it images"
            raise InputError(message)
        rows, width = np.asarray(features), self.head.n_features_in_
        if rows.ndim != 2 or rows.shape[1] != width:
            message = f"the head takes features of width {width}; got an array of {rows.shape}"
            raise InputError(message)
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            message = f"row {np.argmin(finite)} of the features has NaN or infinity in it"
            raise InputError(message)
        return two_columns(self.head.decision_function(rows))

    def probabilities(self, scores: Any, prior: Floats | None = None) -> Floats:
        """Return probabilities (n, C) of scores (n, C), for a prior (C,) or the head's own."""
        return shares(scores, self.record.temperature, self.shift(prior))

    def shift(self, prior: Floats | None) -> Floats | None:
        """Return what a prior (C,) adds to the log-probabilities, (C,)."""
        return None if prior is None else log_shift(prior, self.record.assumed_prior())

    def calibrated(self, temperature: float) -> Model:
        """Return the same model at another temperature."""
        return replace(self, record=replace(self.record, temperature=temperature))


class Labelling:
    """How labels are chosen from scores: prior, top k and least confidence, checked once.

    Parameters
    ----------
    model, top_k, min_confidence, prior
        As `Model.predict` takes them.
    """

    def __init__(
        self, model: Model, top_k: int, min_confidence: float, prior: str | ArrayLike | None
    ) -> None:
        if not 1 <= top_k <= len(model.class_names):
            message = f"top_k must be from 1 to {len(model.class_names)}, the classes; got {top_k}"
            raise InputError(message)
        if not 0 <= min_confidence <= 1:
            message = f"min_confidence must be from 0 to 1; got {min_confidence}"
            raise InputError(message)
        self.model, self.top_k, self.min_confidence = model, top_k, min_confidence
        self.prior = prior_of(model.record, prior)

    def of(self, batch: Scored, split: ImageSplit) -> list[Prediction]:
        """Return the predictions of a batch of a split."""
        ids = [split.ids[int(row)] for row in batch.rows]
        errors = [batch.bad.get(int(row)) for row in batch.rows]
        return self.of_scores(batch.scores, ids, errors)

    def of_scores(
        self, scores: Any, ids: Sequence[str], errors: Sequence[str | None] | None = None
    ) -> list[Prediction]:
        """Return the predictions of rows with scores (n, C)."""
        names = self.model.class_names
        columns, found = best_classes(self.model.probabilities(scores, self.prior), self.top_k)
        made = []
        for place, name in enumerate(ids):
            error = None if errors is None else errors[place]
            if error is not None:
                made.append(Prediction(name, None, None, (), error))
                continue
            best = tuple(
                (names[int(column)], float(share))
                for column, share in zip(columns[place], found[place], strict=True)
            )
            label = best[0][0] if best[0][1] >= self.min_confidence else None
            made.append(Prediction(name, label, best[0][1], best))
        return made


def prior_of(record: ModelRecord, prior: str | ArrayLike | None) -> Floats | None:
    """Return class probabilities (C,), whichever way they were given.

    Raises
    ------
    InputError
        They are not a number from 0 for each class, or all 0.
    """
    if prior is None:
        return None
    if isinstance(prior, str | Path):
        return target_prior(str(prior), record.class_names, record.class_counts)
    given = np.asarray(prior, dtype=np.float64)
    good = given.shape == (len(record.class_names),) and np.isfinite(given).all()
    if not (good and (given >= 0).all() and given.sum() > 0):
        message = f"prior must hold a probability for each of {len(record.class_names)} classes"
        raise InputError(message)
    return np.asarray(given / given.sum())


def shares(scores: Any, temperature: float, shift: Floats | None) -> Floats:
    """Return the softmax (n, C), float64, of scores at a temperature, each class shifted."""
    z = np.asarray(scores, np.float64) / temperature
    z -= z.max(axis=1, keepdims=True)
    if shift is not None:
        z = z - np.log(np.exp(z).sum(axis=1, keepdims=True)) + shift
        z -= z.max(axis=1, keepdims=True)
    power = np.exp(z)
    return np.asarray(power / power.sum(axis=1, keepdims=True))
