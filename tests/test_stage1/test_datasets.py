"""CIFAR-LT, image folders, named lists and torch data sets, from files in their true formats."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch.utils.data import TensorDataset

from cli.main import main
from featbank import Bank
from featbank.data import from_datasets, open_data
from featbank.data.formats.published import PUBLISHED, check_published
from featbank.data.provenance import data_record
from featbank.errors import InputError, MissingFileError
from featbank.extraction.extract import extract
from featbank.stage1.config import TrainConfig
from featbank.stage1.train import train
from tests.test_stage1.cifar_files import text, write_cifar10, write_cifar100
from tests.test_stage1.images import accuracies, write_data, write_image


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cifar")


@pytest.fixture(scope="module")
def cifar(root: Path) -> dict[str, np.ndarray]:
    return write_cifar10(root, per_class=20, test_per_class=4)


def opened(root: Path, name: str = "cifar10-lt", **params: Any) -> Any:
    return open_data(name, {"root": str(root), "verify": "no", **params})


def test_cifars_files_give_their_images_labels_and_names(
    root: Path, cifar: dict[str, np.ndarray]
) -> None:
    data = opened(root, imbalance=1)

    assert data.class_names[:2] == ["class 0", "class 1"]
    assert sorted(data.splits) == ["test", "train"]
    train = data.splits["train"]
    assert train.labels.tolist() == cifar["labels"].tolist()
    for i in (0, 57, 199):
        want = cifar["train"][i].reshape(3, 32, 32).transpose(1, 2, 0)
        np.testing.assert_array_equal(np.asarray(train.load(i)), want)
    test = data.splits["test"]
    want = cifar["test"][39].reshape(3, 32, 32).transpose(1, 2, 0)
    np.testing.assert_array_equal(np.asarray(test.load(39)), want)
    assert test.ids[39] == "test/39"
    assert data.native_size == 32


@pytest.mark.parametrize(
    ("params", "counts"),
    [
        ({"imbalance": 10}, [20, 15, 11, 9, 7, 5, 4, 3, 2, 2]),
        ({"imbalance": 10, "profile": "step"}, [20] * 5 + [2] * 5),
        ({"imbalance": 2.5}, [20, 18, 16, 14, 13, 12, 10, 9, 8, 8]),
        ({"imbalance": 10, "val": 10, "val_from": "train"}, [10, 7, 5, 4, 3, 2, 2, 1, 1, 1]),
    ],
)
def test_the_tail_is_cut_by_profile_and_imbalance(
    root: Path, cifar: dict[str, np.ndarray], params: dict[str, Any], counts: list[int]
) -> None:
    data = opened(root, **params)
    assert data.counts.tolist() == counts
    assert data_record(data)["settings"] == {
        "imbalance": params["imbalance"],
        "profile": params.get("profile", "exponential"),
        "seed": 0,
        "val": params.get("val", 0),
        "val_from": params.get("val_from"),
    }


def test_val_comes_from_where_it_is_said_to_and_from_nowhere_else(
    root: Path, cifar: dict[str, np.ndarray]
) -> None:
    with pytest.raises(InputError, match="val=3 images of each class need val_from=train .*=test"):
        opened(root, val=3)
    whole = opened(root, imbalance=10)

    taken = opened(root, imbalance=10, val=3, val_from="train")
    assert {i.split("/")[0] for i in taken.splits["val"].ids} == {"train"}
    assert not set(taken.splits["val"].ids) & set(taken.splits["train"].ids)
    assert list(taken.splits["test"].ids) == list(whole.splits["test"].ids)
    assert np.bincount(taken.splits["val"].labels).tolist() == [3] * 10
    row = int(taken.splits["val"].ids[5].split("/")[1])
    want = cifar["train"][row].reshape(3, 32, 32).transpose(1, 2, 0)
    np.testing.assert_array_equal(np.asarray(taken.splits["val"].load(5)), want)

    cut = opened(root, imbalance=10, val=1, val_from="test")
    assert list(cut.splits["train"].ids) == list(whole.splits["train"].ids)
    both = [*cut.splits["val"].ids, *cut.splits["test"].ids]
    assert sorted(both) == sorted(whole.splits["test"].ids)
    assert np.bincount(cut.splits["test"].labels).tolist() == [3] * 10
    for source, val in (("train", 20), ("test", 4)):
        with pytest.raises(InputError, match=f"leaves a class without images in {source}"):
            opened(root, val=val, val_from=source)


def test_the_subset_follows_the_seed_and_a_longer_tail_holds_a_shorter_one(
    root: Path, cifar: dict[str, np.ndarray]
) -> None:
    ids = {s: list(opened(root, imbalance=10, seed=s).splits["train"].ids) for s in (0, 1)}
    assert ids[0] != ids[1]
    assert ids[0] == list(opened(root, imbalance=10).splits["train"].ids)
    assert set(opened(root, imbalance=20).splits["train"].ids) < set(ids[0])


def test_cifar_100_uses_its_fine_labels(tmp_path: Path) -> None:
    write_cifar100(tmp_path, per_class=4, test_per_class=1)
    data = opened(tmp_path / "cifar-100-python", "cifar100-lt", imbalance=4)
    assert data.class_names[99] == "fine 99"
    assert data.counts[[0, 50, 99]].tolist() == [4, 1, 1]
    assert len(data.splits["test"]) == 100


def test_cifar_that_is_missing_damaged_or_hostile_is_refused(
    root: Path, cifar: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        MissingFileError, match=r"download https.*cifar-100-python\.tar\.gz and tar"
    ):
        opened(tmp_path, "cifar100-lt")
    (tmp_path / "cifar-10-python.tar.gz").touch()
    with pytest.raises(MissingFileError, match=r"': tar -xzf cifar-10-python\.tar\.gz there, so"):
        opened(tmp_path)
    with pytest.raises(InputError, match="not the published file .*unpack the archive again, or"):
        open_data("cifar10-lt", {"root": str(root)})

    write_cifar10(tmp_path, 2, 1)
    file = tmp_path / "cifar-10-batches-py/data_batch_3"
    good = file.read_bytes()
    file.write_bytes(b"\x80\x02cos\nsystem\n(" + text("touch ran") + b"tR.")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"data_batch_3 is a pickle of more than arrays \(os\.sys"):
        opened(tmp_path)
    assert not (tmp_path / "ran").exists()
    for bad, message in (
        (good[: len(good) // 2], "is no pickle of numpy arrays"),
        (good.replace(b"labels", b"lapels"), "is no file of cifar10"),
    ):
        file.write_bytes(bad)
        with pytest.raises(InputError, match=message):
            opened(tmp_path)
    file.unlink()
    with pytest.raises(MissingFileError, match="data_batch_3 does not exist; unpack"):
        opened(tmp_path)


def write_folders(root: Path) -> None:
    rng = np.random.default_rng(0)
    for split, counts in {"train": [6, 4, 2], "val": [2, 2, 2], "test": [3, 0, 3]}.items():
        for label, name in enumerate(("cat", "dog", "owl")):
            for i in range(counts[label]):
                write_image(root / split / name / f"{i}.{'JPG' if i else 'png'}", label, rng)
    (root / "train/cat/Thumbs.db").write_bytes(b"no image")
    (root / "train/.git").mkdir()


def test_image_folders_are_splits_of_class_folders(tmp_path: Path) -> None:
    write_folders(tmp_path)
    data = open_data("imagefolder", {"root": str(tmp_path)})

    assert data.class_names == ["cat", "dog", "owl"]
    assert data.counts.tolist() == [6, 4, 2]
    assert list(data.splits["test"].ids) == [
        f"test/{name}/{file}" for name in ("cat", "owl") for file in ("0.png", "1.JPG", "2.JPG")
    ]
    assert data.splits["test"].labels.tolist() == [0, 0, 0, 2, 2, 2]
    assert data.splits["train"].load(0).size == (28, 24)


def test_image_folders_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="lay images out as .*/train/CLASS/IMAGE"):
        open_data("imagefolder", {"root": str(tmp_path)})
    write_folders(tmp_path)
    with pytest.raises(MissingFileError, match="no folder '.*/validation'"):
        open_data("imagefolder", {"root": str(tmp_path), "val": "validation"})
    (tmp_path / "val/emu").mkdir()
    with pytest.raises(InputError, match="train has no class 'emu'"):
        open_data("imagefolder", {"root": str(tmp_path)})
    (tmp_path / "val/emu").rmdir()
    (tmp_path / "train/fox").mkdir()
    with pytest.raises(InputError, match=r"no training images for class 2 \('fox'\)"):
        open_data("imagefolder", {"root": str(tmp_path)})


@pytest.mark.parametrize("name", PUBLISHED)
def test_lists_of_a_published_name_must_have_its_sizes(name: str) -> None:
    known = PUBLISHED[name]
    check_published(name, known.classes, known.sizes)
    with pytest.raises(InputError, match=f"{name} has {known.classes:,} classes; these lists"):
        check_published(name, known.classes - 1, known.sizes)
    for split, size in known.sizes.items():
        with pytest.raises(InputError, match=f"the {split} list of {name} has {size:,} images"):
            check_published(name, known.classes, {split: size - 1})


def test_a_name_is_checked_when_lists_are_opened(tmp_path: Path) -> None:
    params = write_data(tmp_path, {"train": [2, 1, 1]})
    with pytest.raises(InputError, match="places-lt has 365 classes; these lists have 3"):
        open_data("imagelist", {**params, "name": "places-lt"})
    with pytest.raises(InputError, match="did you mean inat2018"):
        open_data("imagelist", {**params, "name": "inat201"})
    with pytest.raises(MissingFileError, match="is not a folder.*classifier-balancing"):
        open_data("imagelist", {**params, "name": "imagenet-lt", "root": "nowhere"})


class Coloured:
    """A torch data set as users write them: PIL images of any size, labels in `targets`."""

    classes = ("red", "blue")

    def __init__(self, labels: list[int], first: int = 0) -> None:
        self.targets, self.first = labels, first

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        shade = self.first + i
        colour = ((200, 30, shade), (30, shade, 200))[self.targets[i]]
        return Image.new("RGB", (20 + i, 16), colour), self.targets[i]


def test_any_torch_data_set_trains_and_extracts(tmp_path: Path) -> None:
    data = from_datasets("mine", {"train": Coloured([0, 0, 0, 1]), "test": Coloured([0, 1], 9)})
    assert data.class_names == ["red", "blue"]
    assert data.counts.tolist() == [3, 1]
    assert data.splits["train"].load(3).size == (23, 16)
    config = TrainConfig(backbone="tiny-cnn", epochs=1, batch_size=2, image_size=16)

    train(data, {}, config, tmp_path / "run", device="cpu", metrics=accuracies)
    with pytest.raises(InputError, match="images came from Python, .* give data again"):
        extract(tmp_path / "run", tmp_path / "bank", device="cpu")
    again = {"data": data, "device": "cpu"}
    extract(tmp_path / "run", tmp_path / "bank", **again)

    assert len(Bank.open(tmp_path / "bank")["test"]) == 2
    assert extract(tmp_path / "run", tmp_path / "bank", **again).up_to_date


def test_tensors_of_pixels_are_images_and_tensors_of_floats_are_not() -> None:
    pixels = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).reshape(2, 3, 4, 5)
    labels = torch.tensor([0, 1])
    data = from_datasets("t", {"train": TensorDataset(pixels, labels)})
    want = pixels[1].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(np.asarray(data.splits["train"].load(1)), want)
    assert data.class_names == ["0", "1"]

    floats = from_datasets("t", {"train": TensorDataset(pixels / 255, labels)})
    with pytest.raises(InputError, match="item 1 of train is float32 .* without its transform"):
        floats.splits["train"].load(1)
    with pytest.raises(InputError, match="split 'train' has 2 images and labels int64 of shape"):
        from_datasets("t", {"train": TensorDataset(pixels, labels)}, labels={"train": [1]})


@pytest.mark.parametrize("kind", ["cifar10-lt", "imagefolder"])
def test_a_data_set_trains_extracts_and_fits_end_to_end(
    root: Path, cifar: dict[str, np.ndarray], tmp_path: Path, kind: str
) -> None:
    if kind == "imagefolder":
        write_folders(tmp_path / "images")
        spec, backbone = f"imagefolder:root={tmp_path / 'images'}", "tiny-cnn"
    else:
        spec = f"cifar10-lt:root={root},imbalance=10,val=2,val_from=train,verify=no"
        backbone = "cifar-resnet32"
    size = [] if kind == "cifar10-lt" else ["--image-size", "16"]
    start = ["train", "--data", spec, "--backbone", backbone, *size, "--batch-size", 16]
    for line in (
        [*start, "--epochs", 1, "--device", "cpu", "--out", tmp_path / "run"],
        ["extract", tmp_path / "run", "--device", "cpu", "--out", tmp_path / "bank"],
        ["fit", tmp_path / "bank", "--head", "ncm", "--out", tmp_path / "heads"],
    ):
        done = CliRunner().invoke(main, [str(each) for each in line], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert Bank.open(tmp_path / "bank").dim == 64
