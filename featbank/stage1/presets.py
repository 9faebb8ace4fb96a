"""Settings that suit a data set, published recipes, and those of a retraining."""

from __future__ import annotations

from typing import Any

from featbank.stage1.config import TrainConfig

__all__ = ["PRESETS", "RECIPES", "retraining"]


def retraining() -> dict[str, Any]:
    """Return the settings of a retraining that are not those of the training it starts from.

    Plain cross-entropy on class-balanced draws, as Kang et al. (ICLR 2020) retrain. What a
    retraining before it retrained, and how, is its own affair.
    """
    plain = TrainConfig()
    names = (
        *("loss", "label_smoothing", "defer", "mixup", "method", "pretrained", "weights"),
        *("retrain", "backbone_lr_scale", "shift_bn"),
    )
    return {**{name: getattr(plain, name) for name in names}, "sampler": "class"}


# Settings that suit a data set too small for the defaults, by the data set's name.
PRESETS = {
    "digits-lt": TrainConfig(
        backbone="tiny-cnn", epochs=40, batch_size=32, lr=0.05, warmup_epochs=2
    ),
}

# Published stage-1 recipes, by the name that --preset takes. docs/how-to/train.md says where each
# was read, and where this trainer differs.
RECIPES = {
    # Kang et al. (ICLR 2020), config/ImageNet_LT/feat_uniform.yaml of their code.
    "imagenet-lt-resnext50": TrainConfig(
        backbone="resnext50_32x4d", epochs=90, batch_size=512, lr=0.2, schedule="epoch"
    ),
    # Cao et al. (NeurIPS 2019), defaults of cifar_train.py in their code: the plain baseline (CE)
    # that later work on CIFAR-LT shares.
    "cifar100-lt-resnet32": TrainConfig(
        backbone="cifar-resnet32", epochs=200, batch_size=128, lr=0.1, weight_decay=2e-4,
        warmup_epochs=5, schedule="milestones", augment="pad-crop",
    ),
}  # fmt: skip
