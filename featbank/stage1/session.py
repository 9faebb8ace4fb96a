"""One training under way: its steps, its validation, and the state that it goes on from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featbank.data.loader import Batch, BatchPlan, ImageLoader, Key, eval_batches, image_loader
from featbank.data.transforms import InputSpec, augmentation, eval_transform
from featbank.data.types import ImageData
from featbank.errors import InputError
from featbank.runs.checkpoint import Checkpoint
from featbank.runtime.device import autocast
from featbank.runtime.interruption import Interruption, WaitInterrupted
from featbank.runtime.progress import Reporter
from featbank.runtime.rng import derive_seed, isolated_torch, reseed_torch
from featbank.stage1.config import SaveEvery, TrainConfig
from featbank.stage1.ddp import Share, Team, shares
from featbank.stage1.objective import Objective, step_batches
from featbank.stage1.optim import learning_rate, optimizer_tensors, set_rate
from featbank.stage1.retraining import set_training

__all__ = ["Learner", "Metrics", "Progress", "Save", "SeenImages", "Session"]

_Ints = NDArray[np.int64]


class Save(Protocol):
    """Saves a training within an epoch."""

    def __call__(self, state: Checkpoint, /) -> None:
        """Save the state."""

    def kept(self) -> str:
        """Say what is saved of the training, as the end of a message; nothing where nothing is."""


Metrics = Callable[[_Ints, _Ints, _Ints], Mapping[str, float | None]]
"""Labels (N,), predictions (N,), train counts (C,) to ``all``, ``many``, ``medium``, ``few``, …"""

# Reading the loss waits for the GPU; often enough to stop a diverged training within seconds.
_STEPS_PER_CHECK = 50


@dataclass(frozen=True)
class SeenImages:
    """The images of a training, and how its network sees them."""

    data: ImageData
    spec: InputSpec


@dataclass(frozen=True)
class Learner:
    """What learns: a network, the optimiser of its weights, and what it minimises."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Objective


@dataclass(frozen=True)
class Progress:
    """How far a training is, and what saves it.

    `record` is the JSON part of its state: ``epoch`` (finished ones), ``step`` (taken in the one
    under way), ``loss_sum`` (over the images of those steps), ``history`` and ``best``. `save` is
    called with the state whenever it is time, or a signal came.
    """

    record: dict[str, Any]
    save: Save


