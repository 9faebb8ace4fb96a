"""Metadata from anybody: empty, torn, forged with digests that fit, absurd in size, linked."""

import json
import os
import shutil
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featbank import Bank, BankWriter, DamagedError, FeatbankError, InputError, NotABankError
from featbank.bank.verify import verify
from featbank.store.journal import frame
from featbank.store.schema import JOURNAL
from tests.faults.world import (
    contents,
    forge,
    forge_array,
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

# No metadata, however absurd, may cost more than this before it is refused.
MOST_BYTES = 64 << 20


def refused(store: Path, match: str = "") -> None:
    """Everything that reads must refuse, naming the path, in little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(FeatbankError, match=match) as caught:
            numbers(store)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(store) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 800
    assert peak < MOST_BYTES


DEEP = b"[" * 100_000
RAW = {
    "empty": b"",
    "blank": b"  \n",
    "null": b"null",
    "list": b"[]",
    "number": b"7",
    "text": b'"featbank"',
    "not UTF-8": b"\xff\xfe\x00",
    "NUL": b"\x00" * 100,
    "deep": DEEP,
    "deep object": b'{"attributes":' * 50_000,
    "deep and closed": b"[" * 900 + b"]" * 900,
    "huge integer": b'{"attributes":{"featbank":{"body":{"format":' + b"9" * 10_000 + b"}}}}",
    "no body": b'{"attributes":{"featbank":{}}}',
    "body a list": b'{"attributes":{"featbank":{"body":[],"digest":""}}}',
    "format true": b'{"attributes":{"featbank":{"body":{"format":true},"digest":""}}}',
    "format 2": b'{"attributes":{"featbank":{"body":{"format":2},"digest":""}}}',
    "NaN": b'{"attributes":{"featbank":{"body":{"format":1,"batch":NaN},"digest":""}}}',
}


@pytest.mark.parametrize("case", RAW)
@pytest.mark.parametrize("file", ["zarr.json", "train/zarr.json", "train/features/zarr.json"])
def test_metadata_that_is_no_metadata_is_refused(store: Path, case: str, file: str) -> None:
    (store / file).write_bytes(RAW[case])
    refused(store, "manifest|format|is not what was written|larger than")


def set_in(body: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for key in parents:
        body = body[int(key)] if isinstance(body, list) else body[key]
    body[int(last) if isinstance(body, list) else last] = value


def enlarge(store: Path, name: str, rows: int, columns: int) -> None:
    """Make an array say that it is one chunk of so many rows; every digest fits."""
    shape = [rows, columns] if name.endswith(("features", "weight")) else [rows]
    shape = [rows, 32] if name.endswith("sha256") else shape

    def change(metadata: dict[str, Any]) -> None:
        metadata["shape"] = shape
        metadata["chunk_grid"]["configuration"]["chunk_shape"] = shape

    def claim(body: dict[str, Any]) -> None:
        record = body["arrays"][name]
        chunk = [[0, rows, *record["chunks"][0][2:]]]
        record.update(shape=shape, chunk_rows=rows, chunks=chunk)

    forge_array(store, name, change)
    forge(store, claim)


FORGED: dict[str, tuple[str, Any]] = {
    "shape 2^63": ("arrays.train/features.shape", [2**63, 5]),
    "shape 10^300": ("arrays.train/features.shape", [10**300, 5]),
    "shape negative": ("arrays.train/features.shape", [-20, 5]),
    "shape zero": ("arrays.train/features.shape", [0, 5]),
    "shape float": ("arrays.train/features.shape", [20.0, 5]),
    "shape true": ("arrays.train/features.shape", [20, True]),
    "shape text": ("arrays.train/features.shape", "20"),
    "shape empty": ("arrays.train/features.shape", []),
    "shape of 60 dimensions": ("arrays.train/features.shape", [20] + [1] * 60),
    "columns 2^62": ("arrays.train/features.shape", [20, 2**62]),
    "chunk rows 0": ("arrays.train/features.chunk_rows", 0),
    "chunk rows negative": ("arrays.train/features.chunk_rows", -8),
    "chunk rows 1": ("arrays.train/features.chunk_rows", 1),
    "chunk rows 2^62": ("arrays.train/features.chunk_rows", 2**62),
    "chunks none": ("arrays.train/features.chunks", []),
    "chunks a number": ("arrays.train/features.chunks", 3),
    "chunk short": ("arrays.train/features.chunks.0", [0, 8]),
    "chunk crc text": ("arrays.train/features.chunks.0.2", "1"),
    "chunk sha number": ("arrays.train/features.chunks.0.3", 1),
    "dtype object": ("arrays.train/features.dtype", "object"),
    "dtype of 2^40 bytes": ("arrays.train/features.dtype", "V1099511627776"),
    "dtype a list": ("arrays.train/features.dtype", [["a", "f4"]]),
    "dtype wider": ("arrays.train/features.dtype", "float64"),
    "labels of text": ("arrays.train/labels.dtype", "string"),
    "arrays a list": ("arrays", []),
    "arrays none": ("arrays", {}),
    "array null": ("arrays.train/labels", None),
    "class names a number": ("class_names", 3),
    "class name a number": ("class_names.0", 3),
    "class names of other length": ("class_names", ["a"]),
    "class count negative": ("class_counts.0", -1),
    "class count 10^400": ("class_counts.0", 10**400),
    "shots text": ("shots", {"many_above": "x", "few_below": 1}),
    "shots unknown": ("shots", {"lots": 1}),
    "shots a list": ("shots", []),
    "provenance a number": ("provenance", 5),
    "skipped a list": ("skipped", ["train"]),
    "skipped a number": ("skipped", {"train": 5}),
    "groups outside": ("groups", {"../../etc": "0" * 64}),
    "groups none": ("groups", {}),
    "rows of another split": ("rows", {"dev": "0" * 64}),
    "batch negative": ("batch", -1),
    "batch text": ("batch", "1"),
    "infinity": ("batch", float("inf")),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_manifest_is_refused_though_its_digest_fits(store: Path, case: str) -> None:
    path, value = FORGED[case]
    forge(store, lambda body: set_in(body, path, value))
    refused(store, "does not describe a bank|no featbank manifest")


@pytest.mark.parametrize(
    "name", ["../../etc", "..", "train/../val", "/etc/passwd", "train", "a//b"]
)
def test_array_names_that_are_no_place_in_the_bank_are_refused(store: Path, name: str) -> None:
    def rename(body: dict[str, Any]) -> None:
        body["arrays"][name] = body["arrays"].pop("val/labels")

    forge(store, rename)
    refused(store, "does not describe a bank")


def test_a_provenance_nested_too_deep_is_refused(store: Path) -> None:
    value: Any = 1
    for _ in range(40):
        value = {"in": value}
    forge(store, lambda body: body.update(provenance=value))
    refused(store, "holds no featbank manifest")


@pytest.mark.parametrize(("rows", "columns"), [(2**39, 5), (6, 2**23), (2**39, 2**23)])
def test_arrays_far_beyond_their_files_are_refused_before_memory_is_taken(
    store: Path, rows: int, columns: int
) -> None:
    """Every digest fits, and so does each array's own metadata: only the files are too short."""
    for name in ("features", "labels", "ids", "image_sha256", "image_bytes"):
        enlarge(store, f"val/{name}", rows, columns)
    if columns != 5:
        enlarge(store, "train/features", 20, columns)
        enlarge(store, "classifier/weight", 3, columns)
    bank = Bank.open(store)
    ways: dict[str, Callable[[], object]] = {
        "read": lambda: bank["val"].read(),
        "read as another dtype": lambda: bank["val"].read("float16"),
        "tensor": lambda: bank["val"].to_torch(),
        "rows": lambda: bank["val"].take([0]),
        "blocks": lambda: next(bank["val"].blocks()),
    }
    if rows != 6:
        ways |= {
            "labels": lambda: bank["val"].labels,
            "ids": lambda: bank["val"].ids,
            "images": lambda: bank["val"].image_sha256,
        }
    for way in ways.values():
        tracemalloc.start()
        with pytest.raises(DamagedError, match=f"^{store}/val/.* are damaged") as caught:
            way()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MOST_BYTES, str(caught.value)


CODECS = {
    "zstd": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "zstd"}],
    "big-endian": [{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "crc32c"}],
    "no checksum": [{"name": "bytes", "configuration": {"endian": "little"}}],
    "checksum first": [{"name": "crc32c"}, {"name": "bytes"}],
    "numcodecs pickle": [{"name": "numcodecs.pickle"}, {"name": "crc32c"}],
    "sharded": [{"name": "sharding_indexed", "configuration": {}}],
    "gzip inside": [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "gzip", "configuration": {"level": 1}},
        {"name": "crc32c"},
    ],
    "a text": "bytes",
    "none": [],
    "numbers": [1, 2],
}


