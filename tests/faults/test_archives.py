"""Flips in imported files, archives that lie about themselves, and the memory that they take."""

import io
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from featbank import Bank, InputError
from featbank.backbones.foreign import load_plain
from featbank.errors import FeatbankWarning
from featbank.importing import import_features, read_source
from featbank.importing.budget import Budget
from featbank.importing.npy import CompressedArray

RNG = np.random.default_rng(5)
CONTENT: dict[str, Any] = {
    "train_features": RNG.normal(size=(40, 6)).astype(np.float32),
    "train_labels": np.arange(40) % 4,
    "train_ids": np.array([f"img/{row}.jpg" for row in range(40)]),
    "weight": RNG.normal(size=(4, 6)).astype(np.float32),
}
NUMBERS = {name: value for name, value in CONTENT.items() if value.dtype.kind != "U"}


def as_npz(path: Path) -> None:
    np.savez(path, **CONTENT)


def as_packed_npz(path: Path) -> None:
    np.savez_compressed(path, **CONTENT)


def as_torch(path: Path) -> None:
    torch.save({name: torch.from_numpy(value) for name, value in NUMBERS.items()}, path)


FORMS: dict[str, tuple[str, Callable[[Path], None]]] = {
    ".npz": ("f.npz", as_npz),
    "compressed .npz": ("f.npz", as_packed_npz),
    ".pt": ("f.pt", as_torch),
}


def content(path: Path) -> dict[str, Any]:
    """What import takes from a file, as bytes."""
    return {
        name: (value.shape, str(value.dtype), value.tobytes())
        for name, value in ((key, np.asarray(each)) for key, each in read_source(path).items())
    }


