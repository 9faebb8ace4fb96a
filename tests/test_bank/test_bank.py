import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore

from featbank import (
    Bank,
    BankPlan,
    BankWriter,
    DamagedError,
    IncompleteBankError,
    InputError,
    MissingFileError,
    NotABankError,
    OutputExistsError,
)
from featbank.bank.rows import SplitRows
from featbank.store import schema
from tests.banks import COUNTS, DIM, splits, write_bank


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight rows of the test banks to a chunk, so that every split has a short last one."""
    monkeypatch.setattr(schema, "CHUNK_BYTES", 8 * DIM * 4)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.usefixtures("small_chunks")
def test_what_is_written_is_read_back_by_us_and_by_zarr(tmp_path: Path, dtype: str) -> None:
    bank = write_bank(tmp_path / "bank", dtype=dtype)
    stored = zarr.open_group(LocalStore(bank.path), mode="r")
    assert list(bank) == list(splits())
    for name, (features, labels) in splits().items():
        split = bank[name]
        want = features.astype(dtype)
        assert len(split) == len(labels)
        assert split.read().dtype == dtype
        np.testing.assert_array_equal(split.read(), want)
        np.testing.assert_array_equal(split.features[:], want)
        np.testing.assert_array_equal(stored[f"{name}/features"][:], want)
        np.testing.assert_array_equal(stored[f"{name}/labels"][:], labels)
        np.testing.assert_array_equal(split.labels, labels)
        assert list(split.ids) == [f"{name}/{row}.png" for row in range(len(labels))]
        np.testing.assert_array_equal(split.read("float32"), want.astype("float32"))


def test_a_bank_knows_its_classes_classifier_and_order(tmp_path: Path) -> None:
    bank = write_bank(tmp_path / "bank")
    assert bank.splits == ("train", "val", "test")
    assert bank.class_names == tuple(f"class {c}" for c in range(5))
    assert bank.class_counts.tolist() == list(COUNTS)
    assert bank.shots.many_above == 50
    assert bank.classifier is not None
    assert bank.classifier[0].shape == (5, DIM)
    assert bank.classifier[1].dtype == np.float32
    assert write_bank(tmp_path / "without", classifier=False).classifier is None


def test_the_format_is_what_it_says(tmp_path: Path) -> None:
    bank = write_bank(tmp_path / "bank", dtype="float16")
    metadata = json.loads((bank.path / "train/features/zarr.json").read_text())
    assert metadata["codecs"] == [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "crc32c"},
    ]
    assert metadata["fill_value"] == "NaN"
    rows = len(bank["train"])
    assert (bank.path / "train/features/c/0/0").stat().st_size == rows * DIM * 2 + 4
    assert json.loads((bank.path / "train/labels/zarr.json").read_text())["fill_value"] == -1


def test_two_banks_of_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    first, second = write_bank(tmp_path / "a"), write_bank(tmp_path / "b")
    assert first.digest == second.digest
    files = sorted(p.relative_to(first.path) for p in first.path.rglob("*") if p.is_file())
    assert len(files) > 10
    for file in files:
        assert (first.path / file).read_bytes() == (second.path / file).read_bytes()


PAIR = SplitRows(["x.png", "y.png"], np.array([0, 1]))


def tiny(**changes: Any) -> BankPlan:
    """Plan two rows of width 2."""
    settings: dict[str, Any] = {"dim": 2, "rows": {"train": PAIR}, "class_names": ["a", "b"]}
    return BankPlan(**settings | changes)


def write_tiny(path: Path, block: Any = None, overwrite: bool = False, **changes: Any) -> Bank:
    with BankWriter.begin(path, tiny(**changes), overwrite=overwrite) as writer:
        writer.put("train", 0, np.eye(2) if block is None else np.asarray(block))
        writer.commit()
    return Bank.open(path)


def test_a_bank_without_its_commit_does_not_open(tmp_path: Path) -> None:
    with BankWriter.begin(tmp_path / "bank", tiny()) as writer:
        writer.put("train", 0, np.eye(2))
    with pytest.raises(IncompleteBankError, match="is an unfinished bank, 1 of 1 chunks"):
        Bank.open(tmp_path / "bank")
    assert len(write_tiny(tmp_path / "bank")["train"]) == 2  # and goes on without --overwrite


def test_what_is_no_bank_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no bank at .*nothing"):
        Bank.open(tmp_path / "nothing")
    with pytest.raises(NotABankError, match="is not a bank: it has no zarr.json"):
        Bank.open(tmp_path)
    zarr.create_group(LocalStore(tmp_path / "other"), zarr_format=3)
    with pytest.raises(NotABankError, match="holds no featbank manifest"):
        Bank.open(tmp_path / "other")


def test_an_unknown_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("featbank.store.manifest.FORMAT", 9)
        write_bank(tmp_path / "bank")
    with pytest.raises(NotABankError, match="has bank format 9; this featbank reads format 1"):
        Bank.open(tmp_path / "bank")


@pytest.mark.usefixtures("small_chunks")
def test_damage_to_any_file_is_found_before_its_numbers_are_used(tmp_path: Path) -> None:
    bank = write_bank(tmp_path / "bank").path
    for number, file in enumerate(sorted(p for p in bank.rglob("*") if p.is_file())):
        written = file.read_bytes()
        raw = bytearray(written)
        raw[(number * 7919) % len(raw)] ^= 1 << (number % 8)
        file.write_bytes(raw)
        with pytest.raises((DamagedError, NotABankError)):
            read_everything(bank)
        file.write_bytes(written)
    read_everything(bank)


@pytest.mark.usefixtures("small_chunks")
def test_swapped_missing_and_short_chunks_are_named(tmp_path: Path) -> None:
    bank = write_bank(tmp_path / "bank")
    one, two = (bank.path / f"train/features/c/{index}/0" for index in (1, 2))
    a, b = one.read_bytes(), two.read_bytes()
    one.write_bytes(b)
    two.write_bytes(a)
    with pytest.raises(DamagedError, match=r"c/1/0 does not match its checksum: rows 8 to 15"):
        bank["train"].read()
    one.write_bytes(a[:-1])
    with pytest.raises(DamagedError, match="bytes instead of"):
        bank["train"].read()
    one.unlink()
    with pytest.raises(DamagedError, match=r"c/1/0 is missing: rows 8 to 15 are damaged"):
        bank["train"].read()


def read_everything(path: Path) -> None:
    bank = Bank.open(path)
    assert bank.classifier is not None
    for name in bank.splits:
        assert len(bank[name].read()) == len(bank[name].labels) == len(bank[name].ids)


@pytest.mark.parametrize(
    ("value", "said"), [(np.nan, "not finite"), (np.inf, "not finite"), (7e4, "range of float16")]
)
def test_values_that_do_not_fit_are_named_by_row(tmp_path: Path, value: float, said: str) -> None:
    with pytest.raises(InputError, match=rf"1 rows have features .*{said} \(y.png\)"):
        write_tiny(tmp_path / "bank", [[0, 1], [value, 1.0]])


def test_float32_holds_what_float16_cannot(tmp_path: Path) -> None:
    bank = write_tiny(tmp_path / "bank", [[0, 1], [7e4, 1.0]], dtype="float32")
    assert bank["train"].read()[1, 0] == np.float32(7e4)


def test_the_largest_float16_is_kept(tmp_path: Path) -> None:
    bank = write_tiny(tmp_path / "bank", [[65519.0, -65519.0], [0, 1]])
    assert bank["train"].read()[0].tolist() == [65504.0, -65504.0]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 2], "row 1 .'y.png'.: label 2 is outside 0..1"),
        ([0, -1], "label -1 is outside 0..1"),
        ([0, 0], r"no training images for class 1 \('b'\)"),
    ],
)
def test_labels_that_make_no_bank_are_named(labels: list[int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        tiny(rows={"train": SplitRows(PAIR.ids, np.array(labels))})


def test_a_classifier_of_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match=r"2 classes of width 2 need \(2, 2\) and \(2,\)"):
        tiny(classifier=(np.zeros((3, 2)), np.zeros(3)))


def test_a_block_in_the_wrong_place_is_refused(tmp_path: Path) -> None:
    with BankWriter.begin(tmp_path / "bank", tiny()) as writer:
        with pytest.raises(InputError, match=r"shape \(2, 3\) at row 0, where \(2, 2\) is due"):
            writer.put("train", 0, np.eye(2, 3))
        with pytest.raises(InputError, match="still misses rows 0 to 1 of train"):
            writer.commit()


def test_a_complete_bank_is_replaced_only_when_asked(tmp_path: Path) -> None:
    write_bank(tmp_path / "bank")
    with pytest.raises(OutputExistsError, match="add --overwrite"):
        BankWriter.begin(tmp_path / "bank", tiny())
    assert write_tiny(tmp_path / "bank", overwrite=True).splits == ("train",)


def test_what_is_no_bank_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputExistsError, match="exists and is not a bank"):
        BankWriter.begin(tmp_path / "notes", tiny(), overwrite=True)
    assert (tmp_path / "notes" / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("name", ["classifier", "", "a/b", "..", ".hidden", "a" * 70])
def test_split_names_that_are_no_folder_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="split name"):
        tiny(rows={"train": PAIR, name: PAIR})


def test_a_split_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no split 'dev'; it has train, val, test"):
        write_bank(tmp_path / "bank")["dev"]


@pytest.mark.usefixtures("small_chunks")
def test_every_way_of_reading_gives_the_same_rows(tmp_path: Path, rng: np.random.Generator) -> None:
    bank = write_bank(tmp_path / "bank", dtype="float16")
    train, want = bank["train"], splits()["train"][0].astype("float16")
    indices = rng.integers(0, len(want), 50)
    np.testing.assert_array_equal(train.take(indices), want[indices])
    np.testing.assert_array_equal(train.take(indices, "float32"), want[indices].astype("float32"))
    assert train.take([]).shape == (0, DIM)
    np.testing.assert_array_equal(train.to_torch().numpy(), want)
    blocks = list(train.blocks())
    assert [start for start, _ in blocks] == list(range(0, len(want), 16))
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in blocks]), want)
    with pytest.raises(InputError, match="has rows 0 to 227; asked for -1 to 3"):
        train.take([3, -1])