@pytest.mark.parametrize("name", ["train/features", "train/ids", "classifier/bias"])
@pytest.mark.parametrize("case", CODECS)
def test_other_codecs_are_refused_when_the_bank_is_opened(
    store: Path, case: str, name: str
) -> None:
    forge_array(store, name, lambda metadata: metadata.update(codecs=CODECS[case]))
    with pytest.raises(DamagedError, match=f"{name}/zarr.json is no array of a bank: codecs"):
        Bank.open(store)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("shape", [2**63, 5]),
        ("shape", [-1, 5]),
        ("data_type", "float64"),
        ("data_type", 5),
        ("chunk_grid", {"name": "regular", "configuration": {"chunk_shape": [2**40, 5]}}),
        ("chunk_grid", {"name": "regular", "configuration": {"chunk_shape": [0, 5]}}),
        ("chunk_key_encoding", {"name": "v2", "configuration": {"separator": "."}}),
        ("fill_value", None),
        ("fill_value", 0),
        ("zarr_format", 2),
        ("zarr_format", 3.0),
        ("node_type", "group"),
        ("storage_transformers", [{"name": "x"}]),
        ("storage_transformers", -0.0),
        ("dimension_names", ["a", "b"]),
        ("attributes", {"a": 1}),
        ("must_understand", {"a": 1}),
    ],
)
def test_array_metadata_of_another_form_is_refused(store: Path, key: str, value: Any) -> None:
    forge_array(store, "train/features", lambda metadata: metadata.update({key: value}))
    with pytest.raises(DamagedError, match=f"no array of a bank: {key}"):
        Bank.open(store)


