"""One bank by several processes: the writers' part, without the processes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featbank import Bank, BankWriter
from featbank.errors import LockedError, LostRankError, StaleError, StorageError
from featbank.files.lock import FolderLock
from featbank.runtime.ranks import Ranks
from featbank.store.journal import rank_journals, read_journal
from featbank.store.schema import JOURNAL
from tests.faults.world import contents, features, images, plan, small_chunks, write

__all__ = ["small_chunks"]

pytestmark = pytest.mark.usefixtures("small_chunks")


def writers(path: Path, size: int) -> list[BankWriter]:
    """Begin or continue as the first process of `size` and as the others."""
    first = BankWriter.begin(path, plan())
    todo = list(first.missing())
    first.lock.share()
    return [first, *(BankWriter.join(path, plan(), rank, todo) for rank in range(1, size))]


def fill(writer: BankWriter, spans: Any) -> None:
    for name, start, stop in spans:
        writer.put(name, start, features(name)[start:stop], images(start, stop))


def commit(found: list[BankWriter]) -> None:
    reports = [json.loads(json.dumps(writer.report())) for writer in found]
    found[0].take_over(reports)
    found[0].commit()


def close(found: list[BankWriter]) -> None:
    for writer in found:
        writer.__exit__(None, None, None)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_several_writers_make_the_bank_of_one(tmp_path: Path, size: int) -> None:
    write(tmp_path / "one")
    found = writers(tmp_path / "many", size)
    todo = list(found[0].missing())
    for rank, writer in enumerate(found):
        fill(writer, todo[rank::size])
    commit(found)
    close(found)
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert not rank_journals(tmp_path / "many")


def test_what_several_left_another_number_of_them_continues(tmp_path: Path) -> None:
    write(tmp_path / "one")
    found = writers(tmp_path / "many", 3)
    todo = list(found[0].missing())
    for rank, writer in enumerate(found[1:], start=1):
        fill(writer, todo[rank : rank + 1])
    close(found)
    assert [path.name for path in rank_journals(tmp_path / "many")] == [
        "journal-1.jsonl", "journal-2.jsonl",
    ]  # fmt: skip

    found = writers(tmp_path / "many", 2)
    assert not rank_journals(tmp_path / "many")  # gathered into one
    left = list(found[0].missing())
    assert left == [todo[0], *todo[3:]]
    fill(found[1], left[:1])
    close(found)
    write(tmp_path / "many")

    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_a_complete_bank_is_up_to_date_for_every_process(tmp_path: Path) -> None:
    write(tmp_path / "bank")
    before = contents(tmp_path / "bank")
    first = BankWriter.begin(tmp_path / "bank", plan(), update=True)
    first.lock.share()
    found = [first, BankWriter.join(tmp_path / "bank", plan(), 1, list(first.missing()))]
    assert [list(writer.missing()) for writer in found] == [[], []]
    commit(found)
    other = replace(plan(), provenance={"checkpoint": "another"})
    with pytest.raises(StaleError, match="provenance.checkpoint"):
        BankWriter.join(tmp_path / "bank", other, 1, [])
    close(found)
    assert contents(tmp_path / "bank") == before


def test_what_a_process_of_the_last_job_claims_counts_and_not_an_older_claim(
    tmp_path: Path,
) -> None:
    """A chunk that was made again, by another process, is claimed twice."""
    found = writers(tmp_path / "bank", 2)
    name, start, stop = next(found[0].missing())
    fill(found[0], [(name, start, stop)])
    found[0].collect(0)
    found[1].done.clear()
    found[1].put(name, start, features(name)[start:stop] + 1, images(start, stop))
    close(found)
    _, claims = read_journal(tmp_path / "bank")
    assert len(claims) == 3

    with BankWriter.begin(tmp_path / "bank", plan()) as writer:
        assert (name, start, stop) not in list(writer.missing())


def test_no_job_begins_while_a_process_of_another_lives(tmp_path: Path) -> None:
    first, other = writers(tmp_path / "bank", 2)
    close([first])
    with pytest.raises(LockedError, match="is being written by another process"):
        BankWriter.begin(tmp_path / "bank", plan())
    close([other])
    BankWriter.begin(tmp_path / "bank", plan()).lock.release()


def test_a_lock_that_another_job_was_faster_to_take_is_not_shared(tmp_path: Path) -> None:
    one = FolderLock(tmp_path, shared=True)
    two = FolderLock(tmp_path, shared=True)
    with pytest.raises(LockedError):
        FolderLock(tmp_path)
    one.release()
    two.release()
    FolderLock(tmp_path).share()


def test_a_process_that_would_make_another_bank_does_not_join(tmp_path: Path) -> None:
    first = BankWriter.begin(tmp_path / "bank", plan())
    first.lock.share()
    other = replace(plan(), provenance={"checkpoint": "abd"})
    with pytest.raises(StaleError, match="by provenance.checkpoint"):
        BankWriter.join(tmp_path / "bank", other, 1, [])
    with pytest.raises(StorageError, match="which the job's first process began"):
        BankWriter.join(tmp_path / "nowhere", plan(), 1, [])
    close([first])
    assert (tmp_path / "bank" / JOURNAL).is_file()


def test_a_chunk_that_nobody_wrote_keeps_the_bank_from_being_committed(tmp_path: Path) -> None:
    found = writers(tmp_path / "bank", 2)
    todo = list(found[0].missing())
    fill(found[0], todo[0::2])
    fill(found[1], todo[1:-1:2])
    with pytest.raises(ValueError, match="still misses rows"):
        commit(found)
    close(found)


def test_alone_nothing_is_started_and_everything_is_ones_own() -> None:
    with Ranks.join() as ranks:
        assert ranks.first
        assert ranks.store is None
        assert ranks.share({"a": 1}) == {"a": 1}
        assert ranks.gather(3) == [3]
        assert ranks.mine([1, 2, 3]) == [1, 2, 3]
        ranks.check()


class Dictionary:
    """Stands for the store that the processes meet at."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def set(self, key: str, value: Any) -> None:
        self.values[key] = value if isinstance(value, bytes) else value.encode()

    def get(self, key: str) -> bytes:
        return self.values[key]

    def check(self, keys: list[str]) -> bool:
        return all(key in self.values for key in keys)


