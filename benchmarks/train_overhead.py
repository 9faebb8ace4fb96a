"""What the trainer and the extraction cost beyond a bare PyTorch loop of the same work.

    python benchmarks/train_overhead.py [--device cpu|cuda] [--backbone NAME] [--images N] ...

The bare loop is what one writes by hand: torchvision's transforms, `DataLoader`, `nn.Module`,
SGD; same batch, workers, precision and layout. Images are JPEG files, so decoding is in both.
Both train and validate; what the trainer writes after an epoch is timed apart, since it does not
grow with the epoch. Rounds alternate between the two; the medians of each side's rounds are
compared, and the best ones, which other work on the machine disturbs least.
``--clock cpu`` (without workers) counts processor time, for machines that do other work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from featbank.backbones.backbones import build_model, input_spec
from featbank.data import ImageData, open_data
from featbank.data.sampling import epoch_indices
from featbank.data.transforms import eval_transform, train_transform
from featbank.extraction.extract import extract
from featbank.extraction.network import Foundation
from featbank.runtime.device import resolve_device
from featbank.stage1.config import TrainConfig
from featbank.stage1.train import train

CLASSES = 10
clock = time.perf_counter


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


def bare_train(root: Path, data: ImageData, config: TrainConfig, device: torch.device) -> float:
    """Train and validate as a script would; return seconds, the building not counted."""
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
    began = clock()
    for _ in range(config.epochs):
        model.train()
        for images, labels in loaders["train"]:
            images = images.to(device, non_blocking=True)
            if device.type == "cuda":
                images = images.contiguous(memory_format=torch.channels_last)
            with precision(device):
                loss = cross_entropy(model(images), labels.to(device, non_blocking=True))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode(), precision(device):
            for images, _labels in loaders["val"]:
                model(images.to(device)).argmax(1).cpu()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - began


class Clock:
    """A reporter that notes when work begins, and sums the time from an epoch's start to its end.

    Building the network comes before, and saving after.
    """

    def __init__(self) -> None:
        self.began = self.epoch = self.spent = 0.0

    def say(self, line: str) -> None:
        if line.startswith("epoch"):
            self.spent += clock() - self.epoch

    def track(self, label: str, total: int, unit: str) -> Any:
        from featbank.runtime.progress import SILENT

        now = clock()
        self.began = self.began or now
        if label.startswith("epoch"):
            self.epoch = now
        return SILENT.track(label, total, unit)


def our_train(
    data: ImageData, config: TrainConfig, device: torch.device, out: Path, saving: list[float]
) -> float:
    """Train with featbank; return seconds, with those of saving an epoch put into `saving`."""
    watch = Clock()
    metrics = {"all": 0.0}
    train(
        data, {}, config, out, device=device, metrics=lambda *_: metrics, reporter=watch,
        overwrite=True,
    )  # fmt: skip
    whole = clock() - watch.began
    saving.append((whole - watch.spent) / config.epochs)
    return watch.spent


def bare_extract(
    root: Path, data: ImageData, model: nn.Module, config: TrainConfig, device: torch.device
) -> float:
    """Run a frozen network over the training images; return seconds."""
    spec = input_spec(config.backbone, config.image_size, None)
    split = data.splits["train"]
    loader = DataLoader(
        Plain(root, split.ids, split.labels, eval_transform(spec)),
        batch_size=config.batch_size,
        num_workers=config.workers,
        pin_memory=device.type == "cuda",
    )
    model = model.to(device).eval()
    began = clock()
    with torch.inference_mode():
        parts = [model(images.to(device)).float().cpu().numpy() for images, _ in loader]
    np.concatenate(parts)
    return clock() - began


def our_extract(
    data: ImageData, weights: Path, config: TrainConfig, device: torch.device, out: Path
) -> float:
    """Bank the same images: features, digests, checksums, on disk; return seconds."""
    watch = Clock()
    only = ImageData(data.name, data.class_names, {"train": data.splits["train"]})
    source = Foundation(config.backbone, weights, image_size=config.image_size)
    extract(
        source, out, data=only, device=device, batch_size=config.batch_size,
        workers=config.workers, overwrite=True, reporter=watch,
    )  # fmt: skip
    return clock() - watch.began


def alternate(rounds: int, *sides: Callable[[], float]) -> list[list[float]]:
    """Run the sides in turn; the first round of each warms up and is not counted."""
    times: list[list[float]] = [[] for _ in sides]
    for i in range(rounds + 1):
        for side, seconds in zip(sides, times, strict=True):
            value = side()
            if i:
                seconds.append(value)
    return times


def index_rate(n: int = 115_846, classes: int = 1000, rounds: int = 20) -> float:
    """Return class-balanced indices per second, at ImageNet-LT's shape."""
    counts = np.geomspace(1280, 5, classes)
    labels = np.repeat(np.arange(classes), np.maximum(counts * n / counts.sum(), 1).astype(int))
    epoch_indices(labels, "class", 0, 0)
    began = clock()
    drawn = sum(len(epoch_indices(labels, "class", 0, epoch)) for epoch in range(rounds))
    return drawn / (clock() - began)


def compare(name: str, images: int, ours: list[float], bare: list[float]) -> dict[str, Any]:
    one, other = statistics.median(ours), statistics.median(bare)
    return {
        "what": name,
        "featbank images/s": round(images / one, 1),
        "bare images/s": round(images / other, 1),
        "featbank / bare time": round(one / other, 3),
        "of the best rounds": round(min(ours) / min(bare), 3),
        "spread of bare": round((max(bare) - min(bare)) / other, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="auto")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--file-side", type=int, default=96)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.clock == "cpu":
        global clock
        clock = time.process_time
    device = resolve_device(args.device)
    config = TrainConfig(
        backbone=args.backbone, image_size=args.image_size, batch_size=args.batch_size,
        epochs=args.epochs, workers=args.workers, lr=0.01,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "images").mkdir()
        data = write_images(root / "images", args.images, args.batch_size, args.file_side)
        frozen = build_model(config.backbone, 0, args.image_size)
        torch.save(frozen.state_dict(), root / "w.pth")
        saving: list[float] = []
        ours, bare = alternate(
            args.rounds,
            lambda: our_train(data, config, device, root / "run", saving),
            lambda: bare_train(root / "images", data, config, device),
        )
        rows = [compare("train", args.images * args.epochs, ours, bare)]
        ours, bare = alternate(
            args.rounds,
            lambda: our_extract(data, root / "w.pth", config, device, root / "bank"),
            lambda: bare_extract(root / "images", data, frozen, config, device),
        )
        rows.append(compare("extract", args.images, ours, bare))
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    result = {
        "command": vars(args) | {"json": None},
        "machine": f"{machine}, {os.cpu_count()} CPU cores, torch {torch.__version__}",
        "rows": rows,
        "saving after an epoch, s": round(statistics.median(saving), 2),
        "class-balanced indices/s": round(index_rate()),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
