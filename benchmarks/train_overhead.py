"""What the trainer and the extraction cost beyond a bare PyTorch loop of the same work.

The bare loop is what one writes by hand: torchvision's transforms, `DataLoader`, `nn.Module`,
SGD; same batch, workers, precision and layout. Images are JPEG files, so decoding is in both.
Both train and validate; what the trainer writes after an epoch is told apart, since it does not
grow with the epoch. The features of both must be the same to the rounding of float16, and the
losses of both trainings, on labels that mean nothing, must stay near that of guessing.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from benchmarks.common import Row, rows_of, run, same
from featbank import Bank
from featbank.backbones.backbones import build_model, input_spec
from featbank.data import ImageData, open_data
from featbank.data.transforms import eval_transform, train_transform
from featbank.extraction.extract import extract
from featbank.extraction.network import Foundation
from featbank.runtime.device import resolve_device
from featbank.runtime.progress import SILENT
from featbank.stage1.config import TrainConfig
from featbank.stage1.train import train

CLASSES = 10
BARE = "a bare loop"
# The loss of guessing is log(10); random labels cannot be learnt in an epoch or two.
FAR_FROM_GUESSING = 1.0
# A stored feature is rounded to float16, 11 bits.
ROUNDING = 2.0**-10


@dataclass(frozen=True)
class Size:
    """How much is trained on, and how often."""

    backbone: str
    images: int
    batch: int
    epochs: int
    rounds: int
    file_side: int = 96
    image_size: int = 64

    @property
    def config(self) -> TrainConfig:
        """What the trainer is told."""
        return TrainConfig(
            backbone=self.backbone, image_size=self.image_size, batch_size=self.batch,
            epochs=self.epochs, lr=0.01,
        )  # fmt: skip


SIZES = {
    "small": (Size("tiny-cnn", 16, 10, 1, 1, 32, 16),),
    "usual": (Size("resnet18", 256, 64, 1, 3),),
    "full": (Size("resnet18", 512, 64, 2, 5),),
}
Timed = Callable[[], tuple[float, Any]]


def measure(size: Size, device: str) -> Iterator[Row]:
    """Time training and extraction."""
    where, config = resolve_device(device), size.config
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        images = root / "images"
        images.mkdir()
        data = write_images(images, size.images, size.batch, size.file_side)
        saving: list[float] = []
        works: dict[str, Timed] = {
            BARE: lambda: bare_train(images, data, config, where),
            "featbank's training": lambda: our_train(data, config, where, root / "run", saving),
        }
        seconds, losses = alternate(works, size.rounds)
        for name, loss in losses.items():
            assert abs(loss - math.log(CLASSES)) <= FAR_FROM_GUESSING, f"{name}: loss {loss:.3g}"
        n_seen = size.images * size.epochs
        reached = rates(seconds, n_seen)
        reached["featbank's training"] += f"; saving an epoch {median(saving):.2g} s"
        shape = f"{n_seen} images of {size.image_size}, {size.backbone}: train"
        yield from rows_of(shape, BARE, seconds, reached)

        frozen = build_model(config.backbone, 0, size.image_size)
        torch.save(frozen.state_dict(), root / "w.pth")
        works = {
            BARE: lambda: bare_extract(images, data, frozen, config, where),
            "featbank's extraction": lambda: our_extract(
                data, root / "w.pth", config, where, root / "bank"
            ),
        }
        seconds, features = alternate(works, size.rounds)
        theirs, ours = features[BARE], features["featbank's extraction"]
        equal = same("features", ours, theirs, ROUNDING * float(np.abs(theirs).max()))
        reached = rates(seconds, size.images)
        reached["featbank's extraction"] += f"; {equal}"
        shape = f"{size.images} images of {size.image_size}, {size.backbone}: extract"
        yield from rows_of(shape, BARE, seconds, reached)


def alternate(
    works: dict[str, Timed], rounds: int
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Run works in turn, each of which takes its own time; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    results: dict[str, Any] = {}
    for number in range(-1, rounds):
        for name, work in works.items():
            took, results[name] = work()
            if number >= 0:
                seconds[name].append(took)
    return seconds, results


def rates(seconds: dict[str, list[float]], images: int) -> dict[str, str]:
    """Return the images a second of each work."""
    return {name: f"{images / median(each):.3g} images/s" for name, each in seconds.items()}


def write_images(root: Path, n: int, n_val: int, side: int) -> ImageData:
    """Write training images, and one batch to validate, and their lists."""
    rng = np.random.default_rng(0)
    lists = {}
    for split, count in (("train", n), ("val", n_val)):
        lines = []
        for i in range(count):
            name = f"{split}{i}.jpg"
            coarse = rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((side, side)).save(root / name, quality=90)
            lines.append(f"{name} {i % CLASSES}")
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n")
        lists[split] = f"{split}.txt"
    return open_data("imagelist", {"root": str(root), **lists})


class Plain(Dataset[Any]):
    """The data set of a bare loop."""

    def __init__(self, root: Path, paths: Any, labels: Any, transform: Any) -> None:
        self.root, self.paths, self.labels, self.transform = root, paths, labels, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.root / self.paths[i]) as image:
            return self.transform(image.convert("RGB")), int(self.labels[i])


def precision(device: torch.device) -> Any:
    cuda = device.type == "cuda"
    return torch.autocast("cuda", dtype=torch.bfloat16) if cuda else nullcontext()


def laid_out(model: nn.Module, device: torch.device) -> nn.Module:
    model = model.to(device)
    return model.to(memory_format=torch.channels_last) if device.type == "cuda" else model


def bare_train(
    root: Path, data: ImageData, config: TrainConfig, device: torch.device
) -> tuple[float, float]:
    """Train and validate as a script would; return seconds, the building not counted, and loss."""
    spec = input_spec(config.backbone, config.image_size, None)
    model = laid_out(build_model(config.backbone, CLASSES, spec.size), device)
    optimizer = torch.optim.SGD(
        model.parameters(), config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )
    loaders = {
        name: DataLoader(
            Plain(root, split.ids, split.labels, transform),
            batch_size=config.batch_size,
            shuffle=name == "train",
            num_workers=config.workers,
            persistent_workers=config.workers > 0,
            pin_memory=device.type == "cuda",
        )
        for (name, split), transform in zip(
            data.splits.items(), (train_transform(spec), eval_transform(spec)), strict=True
        )
    }
    began = perf_counter()
    for _ in range(config.epochs):
        model.train()
        losses = []
        for images, labels in loaders["train"]:
            images = images.to(device, non_blocking=True)
            if device.type == "cuda":
                images = images.contiguous(memory_format=torch.channels_last)
            with precision(device):
                loss = cross_entropy(model(images), labels.to(device, non_blocking=True))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        model.eval()
        with torch.inference_mode(), precision(device):
            for images, _labels in loaders["val"]:
                model(images.to(device)).argmax(1).cpu()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return perf_counter() - began, float(torch.stack(losses).mean())


class Clock:
    """A reporter that notes when work begins, and sums the time from an epoch's start to its end.

    Building the network comes before, and saving after.
    """

    def __init__(self) -> None:
        self.began = self.epoch = self.spent = 0.0

    def say(self, line: str) -> None:
        if line.startswith("epoch"):
            self.spent += perf_counter() - self.epoch

    def track(self, label: str, total: int, unit: str) -> Any:
        now = perf_counter()
        self.began = self.began or now
        if label.startswith("epoch"):
            self.epoch = now
        return SILENT.track(label, total, unit)


def our_train(
    data: ImageData, config: TrainConfig, device: torch.device, out: Path, saving: list[float]
) -> tuple[float, float]:
    """Train with featbank; return seconds and loss, and put those of saving into `saving`."""
    watch = Clock()
    metrics = {"all": 0.0}
    done = train(
        data, {}, config, out, device=device, metrics=lambda *_: metrics, reporter=watch,
        overwrite=True,
    )  # fmt: skip
    whole = perf_counter() - watch.began
    saving.append((whole - watch.spent) / config.epochs)
    return watch.spent, done.last["train_loss"]


def bare_extract(
    root: Path, data: ImageData, model: nn.Module, config: TrainConfig, device: torch.device
) -> tuple[float, np.ndarray]:
    """Run a frozen network over the training images; return seconds and features."""
    spec = input_spec(config.backbone, config.image_size, None)
    split = data.splits["train"]
    loader = DataLoader(
        Plain(root, split.ids, split.labels, eval_transform(spec)),
        batch_size=config.batch_size,
        num_workers=config.workers,
        pin_memory=device.type == "cuda",
    )
    model = model.to(device).eval()
    began = perf_counter()
    with torch.inference_mode():
        parts = [model(images.to(device)).float().cpu().numpy() for images, _ in loader]
    features = np.concatenate(parts)
    return perf_counter() - began, features


def our_extract(
    data: ImageData, weights: Path, config: TrainConfig, device: torch.device, out: Path
) -> tuple[float, np.ndarray]:
    """Bank the same images: features, digests, checksums, on disk; return seconds and features."""
    watch = Clock()
    only = ImageData(data.name, data.class_names, {"train": data.splits["train"]})
    source = Foundation(config.backbone, weights, image_size=config.image_size)
    extract(
        source, out, data=only, device=device, batch_size=config.batch_size,
        workers=config.workers, overwrite=True, reporter=watch,
    )  # fmt: skip
    seconds = perf_counter() - watch.began
    return seconds, Bank.open(out)["train"].read("float32")


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    run(__doc__, measure, SIZES, words)


if __name__ == "__main__":
    main()