def test_a_key_that_comes_twice_is_refused(store: Path) -> None:
    raw = (store / "zarr.json").read_bytes()
    (store / "zarr.json").write_bytes(raw.replace(b'"batch":1', b'"batch":2,"batch":1'))
    refused(store, "holds no featbank manifest")


def test_a_manifest_must_be_the_bytes_that_were_written(store: Path) -> None:
    raw = (store / "zarr.json").read_bytes()
    (store / "zarr.json").write_bytes(raw.replace(b'"batch":1', b'"batch": 1'))
    refused(store, "does not match its own digest")


def test_text_that_says_it_is_longer_than_it_is_is_refused(store: Path) -> None:
    file = store / "val/ids/c/0"
    raw = bytearray(file.read_bytes())
    raw[:4] = b"\xff\xff\xff\xff"  # four billion strings, and a digest that fits
    file.write_bytes(raw)
    from featbank.store.chunks import digest_file

    record = digest_file(file, 0, 2)
    forge(store, lambda body: set_in(body, "arrays.val/ids.chunks.0", [0, 2, 0, record.sha256]))
    refused(store, "is not what was written")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    return tmp_path / "outside"


@pytest.mark.parametrize(
    "place",
    [
        "zarr.json", "train", "train/zarr.json", "train/features", "train/features/zarr.json",
        "train/features/c", "train/features/c/1", "train/features/c/1/0", "train/ids/c",
        "val/labels/c/0", "classifier", "classifier/bias/c/0",
    ],
)  # fmt: skip
def test_links_are_not_followed_though_what_they_show_is_the_same(
    store: Path, outside: Path, place: str
) -> None:
    shutil.move(store / place, outside / "moved")
    (store / place).symlink_to(outside / "moved")
    refused(store, "symbolic link is not followed")
    if place.count("c/"):
        assert not verify(Bank.open(store)).sound
    with pytest.raises(FeatbankError, match="symbolic link is not followed|is not a bank"):
        BankWriter.begin(store, plan(), update=True)


