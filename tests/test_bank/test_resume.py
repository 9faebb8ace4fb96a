import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featbank import Bank, BankWriter, LockedError, StaleError, StorageError
from featbank.store import chunks as _chunks
from featbank.store import schema
from featbank.store.journal import read_journal
from featbank.store.schema import JOURNAL
from tests.banks import DIM, fill, plan, splits, write_bank


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "CHUNK_BYTES", 8 * DIM * 4)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def write_some(path: Path, chunks: int) -> None:
    """Begin a bank and leave after some chunks."""
    with BankWriter.begin(path, plan()) as writer:
        for count, (name, start, stop) in enumerate(writer.missing()):
            if count == chunks:
                break
            writer.put(name, start, splits()[name][0][start:stop])
        writer.collect(0)


@pytest.mark.parametrize("chunks", [0, 1, 7, 29, 10_000])
def test_a_bank_left_anywhere_is_finished_to_the_same_bytes(tmp_path: Path, chunks: int) -> None:
    want = contents(write_bank(tmp_path / "whole").path)
    write_some(tmp_path / "bank", chunks)
    with BankWriter.begin(tmp_path / "bank", plan()) as writer:
        assert len(writer.done) == min(chunks, sum(-(-len(y) // 8) for _, y in splits().values()))
        fill(writer)
        writer.commit()
    assert contents(tmp_path / "bank") == want


def test_torn_chunks_and_journal_lines_are_done_again(tmp_path: Path) -> None:
    want = contents(write_bank(tmp_path / "whole").path)
    write_some(tmp_path / "bank", 9)
    torn = tmp_path / "bank/train/features/c/2/0"
    torn.write_bytes(torn.read_bytes()[:100])
    (tmp_path / "bank/train/features/c/4/0").unlink()
    journal = tmp_path / "bank" / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-20])
    with BankWriter.begin(tmp_path / "bank", plan()) as writer:
        assert sorted(index for _, index in writer.done) == [0, 1, 3, 5, 6, 7]
        fill(writer)
        writer.commit()
    assert contents(tmp_path / "bank") == want


def test_a_journal_cut_at_every_byte_claims_only_whole_lines(tmp_path: Path) -> None:
    write_some(tmp_path / "bank", 3)
    journal = tmp_path / "bank" / JOURNAL
    raw = journal.read_bytes()
    ends = [line.end() for line in re.finditer(rb"[^\n]+", raw)]
    for cut in range(ends[0], len(raw) + 1):
        journal.write_bytes(raw[:cut])
        whole = sum(end <= cut for end in ends) - 1
        assert len(read_journal(tmp_path / "bank")[1]) == whole


def test_claims_after_a_torn_line_are_kept(tmp_path: Path) -> None:
    write_some(tmp_path / "bank", 3)
    journal = tmp_path / "bank" / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-20])
    write_some(tmp_path / "bank", 4)
    assert len(read_journal(tmp_path / "bank")[1]) == 6


def test_an_unfinished_bank_of_something_else_is_refused_by_field(tmp_path: Path) -> None:
    write_some(tmp_path / "bank", 3)
    with pytest.raises(StaleError, match="made from something else, by dtype;"):
        BankWriter.begin(tmp_path / "bank", plan(dtype="float16", batch=1))
    other = plan(provenance={"checkpoint": "abc", "versions": {"torch": "9"}})
    with pytest.raises(StaleError, match="by provenance.checkpoint;"):
        BankWriter.begin(tmp_path / "bank", other)
    with BankWriter.begin(tmp_path / "bank", other, overwrite=True) as writer:
        assert writer.done == {}


def test_versions_inform_but_do_not_refuse(tmp_path: Path) -> None:
    with BankWriter.begin(tmp_path / "bank", plan(provenance={"versions": {"torch": "1"}})):
        pass
    with BankWriter.begin(tmp_path / "bank", plan(provenance={"versions": {"torch": "2"}})):
        pass


def test_a_second_writer_is_refused_and_a_dead_one_is_not_in_the_way(tmp_path: Path) -> None:
    with (
        BankWriter.begin(tmp_path / "bank", plan()),
        pytest.raises(LockedError, match="is being written by another process"),
    ):
        BankWriter.begin(tmp_path / "bank", plan())
    with BankWriter.begin(tmp_path / "bank", plan()):
        pass