@pytest.mark.parametrize("n", [150, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", FORMS)
def test_no_flipped_bit_of_an_imported_archive_is_silent(
    tmp_path: Path, form: str, n: int, dice: np.random.Generator, figure: Callable[[str], None]
) -> None:
    name, write = FORMS[form]
    path = tmp_path / name
    write(path)
    raw, want, found = path.read_bytes(), content(path), Counter[str]()
    for bit in dice.integers(8 * len(raw), size=n):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(flipped)
        try:
            found["harmless" if content(path) == want else "silent"] += 1
        except InputError as error:
            found["refused" if str(path) in str(error) else "unnamed"] += 1
    figure(f"{form}: {n} flips: " + ", ".join(f"{found[k]} {k}" for k in sorted(found)))
    assert found["silent"] == found["unnamed"] == 0
    assert found["refused"] > n / 2


@pytest.mark.parametrize("form", FORMS)
def test_an_archive_cut_anywhere_or_longer_is_refused(tmp_path: Path, form: str) -> None:
    name, write = FORMS[form]
    path = tmp_path / name
    write(path)
    raw = path.read_bytes()
    longer = [raw + b"\0", raw + b"PK", b"\0" + raw, raw + raw]
    for changed in (*longer, *(raw[:cut] for cut in range(0, len(raw), 61)), raw[:-1]):
        path.write_bytes(changed)
        with pytest.raises(InputError, match=name):
            read_source(path)


def npy(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def header(text: str, body: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """A .npy whose header says whatever is wanted."""
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text) + 1)
    return b"\x93NUMPY" + version + length + text.encode() + b"\n" + body


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as out:
        for name, raw in members.items():
            out.writestr(name, raw)
    return path


def overlapping(path: Path) -> None:
    """Two entries of the list that are one member."""
    archive(path, {"a.npy": npy(np.eye(2)), "b.npy": npy(np.eye(2))})
    raw = bytearray(path.read_bytes())
    first = raw.index(b"PK\x01\x02")
    second = raw.index(b"PK\x01\x02", first + 4)
    raw[second + 42 : second + 46] = raw[first + 42 : first + 46]
    at = raw.index(b"b.npy", second)
    raw[at : at + 5] = b"a.npy"
    path.write_bytes(raw)


def twice(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("a.npy", npy(np.eye(2)))
        with pytest.warns(UserWarning, match="Duplicate"):
            out.writestr("a.npy", npy(np.eye(3)))


def in_two_ways(path: Path) -> None:
    """The local header has another checksum than the list of members."""
    archive(path, {"a.npy": npy(np.eye(2))})
    raw = bytearray(path.read_bytes())
    raw[14] ^= 1
    path.write_bytes(raw)


def with_a_checksum_for(changed: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: void(archive(path, {"a.npy": changed(npy(np.arange(12.0)))}))


def void(_value: object) -> None:
    pass


LIARS: dict[str, tuple[Callable[[Path], None], str]] = {
    "overlap": (overlapping, "twice|overlaps"),
    "twice": (twice, "a.npy stands in it twice"),
    "two names for one key": (
        lambda p: void(archive(p, {"a.npy": npy(np.eye(2)), "a.npy.npy": npy(np.eye(2))}) and
                       archive(p, {"a": b"x", "a.npy": npy(np.eye(2))})),
        "two arrays of the name a",
    ),
    "described in two ways": (in_two_ways, "a.npy is described in two ways"),
    "more rows than bytes": (
        with_a_checksum_for(lambda raw: raw.replace(b"(12,)", b"(99,)")), "not what its .* bytes"),
    "fewer rows than bytes": (
        with_a_checksum_for(lambda raw: raw.replace(b"(12,)", b"(11,)")), "not what its .* bytes"),
    "a negative shape": (
        with_a_checksum_for(lambda raw: raw.replace(b"(12,)", b"(-2,)")), "its shape is"),
    "bytes after the array": (with_a_checksum_for(lambda raw: raw + b"\0" * 8), "not what its"),
    "bzip2": (lambda p: void(archive(p, {"a.npy": npy(np.eye(9))}, zipfile.ZIP_BZIP2)), "packed"),
    "lzma": (lambda p: void(archive(p, {"a.npy": npy(np.eye(9))}, zipfile.ZIP_LZMA)), "packed"),
    "huge shape": (
        lambda p: void(archive(p, {"a.npy": header(
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1048576)}")})),
        "not what its"),
    "huge text": (
        lambda p: void(archive(p, {"a.npy": header(
            "{'descr': '<U1000000000', 'fortran_order': False, 'shape': (4,)}", b"1234")})),
        "not what its|cannot be read"),
    "long header": (
        lambda p: void(archive(p, {"a.npy": header("{" + " " * 5_000_000 + "}", b"",
                                                   b"\x02\x00")}, zipfile.ZIP_DEFLATED)),
        "a.npy is no array"),
    "deep header": (
        lambda p: void(archive(p, {"a.npy": header("(" * 5000 + ")" * 5000)})), "a.npy is no arr"),
}  # fmt: skip


@pytest.mark.parametrize("case", LIARS)
def test_an_archive_that_lies_about_itself_is_refused(tmp_path: Path, case: str) -> None:
    make, said = LIARS[case]
    make(tmp_path / "x.npz")
    with pytest.raises(InputError, match=f"x.npz.*({said})"):
        read_source(tmp_path / "x.npz")


@pytest.mark.parametrize("shape", ["(12,)", "(1, 12)", "(11,)", "(13,)", "(112,)"])
def test_an_npy_must_fill_its_file(tmp_path: Path, shape: str) -> None:
    """The format has no checksum; a flip in a shape is found by the size, one in a dtype is not."""
    raw = npy(np.arange(12.0)).replace(b"(12,), }" + b" " * 3, f"{shape}, }}".encode().ljust(11))
    (tmp_path / "x.npy").write_bytes(raw)
    if shape in ("(12,)", "(1, 12)"):
        assert read_source(tmp_path / "x.npy")["x"].size == 12
        return
    with pytest.raises(InputError, match="x.npy cannot be read as an .npy .* is not what its"):
        read_source(tmp_path / "x.npy")


def peak(read: Callable[[], Any]) -> int:
    """Return the bytes that an attempt takes, which must be refused."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def zeros(path: Path, arrays: dict[str, tuple[str, tuple[int, ...]]]) -> Path:
    """An .npz of compressed zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        for name, (dtype, shape) in arrays.items():
            with out.open(f"{name}.npy", "w", force_zip64=True) as member:
                text = {"descr": dtype, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, text)
                left = int(np.prod(shape)) * np.dtype(dtype).itemsize
                while left:
                    left -= member.write(bytes(min(left, 1 << 22)))
    return path


N = 80_000_000
BOMBS: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {
    "rows": {"train_features": ("<f2", (N, 1)), "train_labels": ("|u1", (N,))},
    "labels": {"train_features": ("<f2", (9, 1)), "train_labels": ("|u1", (N,))},
    "ids": {
        "train_features": ("<f2", (90, 1)),
        "train_labels": ("|u1", (90,)),
        "train_ids": ("<U1000000", (90,)),
    },
    "one axis": {"train_features": ("<f4", (N,)), "train_labels": ("|u1", (9,))},
    "weight": {
        "train_features": ("<f2", (9, 2)),
        "train_labels": ("|u1", (9,)),
        "weight": ("<f4", (N, 1)),
    },
}


@pytest.mark.parametrize("case", BOMBS)
def test_compressed_arrays_take_little_memory(tmp_path: Path, case: str) -> None:
    path = zeros(tmp_path / "f.npz", BOMBS[case])
    assert path.stat().st_size < 3_000_000
    assert peak(lambda: import_features(path, tmp_path / "bank")) < 40 << 20
    assert not (tmp_path / "bank").exists()


def test_an_archive_that_expands_beyond_measure_is_refused_at_once(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.npz", {"a.npy": npy(np.zeros(1000))}, zipfile.ZIP_DEFLATED)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"PK\x01\x02")
    raw[at + 24 : at + 28] = struct.pack("<I", 0xFFFFFFF0)
    raw[22:26] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(raw)
    with pytest.raises(InputError, match="bytes expand to 4,294,967,280, more than 100 times"):
        read_source(path)


def test_honest_labels_that_compress_well_are_read(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(10), 20_000)
    features = np.zeros((200_000, 2), np.float32)
    features[:, 0] = labels
    np.savez_compressed(tmp_path / "f.npz", train_features=features, train_labels=labels)
    bank = Bank.open(import_features(tmp_path / "f.npz", tmp_path / "bank"))
    np.testing.assert_array_equal(bank["train"].labels, labels)
    np.testing.assert_array_equal(bank["train"].read(), features)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_compressed_array_is_served_by_rows_and_whole(tmp_path: Path, order: Any) -> None:
    want = np.asarray(RNG.normal(size=(50, 7)), order=order)
    np.savez_compressed(tmp_path / "f.npz", a=want)
    found = read_source(tmp_path / "f.npz")["a"]
    assert isinstance(found, CompressedArray)
    for rows in (slice(0, 8), slice(8, 20), slice(40, 50), slice(3, 4), slice(0, 50), slice(5, 5)):
        np.testing.assert_array_equal(found[rows], want[rows])
    np.testing.assert_array_equal(np.asarray(found), want)
    found.budget = Budget(0, taken=1 << 40)
    found.kept = None
    with pytest.raises(InputError, match="f.npz: a.npy would take .* GB of memory"):
        np.asarray(found)


# Pickles that ask for much: what they are is said in words, the byte string follows.
WITH_A_LIST = b"\x80\x04]"
GREEDY: dict[str, bytes] = {
    "memo": WITH_A_LIST + b"r" + struct.pack("<I", 1 << 27) + b".",
    "memo in text": b"]p999999999\n.",
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
    "text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x.",
    "short text": b"\x80\x04X" + struct.pack("<I", 1 << 31) + b"x.",
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",
    "integer": b"\x80\x04\x8b" + struct.pack("<i", 1 << 30) + b"x.",
    "negative length": b"\x80\x04\x8b" + struct.pack("<i", -5) + b"x.",
    "old text": b"\x80\x02T" + struct.pack("<i", -1) + b"x.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 50) + b"N.",
    "sets": b"\x80\x04" + b"\x8f" * 30_000 + b".",
    "lists": b"\x80\x04(" + b"]" * 50_000 + b"l.",
    "marks": b"\x80\x04" + b"(" * 50_000 + b".",
    "array of no size": b"cnumpy\nndarray\n((I1073741824\ntS'u1'\ntR.",
    "array by its class": b"\x80\x02cnumpy\nndarray\n((I1073741824\nt\x85\x81.",
    "array of a claimed shape": pickle.dumps(np.zeros(16, "u1"), protocol=2).replace(
        b"K\x10", b"J\x00\x00\x00\x40", 1
    ),
    "wide text": pickle.dumps({"a": np.array(["ab"])}, protocol=2).replace(b"U2", b"U999999999"),
    "bytes by calls": b"\x80\x04]\x94(\x8c\x07_codecs\x8c\x06encode\x93\x94X"
    + struct.pack("<I", 1 << 16)
    + b"a" * (1 << 16)
    + b"\x94"
    + b"h\x01h\x02\x8c\x06latin1\x86R" * 2_000
    + b"e.",
    "a bomb after the end": pickle.dumps({"a": np.eye(2)}) + b"\x8f" * 100,
    "a state for a name": b"cnumpy\ndtype\n}U\x05dtypeI1\nsb.",
    "no shape": b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    b"(I1\n(S'x'\ntcnumpy\ndtype\n(S'u1'\ntRI00\nS'x'\ntb.",
}


@pytest.mark.parametrize("case", GREEDY)
def test_no_opcode_takes_more_than_a_pickle_has(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featbank.files.opcodes.FLOOR", 1 << 20)
    path = tmp_path / "trainfeat_all.pkl"
    path.write_bytes(GREEDY[case])
    assert peak(lambda: read_source(path)) < 16 * len(GREEDY[case]) + (4 << 20)


@pytest.mark.parametrize("form", ["zip", "old"])
def test_no_opcode_of_a_torch_file_takes_more_than_it_has(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featbank.files.opcodes.FLOOR", 1 << 20)
    head = b"".join(pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {}))
    greedy = {
        "bytearray": b"\x80\x02cbuiltins\nbytearray\nJ\x00\x00\x00\x40\x85R.",
        "lists": b"\x80\x02(" + b"]" * 50_000 + b"t.",
        "sets": b"\x80\x02(" + b"\x8f" * 30_000 + b"t.",
        "text": b"\x80\x02X" + struct.pack("<I", 1 << 30) + b"x.",
    }
    for program in greedy.values():
        path = tmp_path / "x.pt"
        if form == "old":
            path.write_bytes(head + program + pickle.dumps([], 2))
        else:
            archive(path, {"x/data.pkl": program, "x/version": b"3\n"})
        assert peak(lambda path=path: read_source(path)) < 16 * len(program) + (4 << 20)


def test_compressed_members_of_a_torch_file_are_refused_before_they_are_unpacked(
    tmp_path: Path,
) -> None:
    as_torch(tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    path = archive(tmp_path / "y.pt", members, zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="y.pt: x/data.pkl is encrypted or packed"):
        load_plain(path)


def test_torch_files_without_checksums_are_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        as_torch(tmp_path / "x.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert {each.CRC for each in zipfile.ZipFile(tmp_path / "x.pt").infolist()} == {0}
    assert set(read_source(tmp_path / "x.pt")) == set(NUMBERS)


def test_tensors_spread_over_no_bytes_take_no_memory(tmp_path: Path) -> None:
    wide = {
        "train_features": torch.ones(1, 1).expand(10**9, 3),
        "train_labels": torch.zeros(1, dtype=torch.int64).expand(10**9),
    }
    torch.save(wide, tmp_path / "x.pt")
    with pytest.raises(InputError, match="x.pt: 1,000,000,000 rows of train would take"):
        import_features(tmp_path / "x.pt", tmp_path / "bank")
    batches = [torch.zeros(1000, 1000)] * 500
    torch.save({**wide, "train_features": batches}, tmp_path / "y.pt")
    with pytest.raises(InputError, match="y.pt: train_features would take 2.00 GB of memory"):
        import_features(tmp_path / "y.pt", tmp_path / "bank")


@pytest.mark.parametrize("label", [40, 15_075_141, 10**12, 2**63 - 1])
def test_a_label_far_beyond_the_rows_is_refused_before_names_are_made(
    tmp_path: Path, label: int
) -> None:
    labels = np.arange(40) % 4
    labels[7] = label
    np.savez(tmp_path / "f.npz", train_features=np.ones((40, 2), "f4"), train_labels=labels)
    said = f"train_labels, row 7: label {label} means {label + 1} classes, more than the 40 train"
    with pytest.raises(InputError, match=said):
        import_features(tmp_path / "f.npz", tmp_path / "bank")
    assert peak(lambda: import_features(tmp_path / "f.npz", tmp_path / "bank")) < 2 << 20


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".pt", ".pth", ".safetensors", ".pkl"])
def test_a_pipe_or_a_device_is_refused_at_once(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"zero{suffix}").symlink_to("/dev/zero")
    (tmp_path / f"folder{suffix}").mkdir()
    for name in ("pipe", "zero", "folder"):
        with pytest.raises(InputError, match=f"{name}{suffix} is a .*; name a regular file"):
            import_features(tmp_path / f"{name}{suffix}", tmp_path / "bank")


def test_safetensors_that_claim_more_than_they_have_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3, 3)}, tmp_path / "x.safetensors")
    raw = (tmp_path / "x.safetensors").read_bytes()
    for changed in (
        struct.pack("<Q", 1 << 60) + raw[8:],
        struct.pack("<Q", 99_000_000) + raw[8:],
        raw.replace(b"[3,3]", b"[9,9]"),
        raw.replace(b"[0,36]", b"[0,99]"),
        raw[:-1],
        raw + b"\0",
    ):
        (tmp_path / "x.safetensors").write_bytes(changed)
        assert peak(lambda: read_source(tmp_path / "x.safetensors")) < 1 << 20


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says the peak there")
def test_a_whole_import_of_a_greedy_file_stays_small(tmp_path: Path) -> None:
    """Measured from outside: what tracemalloc does not see counts too."""
    path = tmp_path / "trainfeat_all.pkl"
    path.write_bytes(GREEDY["memo"])
    code = (
        "from cli.main import main\n"
        f"try: main(['import', {str(path)!r}, '--out', {str(tmp_path / 'bank')!r}])\n"
        "except SystemExit as error: print(error.code)\n"
        "status = open('/proc/self/status').read()\n"
        "print(int(status.partition('VmHWM:')[2].split()[0]) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert str(path) in done.stderr
    exit_code, megabytes = map(int, done.stdout.split())
    assert exit_code == 3
    assert megabytes < 300


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "f.npz", "w") as out:
        for name, value in CONTENT.items():
            out.writestr(f"{name}.npy", npy(value))
        out.writestr("readme.txt", b"hello")
        out.writestr("epoch.npy", npy(np.array(3)))
        out.writestr("meta.npy", npy(np.array({"a": 1}, dtype=object), allow_pickle=True))
    said = r"f.npz: left out readme.txt \(it is no .npy array\), epoch \(.*one number\), meta \("
    with pytest.warns(FeatbankWarning, match=said):
        import_features(tmp_path / "f.npz", tmp_path / "bank")
