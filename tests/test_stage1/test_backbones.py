import numpy as np
import pytest
import torch
from torch import nn

from featbank.backbones.backbones import (
    build_model,
    classifier_names,
    feature_width,
    find_classifier,
    input_spec,
    split_classifier,
)
from featbank.errors import InputError
from featbank.runtime.device import resolve_device
from featbank.runtime.rng import derive_seed, isolated_torch, numpy_generator, torch_generator

MODELS = [
    ("resnet18", 64, "fc", 512),
    ("vit_tiny_patch16_224", 64, "head", 192),
    ("convnext_atto", 64, "head.fc", 320),
    ("mobilenetv3_small_050", 64, "classifier", 1024),
    ("tiny-cnn", 8, "classifier", 64),
    ("tiny-cnn", 32, "classifier", 64),
]


@pytest.mark.parametrize(("name", "size", "layer", "dim"), MODELS)
def test_the_classifier_is_found_and_its_input_is_the_feature(
    name: str, size: int, layer: str, dim: int
) -> None:
    model = build_model(name, 7, size).eval()
    images = torch.randn(3, 3, size, size)
    with torch.inference_mode():
        logits = model(images)

        split = split_classifier(model, size)
        features = split.backbone(images)

        assert split.layer == layer
        assert features.shape == (3, dim)
        assert torch.equal(split.classifier(features), logits)
        torch.testing.assert_close(features @ split.weight.T + split.bias, logits)


def test_looking_for_the_classifier_changes_nothing() -> None:
    model = build_model("resnet18", 3, 32).train()
    before = {name: each.clone() for name, each in model.state_dict().items()}

    find_classifier(model, 32)

    assert model.training
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())
    assert not any(part._forward_hooks for part in model.modules())


class Toy(nn.Module):
    def __init__(self, *, bias: bool = True, twist: str = "") -> None:
        super().__init__()
        self.first = nn.Linear(12, 5)
        self.unused = nn.Linear(12, 2)
        self.last = nn.Linear(5, 2, bias=bias)
        self.twist = twist

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.first(images.flatten(1)).relu()
        if self.twist == "wide":
            return self.last(hidden[:, None, :].expand(-1, 4, -1))
        logits = self.last(hidden)
        return logits * 2 if self.twist == "scaled" else logits


def test_names_are_not_guessed_and_a_missing_bias_is_zero() -> None:
    split = split_classifier(Toy(bias=False), 2)

    assert split.layer == "last"
    assert split.bias.tolist() == [0, 0]


def test_a_network_that_does_not_end_in_a_linear_layer_is_refused() -> None:
    with pytest.raises(InputError, match="Toy does not end in one linear layer"):
        split_classifier(Toy(twist="scaled"), 2)


def test_features_that_are_no_vectors_are_refused() -> None:
    with pytest.raises(InputError, match=r"cannot take 'last' off Toy: its input is no \(N, D\)"):
        split_classifier(Toy(twist="wide"), 2)


def test_two_averaged_heads_are_refused() -> None:
    model = build_model("deit_tiny_distilled_patch16_224", 3, 32)

    with pytest.raises(InputError, match="does not end in one linear layer"):
        find_classifier(model, 32)


def test_an_unknown_backbone_has_near_names() -> None:
    for call in (
        lambda: build_model("resnet81", 3, 32),
        lambda: input_spec("resnet81", None, None),
    ):
        with pytest.raises(InputError, match=r"unknown backbone 'resnet81'; .*resnet18"):
            call()


def test_weights_that_cannot_be_had_are_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("featbank.backbones.hub.FILES", ("no such file",))
    with pytest.raises(InputError, match="cannot fetch the weights of 'resnet18'") as caught:
        build_model("resnet18", 3, 32, pretrained=True)
    assert "\n" not in str(caught.value)
    for name in ("resnet200", "tiny-cnn"):
        with pytest.raises(InputError, match=f"'{name}' has no published weights; give a file"):
            build_model(name, 3, 32, pretrained=True)
    with pytest.raises(InputError, match=r"'resnet18\.none': Invalid pretrained tag"):
        input_spec("resnet18.none", None, None)