def test_a_silent_process_and_one_that_ended_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    store, now = Dictionary(), [0.0]
    monkeypatch.setattr("featbank.runtime.ranks._store", lambda: store)
    monkeypatch.setattr("featbank.runtime.ranks.time.monotonic", lambda: now[0])
    ranks = Ranks(0, 2)
    seen: dict[int, tuple[bytes, float]] = {}

    def beat(rank: int, value: object) -> None:
        store.set(ranks.key(f"beat/{rank}"), str(value))

    for second in range(0, 60, 2):
        now[0] = second
        beat(0, second)
        beat(1, min(second, 20))
        said = ranks._look(seen, 0.0)
        assert bool(said) == (second > 50)
    assert said.startswith("process 1 of 2 has shown no sign of life for 38 s: nothing")
    beat(1, "left")
    assert not ranks._look(seen, 0.0)
    beat(1, "ended")
    ranks.lost = ranks._look(seen, 0.0)
    with pytest.raises(LostRankError, match="process 1 of 2 ended with an error: nothing unfin"):
        ranks.hear("what it never said")


def test_a_process_that_never_came_is_lost_after_five_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("featbank.runtime.ranks._store", Dictionary)
    now = [299.0]
    monkeypatch.setattr("featbank.runtime.ranks.time.monotonic", lambda: now[0])
    ranks = Ranks(0, 2)
    seen: dict[int, tuple[bytes, float]] = {}
    assert not ranks._look(seen, 0.0)
    now[0] = 301.0
    assert ranks._look({}, 0.0).startswith("process 0 of 2 has shown no sign of life for 301 s")


def test_the_bank_of_several_reads_as_any_other(tmp_path: Path) -> None:
    found = writers(tmp_path / "bank", 2)
    todo = list(found[0].missing())
    fill(found[0], todo[0::2])
    fill(found[1], todo[1::2])
    commit(found)
    close(found)
    bank = Bank.open(tmp_path / "bank")
    np.testing.assert_array_equal(bank["train"].read(), features("train"))