@pytest.mark.parametrize("place", ["zarr.json", "train/features/zarr.json", "val/labels/c/0"])
def test_a_pipe_in_place_of_a_file_does_not_hang(store: Path, place: str) -> None:
    (store / place).unlink()
    os.mkfifo(store / place)
    refused(store, "no regular file")


@pytest.mark.parametrize("place", ["zarr.json", "train/zarr.json", "train/features/zarr.json"])
def test_metadata_of_a_terabyte_is_refused_unread(store: Path, place: str) -> None:
    os.truncate(store / place, 1 << 40)
    refused(store, "larger than")


def test_an_unfinished_bank_with_a_link_in_it_is_not_continued(
    tmp_path: Path, outside: Path
) -> None:
    write(tmp_path / "bank", 2)
    shutil.move(tmp_path / "bank/train", outside / "train")
    (tmp_path / "bank/train").symlink_to(outside / "train")
    before = contents(outside)
    with pytest.raises(InputError, match="train: a symbolic link is not followed; take it out"):
        write(tmp_path / "bank")
    assert contents(outside) == before


JOURNALS: dict[str, bytes] = {
    "empty": b"",
    "blank": b"\n\n",
    "no plan": frame({"chunk": ["train/features", 0, 0, 8, 1, "0" * 64]}),
    "two plans": frame({"plan": {}}) * 2,
    "plan a list": frame({"plan": [1]}),
    "line a number": frame(7),  # type: ignore[arg-type]
    "claim short": frame({"plan": {}}) + frame({"chunk": [1]}),
    "claim a text": frame({"plan": {}}) + frame({"chunk": "train"}),
    "claim of huge numbers": frame({"plan": {}}) + frame({"chunk": ["t", 9**99, 0, 8, 1, "0"]}),
    "deep": frame({"plan": json.loads("[" * 200 + "]" * 200)}),
}


@pytest.mark.parametrize("case", JOURNALS)
def test_a_forged_journal_is_refused(tmp_path: Path, case: str) -> None:
    write(tmp_path / "bank", 2)
    (tmp_path / "bank" / JOURNAL).write_bytes(JOURNALS[case])
    before = contents(tmp_path / "bank")
    with pytest.raises(FeatbankError, match=r"is not a bank, or too damaged .*; move it away"):
        BankWriter.begin(tmp_path / "bank", plan())
    with pytest.raises(FeatbankError, match=r"is not a bank, or too damaged .*; move it away"):
        BankWriter.begin(tmp_path / "bank", plan(), overwrite=True)
    with pytest.raises(NotABankError, match="is not a bank"):
        Bank.open(tmp_path / "bank")
    assert contents(tmp_path / "bank") == before


@pytest.mark.parametrize("claim", [[1], "train", ["train/features", 9**99, 0, 8, 1, "0"], None])
def test_a_journal_with_a_plan_and_a_forged_claim_may_be_begun_again(
    tmp_path: Path, claim: Any
) -> None:
    write(tmp_path / "bank", 2)
    with (tmp_path / "bank" / JOURNAL).open("ab") as handle:
        handle.write(frame({"chunk": claim}))
    with pytest.raises(NotABankError, match=r"journal.jsonl is torn: begin again with --overwrite"):
        write(tmp_path / "bank")
    with BankWriter.begin(tmp_path / "bank", plan(), overwrite=True) as writer:
        assert writer.done == {}


def test_a_journal_that_claims_files_elsewhere_opens_none_of_them(tmp_path: Path) -> None:
    write(tmp_path / "whole")
    write(tmp_path / "bank", 2)
    with (tmp_path / "bank" / JOURNAL).open("ab") as handle:
        for name in ("../../etc", "/etc/passwd", "train/../val", "dev/features", "", "features"):
            handle.write(frame({"chunk": [name, 0, 0, 8, 1, "0" * 64]}))
    write(tmp_path / "bank")
    assert contents(tmp_path / "bank") == contents(tmp_path / "whole")


