"""A bank of format 1, written once: every later version must give these numbers."""

import shutil
from pathlib import Path

import numpy as np
import zarr
from zarr.storage import LocalStore

from featbank import Bank, Shots
from featbank.bank.verify import verify
from tests.data import write_bank_v1 as written

BANK = Path(__file__).parent.parent / "data" / "bank-v1"

# float16 as its bits: no conversion stands between the file and this list.
TRAIN_BITS = [
    [0x3800, 0xBD00, 0x4200, 0x7BFF],
    [0x8000, 0x0001, 0x1419, 0xFBFF],
    [0x3C00, 0x4000, 0x4200, 0x4400],
    [0x0000, 0x0000, 0x0000, 0x0000],
    [0xC780, 0x2E66, 0x5640, 0x868E],
]


def test_a_bank_of_format_1_opens_and_holds_what_was_written() -> None:
    bank = Bank.open(BANK)
    train, val = bank["train"], bank["val"]

    assert bank.splits == ("train", "val")
    assert (bank.dim, bank.dtype) == (4, "float16")
    assert bank.class_names == ("cat", "dög", "eel")
    assert bank.class_counts.tolist() == [2, 2, 1]
    assert bank.shots == Shots(50, 10)
    assert bank.provenance["layer"] == "fc"
    assert bank.manifest.skipped == {"val": ("broken.jpg",)}
    assert bank.manifest.batch == 2
    assert train.read().view(np.uint16).tolist() == TRAIN_BITS
    assert train.take([4, 0]).view(np.uint16).tolist() == [TRAIN_BITS[4], TRAIN_BITS[0]]
    assert [start for start, _ in train.blocks()] == [0, 2, 4]
    assert train.read("float32")[4].tolist() == [
        -7.5,
        0.0999755859375,
        100.0,
        -0.00010001659393310547,
    ]
    assert train.labels.tolist() == [0, 0, 1, 1, 2]
    assert train.ids.tolist() == ["a/1.jpg", "ä 2.png", "a,3.jpg", "", "日本/5.jpg"]
    assert val.read().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert val.labels.tolist() == [2, 1, 0]
    assert train.image_bytes is not None
    assert train.image_bytes.tolist() == [1000, 1001, 1002, 1003, 1004]
    assert train.image_sha256 is not None
    assert train.image_sha256[3].tolist() == list(range(3, 35))
    assert bank.classifier is not None
    assert bank.classifier[0].tolist() == np.array(written.WEIGHT, np.float32).tolist()
    assert bank.classifier[1].tolist() == [0.5, -0.25, np.float32(1e-3)]


def test_a_bank_of_format_1_is_sound_and_zarr_reads_it() -> None:
    report = verify(Bank.open(BANK))
    assert report.sound
    assert report.notes == ()
    features = zarr.open_group(LocalStore(BANK), mode="r")["train/features"][:]
    assert features.view(np.uint16).tolist() == TRAIN_BITS


def test_a_bank_of_format_1_is_small_and_can_be_moved(tmp_path: Path) -> None:
    assert sum(file.stat().st_size for file in BANK.rglob("*") if file.is_file()) < 20_000
    moved = shutil.copytree(BANK, tmp_path / "elsewhere")
    assert Bank.open(moved).digest == Bank.open(BANK).digest
