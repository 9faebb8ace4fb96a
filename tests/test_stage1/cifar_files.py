"""CIFAR's published files, small: the bytes that Python 2 and its numpy pickled."""

from pathlib import Path
from struct import pack

import numpy as np


def text(value: str) -> bytes:
    """A Python 2 string."""
    raw = value.encode("latin1")
    return b"U" + pack("B", len(raw)) + raw if len(raw) < 256 else b"T" + pack("<I", len(raw)) + raw


def integer(value: int) -> bytes:
    return b"J" + pack("<i", value)


def listed(items: list[bytes]) -> bytes:
    return b"](" + b"".join(items) + b"e"


def array(values: np.ndarray) -> bytes:
    """numpy's `_reconstruct` and the state that it is given, protocol 2."""
    rows, columns = (integer(n) for n in values.shape)
    dtype = b"cnumpy\ndtype\n(" + text("u1") + integer(0) + integer(1) + b"tR"
    dtype += b"(" + integer(3) + text("|") + b"NNN" + integer(-1) * 2 + integer(0) + b"tb"
    head = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + integer(0) + b"t"
    state = integer(1) + b"(" + rows + columns + b"t" + dtype + b"\x89"
    raw = values.tobytes()
    return head + text("b") + b"tR(" + state + b"T" + pack("<I", len(raw)) + raw + b"tb"


def pickled(content: dict[str, bytes]) -> bytes:
    items = b"".join(text(key) + value for key, value in content.items())
    return b"\x80\x02}(" + items + b"u."


def write_part(file: Path, labels: list[int], key: str, rng: np.random.Generator) -> np.ndarray:
    """Write one batch file; return its pixels (N, 3072): channels, rows, columns."""
    pixels = rng.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    names = listed([text(f"image_{i}.png") for i in range(len(labels))])
    content = {
        "batch_label": text("a batch"),
        key: listed([integer(label) for label in labels]),
        "data": array(pixels),
        "filenames": names,
    }
    file.write_bytes(pickled(content))
    return pixels


def write_cifar10(root: Path, per_class: int, test_per_class: int) -> dict[str, np.ndarray]:
    """Write CIFAR-10's six files with that many images of each class; return their pixels."""
    rng = np.random.default_rng(0)
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    labels = rng.permutation(np.repeat(np.arange(10), per_class)).tolist()
    fifth = -(-len(labels) // 5)
    parts = [
        write_part(
            folder / f"data_batch_{i + 1}", labels[i * fifth : (i + 1) * fifth], "labels", rng
        )
        for i in range(5)
    ]
    tests = np.repeat(np.arange(10), test_per_class).tolist()
    test = write_part(folder / "test_batch", tests, "labels", rng)
    names = listed([text(f"class {c}") for c in range(10)])
    (folder / "batches.meta").write_bytes(
        pickled({"num_cases_per_batch": integer(fifth), "label_names": names})
    )
    return {"train": np.concatenate(parts), "test": test, "labels": np.array(labels)}


def write_cifar100(root: Path, per_class: int, test_per_class: int) -> None:
    """Write CIFAR-100's three files."""
    rng = np.random.default_rng(1)
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, count in (("train", per_class), ("test", test_per_class)):
        labels = np.repeat(np.arange(100), count).tolist()
        write_part(folder / name, labels, "fine_labels", rng)
    names = listed([text(f"fine {c}") for c in range(100)])
    (folder / "meta").write_bytes(pickled({"fine_label_names": names}))
