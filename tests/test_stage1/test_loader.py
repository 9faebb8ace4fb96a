import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from featbank.data import ImageSplit
from featbank.data.loader import BatchPlan, eval_batches, image_loader, train_batches
from featbank.data.provenance import transform_record
from featbank.data.transforms import InputSpec, eval_transform, fingerprint, train_transform
from featbank.errors import InputError

HALF = (0.5, 0.5, 0.5)
SPEC = InputSpec(16, HALF, HALF)


def noise(i: int) -> Image.Image:
    pixels = np.random.default_rng(i).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def noise_or_error(i: int) -> Image.Image:
    if i == 2:
        message = "cannot read image 'two'"
        raise InputError(message)
    return noise(i)


class Noise:
    """Images made up on the spot."""

    def __init__(self, make=noise) -> None:
        self.make = make

    def raw(self, i: int) -> bytes:
        return self.make(i).tobytes()

    def decode(self, i: int, raw: bytes) -> Image.Image:
        return Image.frombytes("RGB", (24, 20), raw)

    def n_bytes(self, i: int) -> int:
        return 24 * 20 * 3


def split_of(n: int, make=noise) -> ImageSplit:
    return ImageSplit([str(i) for i in range(n)], np.zeros(n, dtype=np.int64), Noise(make))


def all_images(order: list[int], epoch: int, *, workers: int = 0, batch: int = 4) -> torch.Tensor:
    plan = BatchPlan(train_batches(np.array(order), epoch, batch))
    loader = image_loader(split_of(9), train_transform(SPEC), 16, plan, seed=5, workers=workers)
    return torch.cat([b.images for b in loader])


def test_augmentation_is_a_function_of_seed_epoch_and_position() -> None:
    order = [3, 1, 4, 1, 5, 8, 2, 6, 0]
    want = all_images(order, epoch=2)

    torch.rand(7)

    assert torch.equal(all_images(order, epoch=2), want)
    assert torch.equal(all_images(order, epoch=2, batch=3), want)
    assert not torch.equal(all_images(order, epoch=3), want)
    assert not torch.equal(want[1], want[3])  # the same row at another position


def test_workers_change_no_image() -> None:
    order = list(range(9))

    assert torch.equal(all_images(order, 1, workers=2), all_images(order, 1))


def test_loading_leaves_the_process_wide_generator_alone() -> None:
    before = torch.get_rng_state()
    all_images([1, 2, 3], 0)

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_keeps_its_place_and_says_why(workers: int) -> None:
    plan = BatchPlan(eval_batches(5, 5))
    loader = image_loader(
        split_of(5, noise_or_error), eval_transform(SPEC), 16, plan, workers=workers
    )
    (batch,) = loader

    assert batch.bad == {2: "cannot read image 'two'"}
    assert batch.rows.tolist() == [0, 1, 2, 3, 4]
    assert batch.images[2].abs().max() == 0
    assert torch.equal(batch.images[3], eval_transform(SPEC)(noise(3)))


def test_training_batches_cover_the_order_and_none_has_one_image() -> None:
    batches = train_batches(np.arange(9)[::-1].copy(), 3, 4)

    assert [[key.row for key in batch] for batch in batches] == [[8, 7, 6, 5], [4, 3, 2, 1, 0]]
    assert [key.position for batch in batches for key in batch] == list(range(9))
    assert {key.epoch for batch in batches for key in batch} == {3}
    assert [len(batch) for batch in train_batches(np.arange(10), 0, 4)] == [4, 4, 2]
    assert [len(batch) for batch in train_batches(np.arange(1), 0, 4)] == [1]


def test_evaluation_batches_have_one_size_and_the_last_row_fills_up() -> None:
    rows = [[key.row for key in batch] for batch in eval_batches(7, 3)]

    assert rows == [[0, 1, 2], [3, 4, 5], [6, 6, 6]]
    assert [[key.row for key in batch] for batch in eval_batches(6, 3)] == [[0, 1, 2], [3, 4, 5]]


def test_evaluation_resizes_crops_the_centre_and_normalises() -> None:
    image = Image.fromarray(np.full((40, 80, 3), 255, dtype=np.uint8))
    image.paste((0, 0, 0), (0, 0, 12, 40))  # well outside the centre square
    spec = InputSpec(10, mean=(0.5, 0.25, 0.0), std=(0.5, 0.5, 2.0))

    out = eval_transform(spec)(image)

    want = torch.tensor([1.0, 1.5, 0.5]).reshape(3, 1, 1).expand(3, 10, 10)
    torch.testing.assert_close(out, want)
    assert type(out) is torch.Tensor


def test_photographs_are_mirrored_and_jittered_and_digits_are_not() -> None:
    assert "Flip" in repr(train_transform(SPEC, photographs=True))
    assert "ColorJitter" in repr(train_transform(SPEC, photographs=True))
    assert "Flip" not in repr(train_transform(SPEC, photographs=False))
    assert "ColorJitter" not in repr(train_transform(SPEC, photographs=False))


@pytest.mark.parametrize(
    "other",
    [
        InputSpec(17, HALF, HALF),
        InputSpec(16, (0.5, 0.5, 0.4), HALF),
        InputSpec(16, HALF, (0.5, 0.5, 0.4)),
        InputSpec(16, HALF, HALF, interpolation="bicubic"),
        InputSpec(16, HALF, HALF, crop=0.9),
    ],
)
def test_every_part_of_the_input_moves_words_and_fingerprint(other: InputSpec) -> None:
    one, two = (transform_record(eval_transform(spec)) for spec in (SPEC, other))

    assert one["fingerprint"] != two["fingerprint"]
    assert one["spec"] != two["spec"]
    assert "\n" not in one["spec"]


def test_the_fingerprint_is_of_the_output() -> None:
    def constant(_image: Image.Image) -> torch.Tensor:
        return torch.zeros(2)

    assert fingerprint(constant) == hashlib.sha256(bytes(8)).hexdigest()


def test_an_input_spec_survives_json() -> None:
    record = {"size": 9, "mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "x", "crop": 0.5}

    assert InputSpec.from_json(record) == InputSpec(9, (0, 0, 0), (1, 1, 1), "x", 0.5)
