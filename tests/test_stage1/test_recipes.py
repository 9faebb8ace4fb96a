"""The recipes that people compare: each trains on digits, resumes to the same bits, is banked."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featbank import Bank
from featbank.backbones.blocks import last_block, names_from_last_block, stage_names
from featbank.data import ImageData, open_data
from featbank.errors import InputError
from featbank.extraction.extract import extract
from featbank.runs.checkpoint import BEST, LAST, read_checkpoint
from featbank.runs.run_files import METRICS
from featbank.stage1.bbn import Bilateral, BilateralNetwork, cumulative_alpha
from featbank.stage1.config import TrainConfig
from featbank.stage1.criterion import Criterion
from featbank.stage1.losses import cross_entropy
from featbank.stage1.mixup import INPUT, Mixup, mixed_forward, mixing_places
from featbank.stage1.network import build_network, initial_network
from featbank.stage1.objective import Draws, make_objective, step_batches
from featbank.stage1.options import parse_choice
from featbank.stage1.session import Session
from tests.test_stage1.images import accuracies
from tests.test_stage1.test_train import SPEC, TINY, StopAfter, StopError, read_metrics, run

RECIPES: dict[str, dict[str, Any]] = {
    "sqrt": {"sampler": "sqrt"},
    "progressive": {"sampler": "progressive"},
    "reversed": {"sampler": "reversed"},
    "any q": {"sampler": "q=0.3"},
    "cb-ce": {"loss": "cb-ce:beta=0.99"},
    "focal": {"loss": "focal"},
    "cb-focal": {"loss": "cb-focal:form=softmax"},
    "ldam-drw": {"loss": "ldam", "defer": "drw:start=0.5"},
    "drs": {"defer": "drs:start=0.5"},
    "balanced-softmax": {"loss": "balanced-softmax"},
    "logit-adjusted": {"loss": "logit-adjusted", "label_smoothing": 0.1},
    "mixup": {"mixup": "input:alpha=1"},
    "mixup, partner": {"mixup": "input:partner=class"},
    "manifold": {"mixup": "manifold"},
    "manifold, partner": {"mixup": "manifold:partner=class"},
    "bbn": {"method": "bbn"},
}


@pytest.fixture(scope="module")
def digits() -> ImageData:
    """Digits-LT, imbalance 5, about 80 training images."""
    whole = open_data("digits-lt", {"imbalance": 5})
    train = whole.splits["train"]
    few = np.sort(np.random.default_rng(0).permutation(len(train))[:80])
    kept = replace(
        train,
        ids=[train.ids[i] for i in few],
        labels=train.labels[few],
        images=Some(train.images, few),
    )
    return replace(whole, splits={"train": kept, "val": whole.splits["val"]})


class Some:
    """Some of the images of a split."""

    def __init__(self, images: Any, rows: Any) -> None:
        self.images, self.rows = images, rows

    def raw(self, i: int) -> bytes:
        return bytes(self.images.raw(self.rows[i]))

    def decode(self, i: int, raw: bytes) -> Any:
        return self.images.decode(self.rows[i], raw)

    def n_bytes(self, i: int) -> int:
        return int(self.images.n_bytes(self.rows[i]))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_learns_and_resumes_to_the_same_bits(
    digits: ImageData, tmp_path: Path, name: str
) -> None:
    config = replace(TINY, epochs=4, **RECIPES[name])
    run(digits, config, tmp_path / "whole")
    with pytest.raises(StopError):
        run(digits, config, tmp_path / "parts", reporter=StopAfter(1))

    run(digits, config, tmp_path / "parts", resume=True)

    for file in (LAST, BEST, METRICS):
        whole, parts = (tmp_path / folder / file for folder in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes(), file
    scores = [float(row["val_all"]) for row in read_metrics(tmp_path / "whole")]
    assert max(scores) > 0.12  # one in ten is chance, and these are 20 steps


@pytest.mark.parametrize("settings", [{"method": "bbn"}, {"mixup": "manifold:partner=class"}])
def test_a_recipe_of_pairs_resumes_within_an_epoch(
    digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    config = replace(TINY, epochs=2, checkpoint_every="1", **settings)
    run(digits, config, tmp_path / "whole")
    original, taken = Session.train_step, []

    def stopping(self: Session, *args: Any) -> Tensor:
        taken.append(args)
        if len(taken) == 8:
            raise StopError
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "train_step", stopping)
        with pytest.raises(StopError):
            run(digits, config, tmp_path / "parts")
    record = read_checkpoint(tmp_path / "parts" / LAST).record
    assert (record["epoch"], record["step"]) == (1, 2)
    # A mean over draws, not over images: about ln 10 before anything is learnt.
    assert 1.5 < record["history"][0]["train_loss"] < 3

    run(digits, config, tmp_path / "parts", resume=True)

    assert (tmp_path / "whole" / LAST).read_bytes() == (tmp_path / "parts" / LAST).read_bytes()


def test_an_epoch_has_one_length_whatever_the_sampler_and_says_so(
    digits: ImageData, tmp_path: Path
) -> None:
    for settings, words in (
        ({"sampler": "class"}, "3 epochs of 80 images in 5 steps; sampler class, loss ce,"),
        ({"method": "bbn"}, "3 epochs of 80 pairs of images in 5 steps; "),
    ):
        reporter = StopAfter(1)
        with pytest.raises(StopError):
            run(
                digits,
                replace(TINY, **settings),
                tmp_path / words[:8],
                reporter=reporter,
                overwrite=True,
            )
        assert any(line.startswith(words) for line in reporter.lines), reporter.lines


def test_pairs_lie_half_beside_half_and_share_no_draws() -> None:
    one, other = np.arange(11), np.arange(11) + 100
    batches = step_batches((one, other), 3, 4)

    assert [[key.row for key in batch] for batch in batches[:2]] == [
        [0, 1, 2, 3, 100, 101, 102, 103],
        [4, 5, 6, 7, 104, 105, 106, 107],
    ]
    keys = [key for batch in batches for key in batch]
    assert sorted(key.position for key in keys) == list(range(22))
    assert {key.epoch for key in keys} == {3}


def test_deferred_resampling_draws_by_instance_and_then_by_class(digits: ImageData) -> None:
    labels = np.repeat(np.arange(3), [900, 90, 9])
    draws = Draws(labels, "instance", seed=1, epochs=10, balanced_from=8)

    assert sorted(draws.rows(7)) == list(range(999))
    balanced = np.bincount(labels[draws.rows(8)])
    assert (abs(balanced - 333) < 5 * math.sqrt(333)).all()
    config = TrainConfig(epochs=10, defer="drs:start=0.75")
    objective: Any = make_objective(config, digits, nn.Identity(), torch.device("cpu"))
    assert objective.draws.balanced_from == 8


# Mixup


def test_a_partner_of_the_same_sampler_is_another_image(digits: ImageData) -> None:
    config = replace(TINY, mixup="input:partner=instance")
    objective = make_objective(config, digits, nn.Identity(), torch.device("cpu"))
    ours, theirs = objective.orders(1)

    assert sorted(ours) == sorted(theirs) == list(range(80))
    assert (ours == theirs).sum() < 10


class Linear(nn.Module):
    """Two linear stages, so that mixing anywhere is the same."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(nn.Linear(5, 5) for _ in range(4)))
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(x))
        return logits