class Session:
    """A network in training.

    The order of images, augmentation and dropout are functions of seed, epoch and step, so there
    is nothing to save but `Progress.record` and tensors.

    Parameters
    ----------
    config : TrainConfig
        Every choice of the training.
    images : SeenImages
        Its images; validated on ``val`` where there is one.
    learner : Learner
        On the device of `team`.
    progress : Progress
        Where the training stands; its record is extended.
    team : Team
        The processes that train together, and where this one computes.
    """

    def __init__(
        self,
        config: TrainConfig,
        images: SeenImages,
        learner: Learner,
        progress: Progress,
        team: Team,
    ) -> None:
        self.config, self.data = config, images.data
        self.model, self.optimizer = learner.model, learner.optimizer
        self.objective = learner.objective
        self.record, self.save = progress.record, progress.save
        self.team, self.device = team, team.device
        wrapped = team.wrap(self.model)
        self.forward: Any = torch.compile(wrapped) if config.compile else wrapped
        # Validation exchanges nothing, so it goes past the wrapper.
        self.evaluated: Any = self.forward if wrapped is self.model else self.model
        self.interruption = Interruption()
        self.every = SaveEvery.parse(config.checkpoint_every)
        self.saved = time.monotonic()
        self.plan, self.eval_plan = BatchPlan(), BatchPlan()
        self.make_loaders(images.spec)

    def make_loaders(self, spec: InputSpec) -> None:
        """Make what brings the images of `plan`, and of val those of `eval_plan`."""
        config, data = self.config, self.data
        common: dict[str, Any] = {
            "seed": config.seed,
            "workers": config.workers,
            "pin": self.device.type == "cuda",
        }
        transform = augmentation(spec, config.augment, data.photographs, data.native_size)
        self.loader = image_loader(data.splits["train"], transform, spec.size, self.plan, **common)
        if "val" in data.splits:
            batches = eval_batches(len(data.splits["val"]), config.batch_size)
            self.eval_plan.batches = self.team.ranks.mine(batches)
            self.eval_loader = image_loader(
                data.splits["val"], eval_transform(spec), spec.size, self.eval_plan, **common
            )

    def epoch_size(self) -> dict[str, int]:
        """Return the draws of an epoch, the images of a draw, and the steps they make."""
        orders = self.objective.orders(0)
        steps = len(step_batches(orders, 0, self.config.batch_size))
        return {"draws": len(orders[0]), "images_per_draw": len(orders), "steps": steps}

    def about(self, size: Mapping[str, int]) -> str:
        """Return one line about the training: how long an epoch is (`epoch_size`), the recipe."""
        config = self.config
        pairs = "pairs of images" if size["images_per_draw"] == 2 else "images"
        return (
            f"{config.epochs} epochs of {size['draws']} {pairs} in {size['steps']} steps; sampler "
            f"{config.sampler}, loss {config.loss}, defer {config.defer}, mixup {config.mixup}, "
            f"method {config.method}, retrain {config.retrain}"
        )

    def checkpoint(self) -> Checkpoint:
        """Return the state to save."""
        tensors = self.model.state_dict()
        return Checkpoint(dict(self.record), tensors, optimizer_tensors(self.optimizer))

    def run_epoch(self, epoch: int, metrics: Metrics, reporter: Reporter) -> bool:
        """Train one epoch, validate, extend the record; say whether it is the best so far."""
        with isolated_torch(derive_seed(self.config.seed, "epoch", epoch), self.device):
            loss = self.train_epoch(epoch, reporter)
        self.team.average_statistics(self.model)
        val = self.validate(metrics, reporter) if "val" in self.data.splits else None
        lr = self.optimizer.param_groups[0]["lr"]
        entry = {"epoch": epoch + 1, "lr": lr, "train_loss": loss, "val": val}
        best = self.record["best"]
        is_best = val is not None and (best is None or val["all"] > best["val"]["all"])
        self.record |= {
            "epoch": epoch + 1,
            "step": 0,
            "loss_sum": 0.0,
            "history": [*self.record["history"], entry],
            "best": {"epoch": epoch + 1, "val": val} if is_best else best,
        }
        self.saved = time.monotonic()
        reporter.say(_line(entry, self.config.epochs))
        return is_best

    def train_epoch(self, epoch: int, reporter: Reporter) -> float:
        """Return the mean loss over one pass of the sampler, from the step where it stands."""
        config, orders = self.config, self.objective.orders(epoch)
        batches = step_batches(orders, epoch, config.batch_size)
        steps, first = len(batches), self.record["step"]
        in_step = len(orders)  # images that one draw of the sampler brings
        parts = [self.share(batch, in_step) for batch in batches[first:]]
        self.plan.batches = [part.keys for step in parts for part in step]
        before = self.record["loss_sum"] if self.team.rank == 0 else 0.0
        total = torch.tensor(before, dtype=torch.float64, device=self.device)
        done = sum(len(batch) for batch in batches[:first]) // in_step
        set_rate(self.optimizer, learning_rate(config, epoch * steps + max(first - 1, 0), steps))
        set_training(self.model, shift_bn=config.shift_bn)
        note = ""
        label, left = f"epoch {epoch + 1}/{config.epochs}", len(orders[0]) - done
        step = first
        images = self.arriving(self.loader, lambda: self.save_and_leave(total, epoch, step))
        with reporter.track(label, left, "images") as advance, self.team.together():
            for step, share in enumerate(parts, start=first):
                rate = learning_rate(config, epoch * steps + step, steps)
                set_rate(self.optimizer, rate)
                self.reseed(epoch, step)
                drawn = len(batches[step]) // in_step
                made = [(next(images), part.weight) for part in share]
                total += self.train_step(made, epoch, step) * drawn
                done += drawn
                if (step + 1) % _STEPS_PER_CHECK == 0 or step + 1 == steps:
                    so_far = self.check_finite(total, epoch, step)
                    note = f"loss {so_far / done:.4f}, lr {rate:.3g}"
                advance(drawn, note)
                self.save_if_due(total, epoch, step)
        whole = float(self.team.sum(total))
        self.record |= {"step": steps, "loss_sum": whole}
        return whole / len(orders[0])

    def arriving(self, loader: ImageLoader, leave: Callable[[], None]) -> Iterator[Batch]:
        """Yield batches; a signal does not wait for one that does not come.

        `leave` saves and lets it act. Where that does not end the training, it goes on.
        """
        batches = loader.batches()
        for place in range(len(loader)):
            try:
                with self.interruption.waiting(patient=self.team.size > 1):
                    batch = next(batches)
            except WaitInterrupted:
                leave()
                batches = loader.batches(place)
                batch = next(batches)
            yield batch

    def share(self, batch: Sequence[Key], in_step: int) -> list[Share]:
        """Return this process's parts of a step."""
        return shares(batch, in_step, self.team.rank, self.team.size, self.config.accumulate)

    def reseed(self, epoch: int, step: int) -> None:
        """Name what the network draws in a step: by seed, epoch and step, and in each process."""
        mine = (self.team.rank,) if self.team.rank else ()
        reseed_torch(derive_seed(self.config.seed, "step", epoch, step, *mine), self.device)

    def train_step(self, parts: Sequence[tuple[Batch, float]], epoch: int, step: int) -> Tensor:
        """Take one step of the optimiser; return this process's part of the batch's mean loss."""
        self.optimizer.zero_grad(set_to_none=True)
        mean = torch.zeros((), device=self.device)
        for place, (batch, weight) in enumerate(parts, start=1):
            _refuse_bad(batch)
            labels = torch.from_numpy(self.data.splits["train"].labels[batch.rows])
            images, labels = self.to_device(batch.images), labels.to(self.device, non_blocking=True)
            with self.team.apart(self.forward, last=place == len(parts)):
                with autocast(self.device, self.config.amp):
                    loss = self.objective.loss(self.forward, images, labels, epoch, step)
                # DistributedDataParallel takes the mean of the processes' gradients.
                scaled = loss if weight == 1.0 else loss * (weight * self.team.size)
                scaled.backward()  # type: ignore[no-untyped-call]
            mean = mean + loss.detach() * weight
        self.optimizer.step()
        return mean

    def to_device(self, images: Tensor) -> Tensor:
        """Copy images to the device, in the layout that the model has there."""
        images = images.to(self.device, non_blocking=True)
        if self.config.channels_last and self.device.type == "cuda":
            images = images.contiguous(memory_format=torch.channels_last)
        return images

    def save_if_due(self, total: Tensor, epoch: int, step: int) -> None:
        """Save after a step where it is time to, or where a signal asks to stop.

        Of several processes the first one's clock counts, and a signal to any of them.
        """
        due = self.every.due(step + 1, time.monotonic() - self.saved) and self.team.rank == 0
        came, due_now = self.team.most(self.interruption.came or 0, int(due))
        if not came and not due_now:
            return
        self.save_now(total, epoch, step + 1)
        if came:
            self.interruption.came = came
            self.interruption.pass_on()

    def save_now(self, total: Tensor, epoch: int, taken: int) -> None:
        """Save after so many steps of an epoch."""
        whole = self.check_finite(total, epoch, taken - 1)
        self.record |= {"step": taken, "loss_sum": whole}
        self.team.average_statistics(self.model)
        self.save(self.checkpoint())
        self.saved = time.monotonic()

    def save_and_leave(self, total: Tensor, epoch: int, taken: int) -> None:
        """Save after so many steps, and let the signal that came act."""
        self.save_now(total, epoch, taken)
        self.interruption.pass_on()

    def check_finite(self, total: Tensor, epoch: int, step: int) -> float:
        """Stop a training that has diverged before it can overwrite a good checkpoint.

        Returns the sum of losses over all processes.
        """
        whole = self.team.sum(total)
        weights = sum(each.detach().sum() for each in self.model.parameters())
        if not torch.isfinite(whole + weights):
            message = (
                f"training diverged in epoch {epoch + 1}, by step {step + 1}: the loss or a weight "
                f"is not finite; lower --lr (now {self.config.lr:g}) or add warm-up epochs"
                f"{self.save.kept()}"
            )
            raise InputError(message)
        return float(whole)

    def validate(self, metrics: Metrics, reporter: Reporter) -> dict[str, float | None]:
        """Return the metrics of the val split."""
        split = self.data.splits["val"]
        predictions = np.zeros(len(split), dtype=np.int64)
        self.model.eval()
        with (
            torch.inference_mode(),
            autocast(self.device, self.config.amp),
            reporter.track("validate", len(split), "images") as advance,
        ):
            for batch in self.arriving(self.eval_loader, self.leave_validation):
                _refuse_bad(batch)
                logits = self.evaluated(self.to_device(batch.images))
                predictions[batch.rows] = logits.argmax(dim=1).cpu().numpy()
                advance(len(np.unique(batch.rows)))
                if self.interruption.came is not None and self.team.size == 1:
                    self.leave_validation()
        (came,) = self.team.most(self.interruption.came or 0)
        if came:
            self.interruption.came = came
            self.leave_validation()
        predictions = self.team.predictions(predictions)
        found = metrics(split.labels, predictions, self.data.counts)
        return {name: None if value is None else float(value) for name, value in found.items()}

    def close(self) -> None:
        """End the processes that load images."""
        self.loader.close()
        if "val" in self.data.splits:
            self.eval_loader.close()

    def leave_validation(self) -> None:
        """Save with all steps of the epoch taken, so that it is validated again; then leave."""
        self.save(self.checkpoint())
        self.interruption.pass_on()


def _refuse_bad(batch: Batch) -> None:
    if batch.bad:
        message = f"{next(iter(batch.bad.values()))}; mend it, or take it out of the data set"
        raise InputError(message)


def _line(entry: Mapping[str, Any], epochs: int) -> str:
    """Return one line about an epoch."""
    val = entry["val"] or {}
    shown = "  ".join(f"{name} {val[name]:.3f}" for name in val if val[name] is not None)
    text = f"epoch {entry['epoch']}/{epochs}  loss {entry['train_loss']:.4f}  lr {entry['lr']:.3g}"
    return f"{text}  val: {shown}" if shown else text
