"""Networks that timm does not have: two for small images, and two ResNets of the papers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["NETWORKS", "CifarResNet", "Network", "TinyCNN"]

_HALF = (0.5, 0.5, 0.5)
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Per-channel mean and deviation of CIFAR's training images, as in the code of LDAM and after.
_CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


def _classifier(n_features: int, n_classes: int) -> nn.Module:
    """Return the last layer; with no classes a network gives its features."""
    return nn.Linear(n_features, n_classes) if n_classes else nn.Identity()


class TinyCNN(nn.Module):
    """A small network for 8x8 to 32x32 images: six 3x3 convolutions, 64 features."""

    def __init__(self, n_classes: int, width: int = 16) -> None:
        super().__init__()
        self.stem = _conv(3, width)
        self.stages = nn.Sequential(
            _conv(width, width),
            _conv(width, 2 * width, stride=2),
            _conv(2 * width, 2 * width),
            _conv(2 * width, 4 * width, stride=2),
            _conv(4 * width, 4 * width),
        )
        self.classifier = _classifier(4 * width, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, C) of images (N, 3, S, S)."""
        logits: Tensor = self.classifier(self.stages(self.stem(images)).mean(dim=(2, 3)))
        return logits


def _conv(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(inplace=True),
    )


class _Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (He et al., option A)."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.stride, self.more = stride, n_out - n_in

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output; its shortcut subsamples, and pads channels with zeros."""
        out = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.stride > 1 or self.more:
            before = self.more // 2
            x = x[:, :, :: self.stride, :: self.stride]
            x = functional.pad(x, (0, 0, 0, 0, before, self.more - before))
        return functional.relu(out + x)


class CifarResNet(nn.Module):
    """The ResNet for 32x32 images of He et al., "Deep Residual Learning" (CVPR 2016), section 4.2.

    6 n + 2 layers, 16, 32 and 64 channels, 64 features; n = 5 is ResNet-32, 0.46 M parameters with
    10 classes (their table 6). Convolutions are initialised as in He et al., "Delving Deep into
    Rectifiers" (ICCV 2015), eq. 10.
    """

    def __init__(self, n_classes: int, n: int = 5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, n, stride=1)
        self.layer2 = _stage(16, 32, n, stride=2)
        self.layer3 = _stage(32, 64, n, stride=2)
        self.fc = _classifier(64, n_classes)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, C) of images (N, 3, S, S)."""
        x = functional.relu(self.bn1(self.conv1(images)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


def _stage(n_in: int, n_out: int, n: int, stride: int) -> nn.Sequential:
    blocks = [_Basic(n_in, n_out, stride), *(_Basic(n_out, n_out, 1) for _ in range(n - 1))]
    return nn.Sequential(*blocks)


def _resnet10(n_classes: int) -> nn.Module:
    """One basic block a stage: the ResNet-10 of Liu et al. (CVPR 2019) and after."""
    from timm.models.resnet import BasicBlock, ResNet

    block: Any = BasicBlock
    model: nn.Module = ResNet(block, (1, 1, 1, 1), num_classes=n_classes)
    return model


def _resnext152(n_classes: int) -> nn.Module:
    """ResNeXt-152 (32 x 4d): ResNet-152's stages with 32 groups of 4 channels."""
    from timm.models.resnet import Bottleneck, ResNet

    block: Any = Bottleneck
    model: nn.Module = ResNet(block, (3, 8, 36, 3), n_classes, cardinality=32, base_width=4)
    return model


@dataclass(frozen=True)
class Network:
    """How a network of ours is built, and which images it takes.

    Attributes
    ----------
    build : callable
        Makes the network for a number of classes; 0 leaves its classifier off.
    heads : tuple of str
        Names of the layers that are its classifier.
    size : int or None
        Side of its images in pixels; None takes the data's own.
    mean, std : tuple of three floats
        What normalises the channels, which are in [0, 1].
    crop : float
        Share of the side that the central crop of an evaluation image keeps.
    """

    build: Callable[[int], nn.Module]
    heads: tuple[str, ...] = ("fc",)
    size: int | None = 224
    mean: tuple[float, ...] = _IMAGENET[0]
    std: tuple[float, ...] = _IMAGENET[1]
    crop: float = 0.875


NETWORKS: Mapping[str, Network] = {
    "tiny-cnn": Network(TinyCNN, ("classifier",), None, _HALF, _HALF, crop=1.0),
    "cifar-resnet32": Network(CifarResNet, ("fc",), 32, *_CIFAR, crop=1.0),
    "resnet10": Network(_resnet10),
    "resnext152_32x4d": Network(_resnext152),
}