@pytest.mark.parametrize("partner", [None, "class"])
@pytest.mark.parametrize("place", [INPUT, "blocks.0", "blocks.1"])
def test_mixup_is_the_mixed_loss_of_mixed_states(place: str, partner: str | None) -> None:
    model, labels = Linear(), torch.arange(8) % 3
    x, model = torch.randn(8, 5), model.requires_grad_(False)
    all_labels = np.arange(8) % 3
    draws = Draws(all_labels, "instance", 5, 4)
    second = None if partner is None else Draws(all_labels, partner, 6, 4)
    mixup = Mixup(draws, Criterion(cross_entropy), model, 0.7, [place], second)

    got = mixup.loss(model, x, labels, 2, 1)

    from featbank.runtime.rng import numpy_generator

    generator = numpy_generator(5, "mixup", 2, 1)
    weight = generator.beta(0.7, 0.7)
    generator.integers(1)
    ours, theirs = list(range(8)), generator.permutation(8).tolist()
    if partner:
        ours, theirs = list(range(4)), list(range(4, 8))
    total = 0.0
    for i, j in zip(ours, theirs, strict=True):
        logits = model(weight * x[i] + (1 - weight) * x[j])
        log_p = logits.log_softmax(0)
        total -= weight * float(log_p[labels[i]]) + (1 - weight) * float(log_p[labels[j]])
    assert got.item() == pytest.approx(total / len(ours), rel=1e-5)
    assert not any(part._forward_hooks for part in model.modules())
    assert len(mixup.orders(0)) == (1 if partner is None else 2)


