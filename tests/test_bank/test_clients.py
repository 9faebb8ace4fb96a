"""A bank as other software sees it: zarr-python, TensorStore, dask; our reads against zarr's."""

from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import tensorstore
import xarray
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zarr.storage import LocalStore

from featbank import Bank, BankPlan, BankWriter
from featbank.bank.rows import SplitRows
from featbank.store import schema
from tests.banks import DIM, splits, write_bank

ARRAYS = ("features", "labels")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight or sixteen rows to a chunk, so that every split has several and a short last one."""
    monkeypatch.setattr(schema, "CHUNK_BYTES", 8 * DIM * 4)


@pytest.fixture(params=["float16", "float32"])
def bank(request: pytest.FixtureRequest, tmp_path: Path, small_chunks: None) -> Bank:
    bank = write_bank(tmp_path / "bank", dtype=request.param)
    chunks = bank.manifest.arrays["train/features"].chunks
    assert len(chunks) > 10
    assert chunks[-1].stop - chunks[-1].start < chunks[0].stop
    return bank


def ours(bank: Bank) -> dict[str, Any]:
    """Every numeric array of a bank, as it was given to it."""
    assert bank.classifier is not None
    out = dict(zip(("classifier/weight", "classifier/bias"), bank.classifier, strict=True))
    for name, (features, labels) in splits().items():
        out |= {f"{name}/features": features.astype(bank.dtype), f"{name}/labels": labels}
    return out


def same_bits(got: Any, want: Any) -> None:
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert np.ascontiguousarray(got).tobytes() == np.ascontiguousarray(want).tobytes()


def test_zarr_python_reads_the_same_bits(bank: Bank) -> None:
    group = zarr.open_group(LocalStore(bank.path), mode="r")
    for name, want in ours(bank).items():
        same_bits(group[name][:], want)
    for name in bank.splits:
        assert list(group[f"{name}/ids"][:]) == list(bank[name].ids)
    assert set(group.group_keys()) == {"train", "val", "test", "classifier"}


def test_tensorstore_reads_the_same_bits(bank: Bank) -> None:
    """All but the ids: it has no variable-length strings."""
    for name, want in ours(bank).items():
        path = {"driver": "file", "path": str(bank.path / name)}
        array = tensorstore.open({"driver": "zarr3", "kvstore": path}, read=True).result()
        same_bits(array.read().result(), want)
        same_bits(array[3:5].read().result(), want[3:5])


def test_dask_reads_the_same_bits(bank: Bank) -> None:
    for name, want in ours(bank).items():
        array = dask.array.from_zarr(LocalStore(bank.path), component=name)
        assert array.chunksize[0] == bank.manifest.arrays[name].chunk_rows
        same_bits(array.compute(scheduler="threads", num_workers=2), want)


@st.composite
def tables(draw: st.DrawFn) -> tuple[Any, int, int]:
    """Features (N, D) of any finite bits, bytes in a chunk, and rows computed together."""
    n_rows, dim = draw(st.integers(1, 40)), draw(st.integers(1, 6))
    dtype = draw(st.sampled_from(["float16", "float32"]))
    unsigned = {"float16": np.uint16, "float32": np.uint32}[dtype]
    seed = draw(st.integers(0, 2**32 - 1))
    bits = np.random.default_rng(seed).integers(0, 2 ** (8 * unsigned().nbytes), (n_rows, dim))
    features = bits.astype(unsigned).view(dtype)
    features[~np.isfinite(features)] = -0.0
    return features, draw(st.integers(1, 600)), draw(st.integers(1, 7))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(table=tables(), places=st.lists(st.integers(0, 10_000), max_size=30))
def test_every_way_of_reading_equals_zarrs_own(
    tmp_path_factory: pytest.TempPathFactory, table: tuple[Any, int, int], places: list[int]
) -> None:
    features, chunk_bytes, batch = table
    path = tmp_path_factory.mktemp("bank") / "bank"
    rows = SplitRows([str(row) for row in range(len(features))], np.zeros(len(features), np.int64))
    plan = BankPlan(
        features.shape[1], {"train": rows}, ["a"], dtype=str(features.dtype), batch=batch
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "CHUNK_BYTES", chunk_bytes)
        with BankWriter.begin(path, plan) as writer:
            for _, start, stop in writer.missing():
                writer.put("train", start, features[start:stop])
            writer.commit()
    split, indices = Bank.open(path)["train"], np.array(places, dtype=np.int64) % len(features)

    want = zarr.open_array(LocalStore(path / "train/features"), mode="r")[:]

    same_bits(want, features)
    same_bits(split.read(), want)
    same_bits(split.to_torch().numpy(), want)
    same_bits(split.take(indices), want[indices])
    same_bits(np.concatenate([block for _, block in split.blocks()]), want)
    other = "float32" if features.dtype == np.float16 else "float64"
    same_bits(split.read(other), want.astype(other))
    same_bits(split.take(indices, other), want[indices].astype(other))


def test_xarray_opens_a_split_with_named_axes(bank: Bank) -> None:
    split = xarray.open_zarr(str(bank.path), group="train", consolidated=False)
    same_bits(split["features"].values, ours(bank)["train/features"])
    assert split["features"].dims == ("row", "feature")
    assert split["labels"].dims == split["ids"].dims == ("row",)
    head = xarray.open_zarr(str(bank.path), group="classifier", consolidated=False)
    same_bits(head["weight"].values, ours(bank)["classifier/weight"])
    assert (head["weight"].dims, head["bias"].dims) == (("class", "feature"), ("class",))