# The corpus: every kind of metadata, mutated as text and as structure.

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 10**40, 0.5, -0.0, "", "x", "../x", "\ud800", [], {}, [[]],
    [0], {"a": {"b": {}}}, [2**63, 2**63],
)  # fmt: skip


def mutate_text(raw: bytes, dice: np.random.Generator) -> bytes:
    """Cut, flip, insert, double or take out a part."""
    a, b = sorted(dice.integers(0, len(raw) + 1, 2).tolist())
    b = min(b, a + 40)
    other = dice.integers(0, 256, 1 + int(dice.integers(8)), dtype=np.uint8).tobytes()
    flipped = bytearray(raw)
    flipped[a % len(raw)] ^= 1 << int(dice.integers(8))
    choices = [raw[:a], bytes(flipped), raw[:a] + other + raw[a:], raw[:b] + raw[a:],
               raw[:a] + raw[b:], raw[:a] + b"[" * 2000 + raw[a:]]  # fmt: skip
    return choices[int(dice.integers(len(choices)))]


def spots(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    yield path
    if isinstance(value, (dict, list)):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in inner:
            yield from spots(each, (*path, key))


def mutate_structure(value: dict[str, Any], dice: np.random.Generator) -> None:
    """Put a hostile value somewhere, or take something out."""
    places = list(spots(value))[1:]
    *parents, last = places[int(dice.integers(len(places)))]
    inner: Any = value
    for key in parents:
        inner = inner[key]
    if dice.random() < 0.2:
        del inner[last]
    else:
        inner[last] = VALUES[int(dice.integers(len(VALUES)))]


def corpus(store: Path, n: int, dice: np.random.Generator) -> Counter[str]:
    want, files = numbers(store), contents(store)
    kinds = [name for name in files if name.endswith("zarr.json")]
    arrays = [name.removesuffix("/zarr.json") for name in kinds if name.count("/") == 2]
    found: Counter[str] = Counter()
    for _ in range(n):
        name = kinds[int(dice.integers(len(kinds)))] if dice.random() < 0.6 else "zarr.json"
        draw = dice.random()
        if draw < 0.5:
            (store / name).write_bytes(mutate_text(files[name], dice))
        elif draw < 0.8:
            forge(store, lambda body: mutate_structure(body, dice))
        else:
            forge_array(
                store,
                arrays[int(dice.integers(len(arrays)))],
                lambda metadata: mutate_structure(metadata, dice),
            )
        found[outcome(store, numbers_only, numbers_of(want))] += 1
        for changed in kinds:
            (store / changed).write_bytes(files[changed])
    return found


def numbers_of(found: list[Any]) -> list[Any]:
    """Leave out what a forged manifest may say without touching a number: names, counts, shots."""
    return found[3:]


def numbers_only(store: Path) -> list[Any]:
    return numbers_of(numbers(store))


@pytest.mark.parametrize("n", [200, pytest.param(3000, marks=pytest.mark.slow)])
def test_no_mutation_of_metadata_changes_a_number_or_ends_in_an_untyped_error(
    store: Path, n: int, dice: np.random.Generator, figure: Callable[[str], None]
) -> None:
    found = corpus(store, n, dice)
    figure(f"metadata, {n} mutations (text, and structure with digests that fit): {tally(found)}")
    assert found["silent"] == 0
    assert found["refused"] > 0.8 * n


@pytest.mark.parametrize("step", [37, pytest.param(1, marks=pytest.mark.slow)])
def test_metadata_cut_anywhere_is_refused(
    store: Path, step: int, figure: Callable[[str], None]
) -> None:
    found: Counter[str] = Counter()
    want, files = numbers(store), contents(store)
    for name in ("zarr.json", "train/zarr.json", "train/features/zarr.json"):
        for cut in range(0, len(files[name]), step):
            (store / name).write_bytes(files[name][:cut])
            found[outcome(store, numbers, want)] += 1
        (store / name).write_bytes(files[name])
    figure(f"metadata, cut at every {step} bytes: {tally(found)}")
    assert found["silent"] == found["harmless"] == 0