def test_mixing_a_hidden_state_is_not_mixing_the_input_of_a_network_that_is_not_linear() -> None:
    model = build_network(TrainConfig(backbone="tiny-cnn"), 10, 8).eval()
    images = torch.randn(6, 3, 8, 8)

    def halves(states: Tensor) -> Tensor:
        return 0.5 * (states + states.flip(0))

    places = mixing_places(model)
    outputs = [mixed_forward(model, model, place, images, halves) for place in places]

    assert places == ["", "stages.0", "stages.1"]
    assert all(output.shape == (6, 10) for output in outputs)
    assert not torch.allclose(outputs[0], outputs[1])
    assert not torch.allclose(outputs[1], outputs[2])
    for output in outputs:  # mixed with its mirror image, a batch is its own mirror image
        torch.testing.assert_close(output, output.flip(0))


def test_the_draws_of_mixup_follow_seed_epoch_and_step(digits: ImageData) -> None:
    config = replace(TINY, mixup="manifold")
    model = build_network(config, 10, 8).eval()
    images, labels = torch.randn(6, 3, 8, 8), torch.arange(6)

    def loss(seed: int, epoch: int, step: int) -> float:
        objective = make_objective(replace(config, seed=seed), digits, model, torch.device("cpu"))
        return objective.loss(model, images, labels, epoch, step).item()

    first = loss(0, 1, 2)
    torch.rand(3)
    assert loss(0, 1, 2) == first
    assert len({first, loss(0, 1, 3), loss(0, 2, 2), loss(1, 1, 2)}) == 4


# BBN


def test_alpha_falls_along_the_parabola() -> None:
    assert [cumulative_alpha(t, 4) for t in range(4)] == [1, 15 / 16, 3 / 4, 7 / 16]


def bilateral(backbone: str = "tiny-cnn", size: int = 8) -> BilateralNetwork:
    model = build_network(TrainConfig(backbone=backbone, method="bbn"), 10, size)
    assert isinstance(model, BilateralNetwork)
    return model.eval()


@pytest.mark.parametrize(
    ("backbone", "size", "block"),
    [
        ("tiny-cnn", 8, "stages.4"),
        ("cifar-resnet32", 32, "layer3.4"),
        ("resnet18", 64, "layer4.1"),
        ("convnext_atto", 64, "stages.3.blocks.1"),
        ("vit_tiny_patch16_224", 32, "blocks.11"),
    ],
)
def test_the_branches_share_all_but_their_last_block(backbone: str, size: int, block: str) -> None:
    model = bilateral(backbone, size)
    assert model.block == block
    images, others = torch.randn(2, 3, size, size), torch.randn(2, 3, size, size)
    with torch.no_grad():
        plain, first = model(images), model(images, others, 1.0)
        last, mixed = model(images, others, 0.0), model(images, others, 0.5)
        swapped = model(others, images, 0.0)
        features = torch.cat(
            (model._features(images, "conventional"), model._features(images, "rebalancing")), dim=1
        )
    torch.testing.assert_close(plain, model.classifier(features))
    torch.testing.assert_close(model(images, images, 0.5), plain)
    torch.testing.assert_close(first, model(images, images, 1.0))  # only the first image counts
    torch.testing.assert_close(last, model(others, others, 0.0))
    bias: Any = model.classifier.bias
    sum_of_both = (first + last - 2 * bias) / 2
    torch.testing.assert_close(mixed - bias, sum_of_both, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(first, swapped)  # two blocks, drawn apart
    shared = [name for name, _ in model.named_parameters() if "rebalancing" not in name]
    doubled = [name for name, _ in model.named_parameters() if "rebalancing" in name]
    assert all(f".{block}.rebalancing." in name for name in doubled)
    assert len(doubled) == sum(f"{block}.conventional" in name for name in shared)


def test_bbn_takes_the_step_of_its_equations(digits: ImageData) -> None:
    config = replace(TINY, method="bbn", epochs=4)
    objective = make_objective(config, digits, nn.Identity(), torch.device("cpu"))
    assert isinstance(objective, Bilateral)
    model = bilateral()
    images, labels = torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 3, 4, 5])

    got = objective.loss(model, images, labels, 2, 0)

    alpha, total = 1 - (2 / 4) ** 2, 0.0
    weight, bias = model.classifier.weight.double(), model.classifier.bias.double()  # type: ignore[union-attr,operator]
    conventional = model._features(images[:3], "conventional").double()
    rebalancing = model._features(images[3:], "rebalancing").double()
    for i in range(3):
        z = [
            (
                2 * alpha * weight[c, :64] @ conventional[i]
                + 2 * (1 - alpha) * weight[c, 64:] @ rebalancing[i]
                + bias[c]
            ).item()
            for c in range(10)
        ]
        log_sum = math.log(sum(math.exp(each) for each in z))
        total += alpha * (log_sum - z[labels[i]]) + (1 - alpha) * (log_sum - z[labels[i + 3]])
    assert got.item() == pytest.approx(total / 3, rel=1e-5)


