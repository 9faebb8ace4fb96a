"""Single-bit flips of every kind of file, and chunks that are missing, swapped, zeroed or cut."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import heads
from featbank import Bank, BankWriter, DamagedError, FeatbankError
from featbank.bank.verify import verify
from featbank.runs.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from featbank.store.schema import JOURNAL
from heads.errors import HeadFileError
from tests.faults.world import (
    contents,
    numbers,
    outcome,
    plan,
    small_chunks,
    sound,
    store,
    tally,
    write,
)

__all__ = ["small_chunks", "sound", "store"]
pytestmark = pytest.mark.usefixtures("small_chunks")

Read = Callable[[Path], Any]
Figure = Callable[[str], None]

FLIPS = [60, pytest.param(1000, marks=pytest.mark.slow)]
KINDS = {
    "features chunk": "*/features/c/*/0",
    "labels chunk": "*/labels/c/*",
    "ids chunk": "*/ids/c/*",
    "image digests and sizes": "*/image_*/c/**/*",
    "classifier": "classifier/*/c/**/0",
    "root zarr.json (manifest)": "zarr.json",
    "array zarr.json": "*/*/zarr.json",
    "group zarr.json": "*/zarr.json",
}


def flips(files: list[Path], n: int, dice: np.random.Generator) -> Any:
    """Flip one bit of one file at a time, and put it back."""
    for _ in range(n):
        file = files[int(dice.integers(len(files)))]
        raw = file.read_bytes()
        bit = int(dice.integers(8 * len(raw)))
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << (bit % 8)
        file.write_bytes(flipped)
        yield file
        file.write_bytes(raw)


@pytest.mark.parametrize("n", FLIPS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_flipped_bit_of_a_bank_is_silent(
    store: Path, kind: str, n: int, dice: np.random.Generator, figure: Figure
) -> None:
    files = [file for file in store.glob(KINDS[kind]) if file.is_file()]
    want, found = numbers(store), Counter[str]()
    for _ in flips(files, n, dice):
        found[outcome(store, numbers, want)] += 1
    figure(f"{kind}: {n} flips in {len(files)} files: {tally(found)}")
    assert found["silent"] == 0
    assert found["refused"] == n


@pytest.mark.parametrize("n", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_flipped_bit_of_a_journal_is_silent(
    tmp_path: Path, n: int, dice: np.random.Generator, figure: Figure
) -> None:
    """A claim that is no longer whole is not believed: its rows are made again, the same."""
    write(tmp_path / "whole")
    want = contents(tmp_path / "whole")
    write(tmp_path / "bank", 2)
    begun, found = contents(tmp_path / "bank"), Counter[str]()

    def go_on(path: Path) -> Any:
        write(path)
        return contents(path)

    for _ in flips([tmp_path / "bank" / JOURNAL], n, dice):
        found[outcome(tmp_path / "bank", go_on, want)] += 1
        restore(tmp_path / "bank", begun)
    figure(f"journal: {n} flips, extraction continued: {tally(found)}")
    assert found["silent"] == 0


def restore(folder: Path, files: dict[str, bytes]) -> None:
    for name in contents(folder).keys() - files.keys():
        (folder / name).unlink()
    for name, raw in files.items():
        (folder / name).write_bytes(raw)


def tensors(path: Path) -> Any:
    found = read_checkpoint(path)
    return found.record, {name: tensor.tolist() for name, tensor in found.model.items()}


@pytest.mark.parametrize("n", FLIPS)
def test_no_flipped_bit_of_a_checkpoint_is_silent(
    tmp_path: Path, n: int, dice: np.random.Generator, figure: Figure
) -> None:
    path = tmp_path / "last.safetensors"
    write_checkpoint(path, Checkpoint({"epoch": 3}, {"w": torch.arange(60.0), "b": torch.ones(2)}))
    want, found = tensors(path), Counter[str]()
    for _ in flips([path], n, dice):
        found[outcome(path, tensors, want)] += 1
    figure(f"checkpoint: {n} flips: {tally(found)}")
    assert found["silent"] == 0


@pytest.mark.parametrize("n", FLIPS)
def test_no_flipped_bit_of_a_head_is_silent(
    tmp_path: Path, n: int, dice: np.random.Generator, figure: Figure
) -> None:
    path, X = tmp_path / "ncm.head", dice.normal(size=(30, 4)).astype(np.float32)
    heads.save(heads.NearestClassMean().fit(X, np.arange(30) % 3), path)
    want, found = heads.load(path).decision_function(X).tobytes(), Counter[str]()
    for _ in flips([path], n, dice):
        try:
            same = heads.load(path).decision_function(X).tobytes() == want
        except HeadFileError as error:
            found["refused"] += str(path) in str(error)
        else:
            found["harmless" if same else "silent"] += 1
    figure(f"head: {n} flips: {tally(found)}")
    assert found["silent"] == 0
    assert sum(found.values()) == n


def chunk_files(store: Path) -> list[Path]:
    return [file for file in sorted(store.rglob("*")) if file.is_file() and "c" in file.parts[-3:]]


def named(store: Path, *files: Path) -> None:
    """Reading refuses one of the files by name; `verify` names them all; it exits with 4."""
    with pytest.raises(DamagedError) as caught:
        numbers(store)
    assert any(str(file) in str(caught.value) for file in files)
    assert "rows" in str(caught.value)
    assert caught.value.exit_code == 4
    assert {place.file for place in verify(Bank.open(store)).damage} == set(files)


def every_chunk(store: Path, change: Callable[[Path], object]) -> int:
    files = chunk_files(store)
    assert len(files) > 15
    for file in files:
        raw = file.read_bytes()
        change(file)
        named(store, file)
        file.write_bytes(raw)
    numbers(store)
    return len(files)


def zero(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def zero_rows(file: Path) -> None:
    """Zero the rows and make zarr's own checksum fit them."""
    import google_crc32c

    rows = bytes(file.stat().st_size - 4)
    file.write_bytes(rows + google_crc32c.value(rows).to_bytes(4, "little"))