def test_a_size_that_the_network_cannot_take_is_refused() -> None:
    model = build_model("vit_tiny_patch16_224", 3, 8)

    with pytest.raises(InputError, match=r"cannot run VisionTransformer on images of 8 pixels: .+"):
        find_classifier(model, 8)


def test_the_input_follows_the_backbone_the_wish_and_the_data() -> None:
    assert input_spec("tiny-cnn", None, 8).size == 8
    assert input_spec("tiny-cnn", None, None).size == 32
    assert input_spec("tiny-cnn", 16, 8).size == 16
    resnet = input_spec("resnet18", None, 8)
    assert (resnet.size, resnet.crop, resnet.interpolation) == (224, 0.95, "bicubic")
    assert resnet.mean == (0.485, 0.456, 0.406)
    assert input_spec("resnet18", 64, None).size == 64


def test_initialisation_follows_the_seed_and_nothing_else() -> None:
    before = torch.get_rng_state()
    one = build_model("tiny-cnn", 3, 8, seed=1).state_dict()
    torch.rand(3)
    same, other = (build_model("tiny-cnn", 3, 8, seed=s).state_dict() for s in (1, 2))

    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])
    torch.set_rng_state(before)
    build_model("resnet18", 3, 32)
    assert torch.equal(torch.get_rng_state(), before)


def test_draws_are_named_and_independent() -> None:
    assert derive_seed(0, "a", 1) == 3805457466603685491  # on every machine, for ever
    assert derive_seed(0, "a", 1) != derive_seed(0, "a", 2)
    assert numpy_generator(3, "x").random() == numpy_generator(3, "x").random()
    assert torch_generator(3, "x").initial_seed() == torch_generator(3, "x").initial_seed()
    with isolated_torch(1):
        one = torch.rand(3)
    with isolated_torch(1):
        assert torch.equal(torch.rand(3), one)
    assert np.uint64(derive_seed(5, "b")) < 2**63


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "mps", "", "cuda:99"])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"device '{name}'"):
        resolve_device(name)


def test_auto_finds_a_device_and_cpu_is_the_cpu() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("name", "side", "classes", "millions", "dim"),
    [
        ("cifar-resnet32", 32, 10, 0.464154, 64),  # 0.46 M: He et al. (2016), table 6
        ("resnet10", 64, 1000, 5.418792, 512),
        ("resnext50_32x4d", 64, 1000, 25.028904, 2048),  # torchvision's
        ("resnet152", 64, 1000, 60.192808, 2048),  # torchvision's
        # n_in w + 9 w^2 / 32 + w n_out + norms for each block, with w = 128, 256, 512, 1024
        pytest.param("resnext152_32x4d", 64, 1000, 59.9514, 2048, marks=pytest.mark.slow),
    ],
)
def test_the_papers_networks_have_their_parameters_and_features(
    name: str, side: int, classes: int, millions: float, dim: int
) -> None:
    model = build_model(name, classes, side)

    assert sum(each.numel() for each in model.parameters()) == round(millions * 1e6)
    split = split_classifier(model, side)
    assert split.classifier.in_features == dim
    assert split.layer == "fc" == classifier_names(name)[0]
    assert feature_width(build_model(name, 0, side), side) == dim


def test_a_shortcut_of_option_a_subsamples_and_pads_with_zeros() -> None:
    model = build_model("cifar-resnet32", 10, 32).eval()
    block = model.layer2[0]
    for name, value in block.named_parameters():
        if "bn" in name or "conv" in name:
            value.data.zero_()
    x = torch.rand(1, 16, 8, 8)

    out = block(x)

    assert out.shape == (1, 32, 4, 4)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()