def test_bbn_draws_one_branch_by_instance_and_the_other_reversed(digits: ImageData) -> None:
    labels = digits.splits["train"].labels
    objective = make_objective(
        replace(TINY, method="bbn"), digits, nn.Identity(), torch.device("cpu")
    )
    drawn = [objective.orders(epoch) for epoch in range(40)]

    assert all(sorted(uniform) == list(range(80)) for uniform, _ in drawn)
    counts = np.bincount(labels, minlength=10)
    share = np.bincount(labels[np.concatenate([rev for _, rev in drawn])], minlength=10) / 3200
    want = (1 / counts) / (1 / counts).sum()
    np.testing.assert_allclose(share, want, atol=4 * math.sqrt(0.25 / 3200))


@pytest.mark.parametrize("settings", [{"method": "bbn"}, {"loss": "ldam"}], ids=["bbn", "ldam"])
def test_the_banked_classifier_is_the_trained_networks(
    digits: ImageData, tmp_path: Path, settings: Any
) -> None:
    config = replace(TINY, **settings)
    run(digits, config, tmp_path / "run")
    extract(tmp_path / "run", tmp_path / "bank", data=digits, dtype="float32", device="cpu")
    bank = Bank.open(tmp_path / "bank")
    found = bank.classifier
    assert found is not None
    weight, bias = found
    features = bank["val"].read("float32")
    assert features.shape == (240, 128 if settings.get("method") == "bbn" else 64)

    predicted = (features @ weight.T + bias).argmax(axis=1)
    best = read_checkpoint(tmp_path / "run" / BEST).record["best"]["val"]["all"]
    labels = digits.splits["val"].labels
    assert accuracies(labels, predicted, digits.counts)["all"] == pytest.approx(best)


# Retraining


