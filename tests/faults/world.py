"""A small bank of every kind of file, and what became of an attempt to read it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featbank import Bank, BankPlan, BankWriter, FeatbankError
from featbank.bank.rows import SplitRows
from featbank.store import schema
from featbank.store.manifest import root_text
from featbank.store.schema import ATTRIBUTE

DIM, STEP = 5, 8
SIZES = {"train": 20, "val": 6}
NAMES = ("cat", "dog", "eel")


def features(split: str) -> Any:
    rng = np.random.default_rng(SIZES[split])
    return rng.normal(size=(SIZES[split], DIM)).astype(np.float32)


def images(start: int, stop: int) -> tuple[Any, Any]:
    """Digests (n, 32) and sizes (n,) of images that could be."""
    digests = np.arange(start, stop, dtype=np.uint8)[:, None] + np.arange(32, dtype=np.uint8)
    return digests, 1000 + np.arange(start, stop)


def plan() -> BankPlan:
    rows = {
        name: SplitRows([f"{name}/{row}.jpg" for row in range(n)], np.arange(n) % len(NAMES))
        for name, n in SIZES.items()
    }
    weight = np.arange(len(NAMES) * DIM, dtype=np.float32).reshape(len(NAMES), DIM)
    return BankPlan(
        DIM,
        rows,
        NAMES,
        "float32",
        (weight, weight[:, 0]),
        provenance={"checkpoint": "abc"},
        images=True,
    )


def write(path: Path, most: int = 10_000, **how: bool) -> None:
    """Write or continue the bank; stop before its commit after `most` chunks."""
    with BankWriter.begin(path, plan(), **how) as writer:
        for count, (name, start, stop) in enumerate(list(writer.missing())):
            if count == most:
                writer.collect(0)
                return
            writer.put(name, start, features(name)[start:stop], images(start, stop))
        writer.commit()


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight rows of features to a chunk: train has two whole ones and a short last one."""
    monkeypatch.setattr(schema, "CHUNK_BYTES", STEP * DIM * 4)


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank that nothing is wrong with; reading it pays for imports before memory is counted."""
    path = tmp_path_factory.mktemp("sound") / "bank"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "CHUNK_BYTES", STEP * DIM * 4)
        write(path)
    numbers(path)
    return path


@pytest.fixture
def store(sound: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(sound, tmp_path / "bank"))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def numbers(path: Path) -> list[Any]:
    """Everything that a bank gives, by every way of reading it."""
    bank = Bank.open(path)
    assert bank.classifier is not None
    found: list[Any] = [bank.class_names, bank.class_counts.tolist(), bank.shots]
    found += [part.tobytes() for part in bank.classifier]
    for name in bank.splits:
        split = bank[name]
        everything = split.read()
        found += [name, everything.shape, everything.tobytes(), split.labels.tobytes()]
        found += [split.ids.tolist(), split.image_sha256.tolist(), split.image_bytes.tolist()]
        assert split.take([0, len(split) - 1]).tobytes() == everything[[0, -1]].tobytes()
        blocks = np.concatenate([rows for _, rows in split.blocks()])
        assert blocks.tobytes() == split.to_torch().numpy().tobytes() == everything.tobytes()
    return found


def outcome(path: Path, read: Callable[[Path], Any], want: Any) -> str:
    """Read; say whether that was refused by a typed error with the path, harmless, or silent."""
    try:
        got = read(path)
    except FeatbankError as error:
        said = str(error)
    else:
        return "harmless" if got == want else "silent"
    assert str(path) in said, f"{said!r} does not name {path}"
    return "refused"


def tally(counts: Counter[str]) -> str:
    order = ("refused", "harmless", "silent")
    return ", ".join(f"{counts[name]} {name}" for name in order)


def forge(store: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest as an attacker would: with a digest that fits."""
    body = json.loads((store / "zarr.json").read_bytes())["attributes"][ATTRIBUTE]["body"]
    change(body)
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    try:
        raw = root_text(body, digest)
    except ValueError:  # NaN, which no manifest writes
        raw = json.dumps({"attributes": {ATTRIBUTE: {"body": body, "digest": digest}}}).encode()
    (store / "zarr.json").write_bytes(raw)


def forge_array(store: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change an array's metadata, with digests that fit."""
    file = store / name / "zarr.json"
    metadata = json.loads(file.read_bytes())
    change(metadata)
    file.write_bytes(json.dumps(metadata).encode())
    sha = hashlib.sha256(file.read_bytes()).hexdigest()
    forge(store, lambda body: body["arrays"][name].update(metadata_sha256=sha))
