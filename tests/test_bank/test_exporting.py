import errno
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from featbank import Bank, DamagedError, InputError, OutputExistsError, StorageError
from featbank.bank.export import export_npz
from featbank.importing import import_features
from featbank.store import schema
from tests.banks import DIM, write_bank


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_exported_imports_as_the_same_bank(
    tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "CHUNK_BYTES", 8 * DIM * 4)
    bank = write_bank(tmp_path / "bank", dtype=dtype)
    file = export_npz(bank, tmp_path / "bank.npz")
    again = Bank.open(import_features(file, tmp_path / "again"))
    assert (again.dtype, again.shots, again.class_names) == (dtype, bank.shots, bank.class_names)
    for name in bank.splits:
        np.testing.assert_array_equal(again[name].read(), bank[name].read())
        np.testing.assert_array_equal(again[name].labels, bank[name].labels)
        assert list(again[name].ids) == list(bank[name].ids)
    assert bank.classifier is not None
    assert again.classifier is not None
    for ours, theirs in zip(bank.classifier, again.classifier, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_export_is_the_same_bytes_and_replaces_only_when_asked(tmp_path: Path) -> None:
    bank = write_bank(tmp_path / "bank")
    first = export_npz(bank, tmp_path / "a.npz").read_bytes()
    assert export_npz(bank, tmp_path / "b.npz").read_bytes() == first
    with pytest.raises(OutputExistsError, match="a.npz exists; choose another path"):
        export_npz(bank, tmp_path / "a.npz")
    export_npz(bank, tmp_path / "a.npz", overwrite=True)


def archive() -> dict[str, bytes]:
    """Files that a user may have under the name of an export."""
    plain, commented = io.BytesIO(), io.BytesIO()
    np.savez(plain, x=np.arange(3))
    with zipfile.ZipFile(commented, "w") as file:
        file.writestr("x", "mine")
        file.comment = b"not from featbank"
    return {
        "npz": plain.getvalue(), "comment": commented.getvalue(), "empty": b"",
        "text": b"featbank", "short": b"\x08\x00featbank",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["npz", "comment", "empty", "text", "short"])
@pytest.mark.parametrize("in_place", [False, True])
def test_another_programs_file_is_never_replaced(tmp_path: Path, name: str, in_place: bool) -> None:
    bank = write_bank(tmp_path / "bank")
    out, raw = tmp_path / "out.npz", archive()[name]
    out.write_bytes(raw)
    with pytest.raises(
        OutputExistsError, match="was not written by featbank, so it is not replaced"
    ):
        export_npz(bank, out, overwrite=True, replace_in_place=in_place)
    assert out.read_bytes() == raw


@pytest.mark.parametrize("make", ["link", "pipe", "folder"])
def test_what_is_no_file_is_refused_before_the_bank_is_read(
    tmp_path: Path, make: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, out = write_bank(tmp_path / "bank"), tmp_path / "out.npz"
    export_npz(bank, tmp_path / "real.npz")
    before = (tmp_path / "real.npz").read_bytes()
    {"link": lambda: out.symlink_to("real.npz"), "pipe": lambda: os.mkfifo(out),
     "folder": out.mkdir}[make]()  # fmt: skip
    monkeypatch.setattr("featbank.bank.bank.Split.blocks", None)
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="out.npz is a"):
            export_npz(bank, out, overwrite=overwrite)
    assert (tmp_path / "real.npz").read_bytes() == before


def test_an_export_that_fails_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = write_bank(tmp_path / "bank")
    out = export_npz(write_bank(tmp_path / "older", dtype="float16"), tmp_path / "out.npz")
    before = out.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("featbank.bank.export.add", full)
        with pytest.raises(StorageError, match="cannot write .*out.npz: No space left"):
            export_npz(bank, out, overwrite=True)
    (tmp_path / "bank/test/features/c/0/0").unlink()
    with pytest.raises(DamagedError, match="is missing"):
        export_npz(bank, out, overwrite=True)
    assert out.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["bank", "older", "out.npz"]


def test_too_little_room_for_both_is_said_at_once_and_in_place_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = write_bank(tmp_path / "bank")
    out = export_npz(bank, tmp_path / "out.npz")
    size, before = out.stat().st_size, out.read_bytes()
    out = export_npz(write_bank(tmp_path / "older", dtype="float16"), tmp_path / "old.npz")
    usage = type("Usage", (), {"free": int(0.9 * size)})
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage)
    with pytest.raises(StorageError, match="until the new one is whole.*--replace-in-place"):
        export_npz(bank, out, overwrite=True)
    assert out.read_bytes() != before
    with pytest.raises(InputError, match="add --overwrite"):
        export_npz(bank, out, replace_in_place=True)
    export_npz(bank, out, overwrite=True, replace_in_place=True)
    assert out.read_bytes() == before