@pytest.fixture(scope="module")
def plain(digits: ImageData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plain") / "run"
    run(digits, TINY, out)
    return out


RETRAINING = replace(TINY, epochs=2, warmup_epochs=0, sampler="class", seed=1)


@pytest.mark.parametrize(
    ("part", "shift", "moved"),
    [
        ("classifier", False, ("classifier.",)),
        ("classifier", True, ("classifier.", "running_", "num_batches")),
        ("last-block", False, ("classifier.", "stages.4.")),
        ("all", False, ("",)),
    ],
)
def test_retraining_moves_what_it_names_and_nothing_else(
    digits: ImageData, tmp_path: Path, plain: Path, part: str, shift: bool, moved: tuple[str, ...]
) -> None:
    config = replace(RETRAINING, init=str(plain), retrain=part, shift_bn=shift)
    run(digits, config, tmp_path / "run")

    before, after = (
        read_checkpoint(plain / BEST).model,
        read_checkpoint(tmp_path / "run" / LAST).model,
    )
    for name, value in after.items():
        expected = any(
            word in name if word.endswith("_") or "num" in word else name.startswith(word)
            for word in moved
        )
        assert torch.equal(value, before[name]) != expected, name


def test_the_classifier_starts_fresh_and_the_backbone_as_it_was(
    digits: ImageData, plain: Path
) -> None:
    from featbank.runtime.progress import SILENT
    from featbank.stage1.retraining import read_init

    config = replace(RETRAINING, init=str(plain), retrain="all")
    init = read_init(plain)
    model, layer = initial_network(config, 10, 8, None, init, SILENT)

    fresh = build_network(config, 10, 8).state_dict()
    for name, value in model.state_dict().items():
        source = fresh if name.startswith(layer) else init.model
        assert torch.equal(value, source[name]), name


def test_a_retrained_bank_says_what_it_began_from_and_not_where_that_lies(
    digits: ImageData, tmp_path: Path, plain: Path
) -> None:
    moved = shutil.copytree(plain, tmp_path / "moved")
    records = []
    for name, init in (("one", plain), ("two", moved)):
        config = replace(RETRAINING, init=str(init), retrain="classifier", epochs=1)
        run(digits, config, tmp_path / name)
        extract(tmp_path / name, tmp_path / f"{name}.zarr", data=digits, device="cpu")
        records.append(Bank.open(tmp_path / f"{name}.zarr").provenance)

    assert records[0] == records[1]
    recipe = records[0]["recipe"]
    assert recipe["seed"] == RETRAINING.seed
    assert recipe["init"]["sampler"] == "instance"
    assert "seed" not in recipe["init"]
    assert str(tmp_path) not in str(records)


def test_the_backbones_rate_is_the_scaled_one(
    digits: ImageData, plain: Path, tmp_path: Path
) -> None:
    from featbank.stage1.optim import make_optimizer, set_rate

    model = build_network(TINY, 10, 8)
    before = {name: value.clone() for name, value in model.named_parameters()}
    for optimizer, decay in (("sgd", 0.0), ("adamw", 0.0)):
        config = replace(TINY, optimizer=optimizer, weight_decay=decay, backbone_lr_scale=0.1)
        made = make_optimizer(model, config, "classifier")
        for name, each in model.named_parameters():
            each.grad = torch.ones_like(each)
            each.data.copy_(before[name])
        set_rate(made, 0.5)
        made.step()
        for name, each in model.named_parameters():
            step = 0.5 if name.startswith("classifier") else 0.05
            torch.testing.assert_close(each.data, before[name] - step, rtol=0, atol=1e-5)
    config = replace(RETRAINING, init=str(plain), retrain="all", backbone_lr_scale=0.1)
    run(digits, config, tmp_path / "whole")
    assert float(read_metrics(tmp_path / "whole")[0]["lr"]) > 0.01
    with pytest.raises(StopError):
        run(digits, config, tmp_path / "parts", reporter=StopAfter(1))
    run(digits, config, tmp_path / "parts", resume=True)
    assert (tmp_path / "whole" / LAST).read_bytes() == (tmp_path / "parts" / LAST).read_bytes()


@pytest.mark.parametrize(
    ("backbone", "stages", "block", "last"),
    [
        ("resnet18", 4, "layer4.1", "fc.bias"),
        ("resnext50_32x4d", 4, "layer4.2", "fc.bias"),
        ("cifar-resnet32", 3, "layer3.4", "fc.bias"),
        ("efficientnet_b0", 7, "blocks.6.0", "classifier.bias"),
        ("convnext_atto", 4, "stages.3.blocks.1", "head.fc.bias"),
        ("swin_tiny_patch4_window7_224", 4, "layers.3.blocks.1", "head.fc.bias"),
        ("vit_tiny_patch16_224", 12, "blocks.11", "head.bias"),
    ],
)
def test_the_last_block_is_found_by_name(backbone: str, stages: int, block: str, last: str) -> None:
    from featbank.backbones.backbones import build_model

    model = build_model(backbone, 3, 224)
    names = names_from_last_block(model)

    assert len(stage_names(model)) == stages
    assert last_block(model) == block
    assert names[0].startswith(f"{block}.")
    assert names[-1] == last
    trunk = dict(model.named_parameters()).keys() - set(names)
    assert not any(name.startswith(f"{block}.") for name in trunk)


def test_a_network_of_unknown_blocks_is_refused() -> None:
    with pytest.raises(InputError, match="cannot tell the blocks of Identity"):
        stage_names(nn.Identity())


def test_retraining_another_network_or_a_bilateral_one_is_refused(
    digits: ImageData, plain: Path, tmp_path: Path
) -> None:
    config = replace(RETRAINING, init=str(plain), retrain="all")
    with pytest.raises(InputError, match=r"another one: \d+ tensors differ.*--backbone"):
        run(digits, replace(config, backbone="cifar-resnet32", image_size=8), tmp_path / "a")
    run(digits, replace(TINY, method="bbn", epochs=2), tmp_path / "bbn")
    with pytest.raises(InputError, match="two branches .--method bbn.; give a plain one"):
        run(digits, replace(config, init=str(tmp_path / "bbn")), tmp_path / "b")


# What excludes what


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"loss": "cb-ce", "sampler": "class"}, "--sampler class and --loss cb-ce each balance"),
        ({"loss": "balanced-softmax", "defer": "drw"}, "do it twice: keep one"),
        ({"sampler": "sqrt", "defer": "drs"}, "--sampler sqrt and --defer drs"),
        ({"defer": "drw", "mixup": "input:partner=class"}, "--defer drw and --mixup with partner"),
        ({"defer": "drs", "epochs": 2}, "would begin after the last of 2 epochs"),
        ({"loss": "cb-ce", "mixup": "input:partner=class"}, "use partner=batch"),
        ({"loss": "focal", "label_smoothing": 0.1}, "has no meaning in --loss focal"),
        ({"mixup": "manifold", "compile": True}, "--compile does not see the hooks"),
        ({"method": "bbn", "loss": "ldam"}, "goes with --loss ce, not ldam"),
        ({"method": "bbn", "sampler": "class"}, "goes with --sampler instance, not class"),
        ({"method": "bbn", "mixup": "input"}, "goes with --mixup none, not input"),
        ({"retrain": "all"}, "--retrain all needs --init RUN"),
        ({"init": "run"}, "--init needs --retrain classifier|last-block|all"),
        ({"init": "run", "retrain": "all", "pretrained": True}, "--init brings the weights"),
        (
            {"init": "run", "retrain": "classifier", "backbone_lr_scale": 0.1},
            "nothing to scale with --retrain classifier",
        ),
        ({"init": "run", "retrain": "all", "shift_bn": True}, "--shift-bn is for the frozen"),
        ({"backbone_lr_scale": 0.0}, "backbone_lr_scale must be a finite number above 0"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\)"),
        ({"loss": "focal:gamma=-1"}, "gamma of focal must be 0 or more; got -1"),
        ({"loss": "focal:form=tanh"}, "unknown form of focal loss 'tanh'"),
        ({"loss": "cb-ce:beta=2"}, r"beta of cb-ce must be in \[0, 1\]; got 2"),
        ({"loss": "ldam:scale=0"}, "scale of ldam must be above 0"),
        ({"loss": "logit-adjusted:tau=nan"}, "tau of logit-adjusted must be finite; got nan"),
        ({"defer": "drw:start=1.5"}, "start of drw must be a share of the epochs"),
        ({"mixup": "input:alpha=0"}, "alpha of input must be above 0"),
        ({"mixup": "input:partner=clas"}, "unknown sampler 'clas'; did you mean class"),
        ({"mixup": "inputs"}, "unknown mixup 'inputs'; did you mean input"),
        ({"method": "bbm"}, "unknown method 'bbm'; did you mean bbn"),
        ({"retrain": "clasifier"}, "unknown part to retrain 'clasifier'; did you mean class"),
    ],
)
def test_choices_that_exclude_each_other_are_refused_in_one_line(
    bad: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        TrainConfig(**bad)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ldam:gamma=2", "unknown parameter of loss ldam 'gamma'"),
        ("ldam:margin=wide", "loss 'ldam:margin=wide': 'margin=wide' is not a number"),
        ("ldam:margin", "loss 'ldam:margin': 'margin' is not key=value"),
        ("ce:gamma=2", "loss 'ce:gamma=2': 'gamma=2' is a parameter, and it has none"),
    ],
)
def test_a_choices_parameters_are_checked_by_name(text: str, reason: str) -> None:
    known = {"ce": {}, "ldam": {"margin": 0.5, "scale": 30.0}}
    with pytest.raises(InputError, match=reason):
        parse_choice("loss", text, known)
    assert parse_choice("loss", "ldam:scale=10", known).params == {"margin": 0.5, "scale": 10.0}


def test_the_settings_of_a_recipe_are_in_its_record_and_a_change_is_refused(
    digits: ImageData, tmp_path: Path
) -> None:
    config = replace(TINY, loss="ldam:scale=20", defer="drw:start=0.5", mixup="input:alpha=0.4")
    assert TrainConfig.from_json(config.to_json()) == config
    with pytest.raises(StopError):
        run(digits, config, tmp_path / "run", reporter=StopAfter(1))

    from featbank.errors import StaleError

    changed = replace(config, loss="ldam:scale=30")
    with pytest.raises(
        StaleError, match=r'config.loss was "ldam:scale=20" and is now "ldam:scale=30"'
    ):
        run(digits, changed, tmp_path / "run", resume=True)
    assert SPEC["name"] == "digits-lt"