def fill(file: Path) -> None:
    """What zarr itself would write where nothing is."""
    import google_crc32c

    rows = np.full((file.stat().st_size - 4) // 4, np.nan, np.float32).tobytes().ljust(
        file.stat().st_size - 4, b"\0"
    )  # fmt: skip
    file.write_bytes(rows + google_crc32c.value(rows).to_bytes(4, "little"))


CHANGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "emptied": lambda file: file.write_bytes(b""),
    "zeroed": zero,
    "zeroed with a checksum that fits": zero_rows,
    "filled with a checksum that fits": fill,
    "one byte short": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "cut in half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "one byte long": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_every_chunk_that_is_lost_is_named(store: Path, case: str, figure: Figure) -> None:
    count = every_chunk(store, CHANGES[case])
    figure(f"chunk {case}: {count} of {count} named")


@pytest.mark.parametrize("reach", [1, pytest.param(100, marks=pytest.mark.slow)])
def test_chunks_swapped_or_doubled_are_named(store: Path, reach: int, figure: Figure) -> None:
    """Each is a valid chunk of the same array, with a checksum of its own that fits."""
    swapped = doubled = 0
    files = chunk_files(store)
    for place, one in enumerate(files):
        for two in files[max(0, place - reach) : place + reach + 1]:
            a, b = one.read_bytes(), two.read_bytes()
            if a == b:
                continue
            one.write_bytes(b)
            named(store, one)
            doubled += 1
            if one < two:
                two.write_bytes(a)
                named(store, one, two)
                two.write_bytes(b)
                swapped += 1
            one.write_bytes(a)
    figure(f"chunks swapped: {swapped} of {swapped} named; doubled: {doubled} of {doubled} named")
    assert swapped > 10


def test_a_chunk_cut_anywhere_is_named(store: Path, figure: Figure) -> None:
    file = store / "train/features/c/1/0"
    raw = file.read_bytes()
    for cut in range(len(raw)):
        file.write_bytes(raw[:cut])
        with pytest.raises(DamagedError, match="c/1/0 .*rows 8 to 15 are damaged"):
            Bank.open(store)["train"].read()
    figure(f"a chunk cut at every byte: {len(raw)} of {len(raw)} named")


def test_a_damaged_bank_is_made_again_only_where_it_is(store: Path) -> None:
    before = contents(store)
    (store / "train/features/c/1/0").unlink()
    zero(store / "val/labels/c/0")
    with BankWriter.begin(store, plan(), update=True) as writer:
        assert list(writer.missing()) == [("train", 8, 16)]
    with pytest.raises(FeatbankError, match="is an unfinished bank"):
        Bank.open(store)
    write(store)
    assert contents(store) == before


def test_files_that_are_no_part_of_a_bank_are_ignored_and_noted(store: Path) -> None:
    want = numbers(store)
    for name in (".DS_Store", "train/features/c/0/.nfs01", "train/notes.txt"):
        (store / name).write_text("x")
    assert numbers(store) == want
    report = verify(Bank.open(store))
    assert report.sound
    assert len(report.notes) == 3
    assert json.loads((store / "zarr.json").read_text())["node_type"] == "group"
