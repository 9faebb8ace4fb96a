"""A model gives an image the scores that evaluating gave it, through every format."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

import featbank as fb
from featbank import Model
from featbank.errors import InputError
from featbank.serving.layers import as_linear, head_layer
from heads import NearestClassMean
from tests.test_serving.conftest import LINEAR, NORMALISING
from tests.test_serving.served import Kit, foreign, trained

FORMS = ("timm", "onnx", "pt2")


def close(found: np.ndarray, want: np.ndarray) -> None:
    """Compare to 1e-5, of the largest where numbers are larger than 1."""
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-5 * max(1, np.abs(want).max()))


def agrees(model: Model, kit: Kit, spec: str) -> None:
    """Compare with the bank and its head, at batch sizes that no program was traced at."""
    for size in (1, 5, 64):
        found = model.predict(kit.images, batch_size=size)
        assert found.labels == kit.labels(spec)
        close(model.predict_proba(kit.images, batch_size=size), kit.probabilities(spec))
        close(model.transform(kit.images, batch_size=size), kit.bank["test"].read())


@pytest.mark.parametrize("spec", ["joint", *LINEAR, *NORMALISING])
def test_a_run_and_a_head_label_as_evaluate_does(cnn: Kit, spec: str) -> None:
    model = Model.load(cnn.source, cnn.names[spec], device="cpu")
    agrees(model, cnn, spec)
    close(model.decision_function(cnn.images), cnn.scores(spec))
    evaluated = fb.evaluate(cnn.root.parent / "bank", cnn.names[spec])
    right = [
        label == Path(path).parent.name
        for label, path in zip(model.predict(cnn.images).labels, cnn.images, strict=True)
    ]
    assert np.mean(right) == pytest.approx(evaluated[0].metrics["micro"])


@pytest.mark.parametrize("spec", ["joint", *LINEAR, *NORMALISING])
def test_a_head_as_a_layer_gives_its_scores(cnn: Kit, two: Kit, spec: str) -> None:
    for kit in (cnn, two):
        if spec not in kit.names:
            continue
        features, head = torch.from_numpy(kit.bank["test"].read()), kit.head(spec)
        found = head_layer(head)(features)
        close((found / head.temperature).softmax(dim=1).numpy(), kit.probabilities(spec))
        close((found - found[:, :1]).numpy(), kit.scores(spec) - kit.scores(spec)[:, :1])
        linear = as_linear(head)
        assert (linear is None) == (spec in NORMALISING)
        if linear is not None:
            logits = features @ torch.from_numpy(linear[0]).T + torch.from_numpy(linear[1])
            close((logits / head.temperature).softmax(dim=1).numpy(), kit.probabilities(spec))


def test_nearest_means_keep_their_digits_far_from_the_origin() -> None:
    """||x||^2 is 1e6 here, and its rounding in float32 larger than what sets the classes apart."""
    rng = np.random.default_rng(0)
    features = 100 + rng.normal(size=(60, 100))
    head = NearestClassMean(transform="un").fit(features, np.arange(60) % 4)
    want = head.predict_proba(features)
    given = torch.from_numpy(features.astype(np.float32))
    close(head_layer(head)(given).softmax(dim=1).numpy(), want)
    weight, bias = map(torch.from_numpy, as_linear(head) or ())
    np.testing.assert_allclose((given @ weight.T + bias).softmax(dim=1), want, rtol=0, atol=1e-3)


SOME = ("lws", "ncm:transform=un")


@pytest.mark.parametrize(
    ("spec", "form"),
    [
        *((spec, "timm") for spec in LINEAR),
        *((spec, form) for spec in SOME for form in ("onnx", "pt2")),
        *(
            pytest.param(spec, form, marks=pytest.mark.slow)
            for spec in LINEAR
            if spec not in SOME
            for form in ("onnx", "pt2")
        ),
    ],
)
def test_a_linear_head_is_the_same_in_every_format(
    resnet: Kit, spec: str, form: str, tmp_path: Path
) -> None:
    model = Model.load(resnet.export(spec, form, tmp_path / "m"), device="cpu", trust=True)
    agrees(model, resnet, spec)
    if (
        not spec.startswith("ncm") or form != "timm"
    ):  # there scores lack ||x||^2, as for all classes
        close(model.decision_function(resnet.images), resnet.scores(spec))


@pytest.mark.parametrize("form", ["onnx", "pt2"])
@pytest.mark.parametrize("spec", ["joint", *NORMALISING])
def test_a_head_that_normalises_is_exported_as_a_program(
    cnn: Kit, spec: str, form: str, tmp_path: Path
) -> None:
    model = Model.load(cnn.export(spec, form, tmp_path / "m"), device="cpu", trust=True)
    agrees(model, cnn, spec)
    close(model.decision_function(cnn.images), cnn.scores(spec))


@pytest.mark.parametrize("spec", NORMALISING)
def test_timm_has_no_layer_for_a_head_that_normalises(
    resnet: Kit, spec: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="use --format onnx or pt2") as caught:
        resnet.export(spec, "timm", tmp_path / "m")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m").exists()


def test_timm_does_not_have_a_network_of_featbanks_own(cnn: Kit, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tiny-cnn is a network of featbank's own"):
        cnn.export("joint", "timm", tmp_path / "m")


@pytest.mark.slow
def test_a_network_with_two_classifiers_is_exported_as_a_program(tmp_path: Path) -> None:
    kit = foreign(tmp_path, "deit_tiny_distilled_patch16_224", ("crt",))
    with pytest.raises(InputError, match="does not end in one linear layer.* onnx or pt2"):
        kit.export("crt", "timm", tmp_path / "m")
    model = Model.load(kit.export("crt", "pt2", tmp_path / "m"), device="cpu", trust=True)
    agrees(model, kit, "crt")


@pytest.mark.parametrize("form", ["run", "onnx", "pt2"])
@pytest.mark.parametrize("spec", ["joint", "crt", "ncm"])
def test_two_classes_have_two_columns(two: Kit, spec: str, form: str, tmp_path: Path) -> None:
    if form == "run":
        model = Model.load(two.source, two.names[spec], device="cpu")
    else:
        model = Model.load(two.export(spec, form, tmp_path / "m"), device="cpu", trust=True)
    agrees(model, two, spec)
    assert model.decision_function(two.images).shape == (12, 2)


@pytest.mark.parametrize(
    ("backbone", "side"),
    [
        ("resnet10t", 32),
        pytest.param("vit_tiny_patch16_224", 32, marks=pytest.mark.slow),
        pytest.param("mobilenetv3_small_050", 64, marks=pytest.mark.slow),
    ],
)
def test_networks_of_several_kinds(tmp_path: Path, backbone: str, side: int) -> None:
    kit = foreign(tmp_path, backbone, ("crt", "ncm"), side)
    features = kit.bank["test"].read()
    assert np.ptp(features, axis=0).max() > 1e-2
    for form in FORMS:
        model = Model.load(kit.export("crt", form, tmp_path / form), device="cpu", trust=True)
        agrees(model, kit, "crt")
    model = Model.load(kit.export("ncm", "onnx", tmp_path / "ncm"), device="cpu")
    agrees(model, kit, "ncm")
    network = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    transform = create_transform(**resolve_model_data_config(network), is_training=False)
    seen = [transform(Image.open(path).convert("RGB")) for path in kit.images]
    with torch.inference_mode():
        close(network(torch.stack(seen)).numpy(), kit.scores("crt"))


def test_a_normalised_classifier_becomes_an_ordinary_one(tmp_path: Path) -> None:
    kit = trained(tmp_path, ("joint",), how=("--backbone", "test_resnet", "--loss", "ldam"))
    model = Model.load(kit.export("joint", "timm", tmp_path / "m"), device="cpu")
    agrees(model, kit, "joint")


def test_a_network_of_two_branches_takes_batches_of_any_size(tmp_path: Path) -> None:
    kit = trained(tmp_path, ("joint",), how=("--backbone", "test_resnet", "--method", "bbn"))
    with pytest.raises(InputError, match="is not built as timm builds it"):
        kit.export("joint", "timm", tmp_path / "m")
    model = Model.load(kit.export("joint", "pt2", tmp_path / "m"), device="cpu", trust=True)
    agrees(model, kit, "joint")
