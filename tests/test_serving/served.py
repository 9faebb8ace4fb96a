"""Networks, banks and heads that the tests of serving label images with."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import featbank as fb
import heads
from featbank import Bank
from featbank.backbones.backbones import build_model
from featbank.data import open_data
from featbank.extraction.extract import extract
from featbank.extraction.network import Foundation
from featbank.serving.exporting import export_model
from tests.commands import featbank

# What Markdown takes for markup, a character beyond ASCII, a comma and quotes; in their order.
NAMES = ("<b>|b\\", "Uhu ü", 'cat, "tabby"')
SIDE = 32
# Images of each class.
COUNTS = {"train": (14, 8, 5), "val": (4, 4, 4), "test": (6, 6, 6)}


@dataclass(frozen=True)
class Kit:
    """A network, the bank of its features, and heads that were fitted on it."""

    root: Path
    source: Path | Foundation
    bank: Bank
    names: dict[str, Path]

    @property
    def options(self) -> list[Any]:
        """The options that name the network."""
        if isinstance(self.source, Path):
            return ["--run", self.source]
        size = ["--image-size", self.source.image_size] if self.source.image_size else []
        return ["--backbone", self.source.backbone, "--weights", self.source.weights, *size]

    @property
    def images(self) -> list[str]:
        """The files of the test images."""
        return [str(self.root / each) for each in self.bank["test"].ids]

    def head(self, spec: str) -> Any:
        return heads.load(self.names[spec])

    @property
    def features(self) -> Any:
        """The bank's features of the test images, in float64, so that scores are exact."""
        return self.bank["test"].read(dtype="float64")

    def scores(self, spec: str) -> Any:
        """Return the scores (n, C) that the head gives the test images."""
        scores = self.head(spec).decision_function(self.features)
        return scores if scores.ndim == 2 else np.stack([0 * scores, scores], axis=1)

    def probabilities(self, spec: str) -> Any:
        return self.head(spec).predict_proba(self.features)

    def labels(self, spec: str) -> list[str]:
        found = self.head(spec).predict(self.bank["test"].read())
        return [self.bank.class_names[int(each)] for each in found]

    def export(self, spec: str, form: str, out: Path, **more: Any) -> Path:
        return export_model(self.source, self.names[spec], out, form, **more)


def write_folders(root: Path, names: tuple[str, ...]) -> Path:
    """Write images of several shapes into a folder for each split and class."""
    rng = np.random.default_rng(5)
    for split, per_class in COUNTS.items():
        for label, (name, count) in enumerate(zip(names, per_class, strict=False)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                height, width = 24 + 9 * (i % 5), 90 - 13 * (i % 4)
                noise = rng.integers(-90, 90, (height, width, 3))
                colour = 110 + 40 * np.eye(3)[label % 3]
                pixels = np.clip(colour + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.{'jpg' if i % 2 else 'png'}")
    return root


def lively(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give normalisations scales, shifts and statistics that differ; a new network has none.

    Without, the residual branches of a new ResNet are all zero, and a wrong one goes unseen.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return network


def foreign(root: Path, backbone: str, specs: tuple[str, ...], side: int = SIDE) -> Kit:
    """Bank a lively network of timm's, and fit heads on its features."""
    data = write_folders(root / "data", NAMES)
    network = lively(build_model(backbone, 0, side))
    save_file(network.state_dict(), root / "weights.safetensors")
    source = Foundation(backbone, root / "weights.safetensors", image_size=side)
    return banked(root, data, source, specs)


def trained(
    root: Path,
    specs: tuple[str, ...],
    names: tuple[str, ...] = NAMES,
    how: tuple[str, ...] = ("--backbone", "tiny-cnn"),
) -> Kit:
    """Train a small network for an epoch, bank it, and fit heads on its features."""
    data = write_folders(root / "data", names)
    settings = [*how, "--image-size", SIDE, "--epochs", 1, "--batch-size", 8]
    settings += ["--workers", 0, "--device", "cpu", "--out", root / "run"]
    done = featbank("train", "--data", f"imagefolder:root={data}", *settings)
    assert done.exit_code == 0, done.output
    return banked(root, data, root / "run", specs)


def banked(root: Path, data: Path, source: Path | Foundation, specs: tuple[str, ...]) -> Kit:
    """Extract features in float32, and fit heads on them."""
    images = open_data("imagefolder", {"root": str(data)})
    extract(source, root / "bank", data=images, device="cpu", dtype="float32")
    fb.fit(root / "bank", list(specs), out=root / "heads")
    files, seen = {}, Counter[str]()
    for spec in specs:
        name = spec.partition(":")[0]
        seen[name] += 1
        files[spec] = root / "heads" / f"{name}{'' if seen[name] == 1 else -seen[name]}.head"
    return Kit(data, source, Bank.open(root / "bank"), files)