def test_a_killed_owner_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, sys, signal; from featbank import BankWriter; from tests.banks import plan;"
        "BankWriter.begin(sys.argv[1], plan()); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "bank")], check=False)
    assert done.returncode == -signal.SIGKILL
    monkey = BankWriter.begin(tmp_path / "bank", plan(), overwrite=True)
    with monkey as writer:
        fill(writer)
        writer.commit()
    assert len(Bank.open(tmp_path / "bank")["val"]) == 100


def test_too_little_room_is_said_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})()
    monkeypatch.setattr("featbank.bank.folder.shutil.disk_usage", lambda _path: usage)
    with pytest.raises(StorageError, match="needs 0.00 GB and the disk has 0.00 GB free"):
        BankWriter.begin(tmp_path / "bank", plan())
    assert not any((tmp_path / "bank").iterdir())


@pytest.mark.parametrize("failure", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("persistent", [True, False])
def test_every_write_that_fails_leaves_a_bank_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: int, persistent: bool
) -> None:
    """The k-th write fails, for every k, until a run meets no failure."""
    want = contents(write_bank(tmp_path / "whole").path)
    real, broken = _chunks.write_all, 0

    def failing(k: int) -> Any:
        calls = 0

        def write_all(descriptor: int, view: memoryview) -> None:
            nonlocal calls
            calls += 1
            if calls == k or (persistent and calls > k):
                real(descriptor, view[: len(view) // 2])
                raise OSError(failure, os.strerror(failure))
            real(descriptor, view)

        return write_all

    for k in range(1, 10_000, 13):
        path = tmp_path / f"bank{k}"
        monkeypatch.setattr(_chunks, "write_all", failing(k))
        try:
            write_bank(path)
        except StorageError:
            broken += 1
            assert not (path / "zarr.json").exists()
        else:
            break
        finally:
            monkeypatch.setattr(_chunks, "write_all", real)
        assert contents(write_bank(path).path) == want
    assert broken >= 8


def test_data_are_where_they_belong_after_all(tmp_path: Path) -> None:
    write_some(tmp_path / "bank", 5)
    np.testing.assert_array_equal(
        write_bank(tmp_path / "bank")["train"].read(), splits()["train"][0]
    )


def test_a_complete_bank_of_the_same_plan_is_up_to_date(tmp_path: Path) -> None:
    before = contents(write_bank(tmp_path / "bank").path)
    with BankWriter.begin(tmp_path / "bank", plan(), update=True) as writer:
        assert writer.up_to_date
        assert list(writer.missing()) == []
        writer.commit()
    assert contents(tmp_path / "bank") == before


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"dtype": "float16"}, "dtype"),
        ({"class_names": list("abcde")}, "class_names"),
        ({"provenance": {"checkpoint": "x"}}, "provenance.checkpoint"),
        ({"rows": {"train": plan().rows["train"]}}, "rows.test, rows.val"),
        ({"batch": 3}, "batch"),
    ],
)
def test_a_complete_bank_of_something_else_is_refused_by_field(
    tmp_path: Path, change: dict[str, Any], field: str
) -> None:
    write_bank(tmp_path / "bank")
    with pytest.raises(StaleError, match=f"was made from something else, by {field};"):
        BankWriter.begin(tmp_path / "bank", plan(**change), update=True)
    Bank.open(tmp_path / "bank")


def test_only_damaged_rows_are_made_again(tmp_path: Path) -> None:
    before = contents(write_bank(tmp_path / "bank").path)
    for name in ("train/features/c/3/0", "val/labels/c/0"):
        file = tmp_path / "bank" / name
        file.write_bytes(file.read_bytes()[:-9] + b"123456789")
    (tmp_path / "bank/test/features/c/1/0").unlink()
    with BankWriter.begin(tmp_path / "bank", plan(), update=True) as writer:
        assert list(writer.missing()) == [("train", 24, 32), ("test", 8, 16)]
        fill(writer)
        writer.commit()
    assert contents(tmp_path / "bank") == before
