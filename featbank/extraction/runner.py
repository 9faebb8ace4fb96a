"""A frozen network over the images of a data set: the chunks of a bank, one after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from featbank.bank.plan import Span
from featbank.bank.writer import BankWriter
from featbank.data.loader import Batch, BatchPlan, ImageLoader, Key, image_loader
from featbank.data.transforms import Transform
from featbank.data.types import ImageData, ImageSplit
from featbank.errors import InputError
from featbank.extraction.batchnorm import balanced_plan, refresh_statistics, running_statistics
from featbank.extraction.images import KeptImages, Rows
from featbank.extraction.network import Frozen
from featbank.runtime.device import autocast
from featbank.runtime.progress import Advance, Reporter
from featbank.runtime.ranks import Ranks
from featbank.runtime.rng import derive_seed

__all__ = ["Compute", "Extraction", "Variation"]


@dataclass(frozen=True)
class Compute:
    """How a network is run: where, how many images at a time, and how exactly.

    Parameters
    ----------
    device : torch.device
    batch_size : int
        Images in every batch.
    workers : int
        Processes that decode images; with 0 this one does.
    use_autocast : bool
        Whether a CUDA device computes in bfloat16.
    """

    device: torch.device
    batch_size: int
    workers: int
    use_autocast: bool


@dataclass(frozen=True)
class Variation:
    """How training images are varied, the seed of what is drawn, and how many views are banked."""

    transform: Transform
    seed: int
    n_views: int


@dataclass(frozen=True)
class Extraction:
    """A frozen network and how it is run, by one process or by each of several.

    Parameters
    ----------
    frozen : Frozen
        The network.
    transform : Transform
        Makes of an image what the network sees.
    variation : Variation
        Does so for augmented views, and for the BatchNorm statistics.
    compute : Compute
    ranks : Ranks
        The processes of the job.
    """

    frozen: Frozen
    transform: Transform
    variation: Variation
    compute: Compute
    ranks: Ranks

    def refresh_batchnorm(self, kept: KeptImages, reporter: Reporter) -> None:
        """Take BatchNorm statistics anew; the first process does, for all of the job."""
        network = self.frozen.network
        running_statistics(network)
        if self.ranks.first:
            network.to(self.compute.device)
            split, rows = kept.data.splits["train"], kept.rows["train"]
            plan = balanced_plan(split.labels, rows, self.variation.seed, self.compute.batch_size)
            with (
                reporter.track("refresh BatchNorm", len(plan), "batches") as advance,
                self.loader(split, self.variation.transform, plan) as loader,
            ):
                refresh_statistics(network, loader, partial(self.see, advance))
        found = {name: each.tolist() for name, each in running_statistics(network).items()}
        shared = self.ranks.share(found if self.ranks.first else None)
        if not self.ranks.first:
            for name, each in running_statistics(network).items():
                each.copy_(torch.tensor(shared[name]))

    def see(self, advance: Advance, batch: Batch) -> None:
        """Put a batch through the network for its statistics' sake."""
        self.features(batch)
        advance(1)
        self.ranks.check()

    def scan(self, images: ImageData, reporter: Reporter) -> dict[str, Rows]:
        """Decode every image once; return the rows of each split that cannot be read."""
        bad: dict[str, Rows] = {}
        for name, split in images.splits.items():
            found = self.unreadable(name, split, reporter)
            for _, reason in found:
                reporter.say(f"left out: {reason}")
            if len(found) == len(split):
                message = f"no image of split {name!r} can be read; the first: {found[0][1]}"
                raise InputError(message)
            bad[name] = np.array([row for row, _ in found], dtype=np.int64)
        return bad

    def unreadable(self, name: str, split: ImageSplit, reporter: Reporter) -> list[tuple[int, str]]:
        """Return the rows of a split that cannot be read, in order, and why."""
        mine = self.ranks.mine(self.cut(np.arange(len(split))))
        found: dict[int, str] = {}
        with reporter.track(f"check {name}", sum(map(n_rows, mine)), "images") as advance:
            for rows, batch in zip(mine, self.batches(split, mine), strict=True):
                found |= batch.bad
                advance(n_rows(rows))
                self.ranks.check()
        gathered = self.ranks.gather([*found.items()])
        return sorted((row, reason) for part in gathered for row, reason in part)

    def fill(
        self,
        writer: BankWriter,
        kept: KeptImages,
        name: str,
        spans: Sequence[Span],
        reporter: Reporter,
    ) -> None:
        """Write some chunks of a split.

        Parameters
        ----------
        writer : BankWriter
            The bank.
        kept : KeptImages
            The images that it is made from.
        name : str
            The split's name.
        spans : sequence of Span
            The rows of the chunks, of this split.
        reporter : Reporter
            Is told of every batch.
        """
        split, rows = kept.data.splits[name], kept.rows[name]
        cuts = [self.cut(rows[start:stop]) for _, start, stop in spans]
        n_views = writer.plan.n_views(name)
        plain = iter(self.batches(split, [batch for cut in cuts for batch in cut]))
        varied = iter(self.view_batches(split, cuts, n_views)) if n_views else iter(())
        self.frozen.network.to(self.compute.device)
        total = (1 + n_views) * sum(stop - start for _, start, stop in spans)
        with reporter.track(f"extract {name}", total, "images") as advance:
            for (_, start, stop), cut in zip(spans, cuts, strict=True):
                size = stop - start
                done = self.block(plain, cut, advance)
                views = [self.block(varied, cut, advance)[0][:size] for _ in range(n_views)]
                images = (done[1][:size], done[2][:size])
                writer.put(name, start, done[0][:size], images, views)

    def block(
        self, batches: Iterator[Batch], cut: Sequence[Rows], advance: Advance
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.int64]]:
        """Return features, digests and sizes of the images of the next batches."""
        parts = []
        for rows in cut:
            batch = next(batches)
            parts.append((self.features(batch), batch.sha256, batch.n_bytes))
            advance(n_rows(rows))
            self.ranks.check()
        features, hashes, sizes = zip(*parts, strict=True)
        return np.concatenate(features), np.concatenate(hashes), np.concatenate(sizes)

    def cut(self, rows: Rows) -> list[Rows]:
        """Cut rows into batches of one size, the last filled up with its own last row.

        A network's output for a row can depend on the batch's size in the last bit, never on
        what else is in it. Chunks hold whole batches, so wherever an extraction begins again the
        same rows meet in batches of the same size.
        """
        size = self.compute.batch_size
        places = np.arange(-(-len(rows) // size) * size)
        return list(rows[np.minimum(places, len(rows) - 1)].reshape(-1, size))

    def batches(self, split: ImageSplit, rows: Sequence[Rows]) -> Iterator[Batch]:
        """Yield batches of images."""
        plan = BatchPlan([[Key(int(row), 0, 0) for row in batch] for batch in rows])
        with self.loader(split, self.transform, plan) as loader:
            yield from loader

    def view_batches(
        self, split: ImageSplit, cuts: Sequence[Sequence[Rows]], n_views: int
    ) -> Iterator[Batch]:
        """Yield, chunk by chunk, the batches of view 0, of view 1, ….

        Draws are named by seed, view and row, so that nothing else moves them.
        """
        keys = [
            [Key(int(row), view, int(row)) for row in batch]
            for cut in cuts
            for view in range(n_views)
            for batch in cut
        ]
        with self.loader(split, self.variation.transform, BatchPlan(keys)) as loader:
            yield from loader

    def loader(self, split: ImageSplit, transform: Transform, plan: BatchPlan) -> ImageLoader:
        """Return a loader of the batches of a plan."""
        return image_loader(
            split,
            transform,
            self.frozen.input.size,
            plan,
            seed=derive_seed(self.variation.seed, "views"),
            workers=self.compute.workers,
            pin=self.compute.device.type == "cuda",
        )

    def features(self, batch: Batch) -> NDArray[np.float32]:
        """Return the features (B, D) of a batch, all of whose images must be readable."""
        for reason in batch.bad.values():
            message = (
                f"{reason}; mend it, or leave such images out with --on-bad-image skip --overwrite"
            )
            raise InputError(message)
        device = self.compute.device
        with torch.inference_mode(), autocast(device, self.compute.use_autocast):
            features = self.frozen.network(batch.images.to(device, non_blocking=True))
        array: NDArray[np.float32] = features.float().cpu().numpy()
        return array


def n_rows(filled: Rows) -> int:
    """Return how many rows a batch holds that is filled up with its last one."""
    return 1 + int(np.count_nonzero(filled != filled[-1]))
