"""A bank is replaced when the new one is whole; only featbank's own files are ever removed."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from featbank import Bank, BankWriter, InputError, LockedError, OutputExistsError, StorageError
from featbank.bank.rows import SplitRows
from featbank.bank.verify import verify
from featbank.errors import DamagedError, StaleError
from featbank.files.marks import work_path
from featbank.importing import import_features
from featbank.store.journal import frame
from featbank.store.schema import ATTRIBUTE, JOURNAL, MANIFEST
from tests.banks import DIM, splits, write_npz
from tests.faults.kills import at_step, finish, steps_of
from tests.faults.world import contents, features, images, plan, small_chunks, write

__all__ = ["small_chunks"]
pytestmark = pytest.mark.usefixtures("small_chunks")


def other(**changes: Any) -> Any:
    """Plan a bank of the same rows from another checkpoint."""
    return replace(plan(), **{"provenance": {"checkpoint": "other"}, **changes})


def write_other(path: Path, most: int = 10_000, **how: bool) -> None:
    """Write the other bank over what is there; stop before its commit after `most` chunks."""
    with BankWriter.begin(path, other(), **{"overwrite": True, **how}) as writer:
        for count, (name, start, stop) in enumerate(list(writer.missing())):
            if count == most:
                writer.collect(0)
                return
            writer.put(name, start, 2 * features(name)[start:stop], images(start, stop))
        writer.commit()


def put_notes(bank: Path) -> dict[str, bytes]:
    """Put files of a user's into a bank's folder; return them."""
    notes = {
        "notes.txt": b"mine", ".DS_Store": b"finder", "train/features/why.md": b"mine",
        "journal-notes.jsonl": b'{"day": 1}\n', "train/zarr.1.partial": b"mine",
    }  # fmt: skip
    for name, raw in notes.items():
        (bank / name).write_bytes(raw)
    zarr.create_group(str(bank / "mine"), zarr_format=3)
    array = zarr.create_array(str(bank / "train" / "scores"), shape=(3,), dtype="f4", zarr_format=3)
    array[:] = np.arange(3)
    more = [*(bank / "mine").rglob("*"), *(bank / "train/scores").rglob("*")]
    return notes | {str(p.relative_to(bank)): p.read_bytes() for p in more if p.is_file()}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    write(tmp_path / "bank")
    return tmp_path / "bank"


@pytest.fixture
def want(tmp_path: Path) -> dict[str, bytes]:
    """What the other bank holds."""
    write_other(tmp_path / "elsewhere")
    found = contents(tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "elsewhere")
    return found


def test_the_new_bank_takes_the_place_and_a_users_files_stay(
    old: Path, want: dict[str, bytes]
) -> None:
    notes = put_notes(old)
    write_other(old)
    assert contents(old) == want | notes
    assert zarr.open_array(str(old / "train/scores"), mode="r")[:].tolist() == [0, 1, 2]
    assert os.listdir(old.parent) == ["bank"]


def test_a_users_journal_in_a_bank_stays(old: Path, want: dict[str, bytes]) -> None:
    mine = b'{"day": 1}\n{"day": 2}\n'
    (old / JOURNAL).write_bytes(mine)
    write_other(old)
    assert contents(old) == want | {JOURNAL: mine}
    with pytest.raises(OutputExistsError, match="journal.jsonl was not made by featbank"):
        write(old, overwrite=True, replace_in_place=True)
    (old / "train/features/c/0/0").unlink()
    with pytest.raises(OutputExistsError, match="journal.jsonl was not made by featbank"):
        BankWriter.begin(old, other(), update=True)
    assert (old / JOURNAL).read_bytes() == mine


def test_what_an_overwriting_run_left_is_gone_on_with_and_the_old_bank_works_meanwhile(
    old: Path, want: dict[str, bytes]
) -> None:
    before = contents(old)
    write_other(old, 2)
    assert contents(old) == before
    assert verify(Bank.open(old)).sound
    with BankWriter.begin(old, other(), overwrite=True) as writer:
        assert len(writer.done) == 2
    write_other(old)
    assert contents(old) == want
    assert os.listdir(old.parent) == ["bank"]


def test_what_was_whole_before_it_was_swapped_is_only_swapped(
    old: Path, want: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    (old / "note").write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr("featbank.files.replacing.exchange", fail)
        with pytest.raises(KeyboardInterrupt):
            write_other(old)
    (old / "note").unlink()
    (old / "note").write_text("changed since")
    with BankWriter.begin(old, other(), overwrite=True) as writer:
        assert not list(writer.missing())
        writer.commit()
    assert contents(old) == want | {"note": b"changed since"}


def test_what_was_to_become_another_bank_is_made_anew(old: Path, want: dict[str, bytes]) -> None:
    with BankWriter.begin(old, other(provenance={"checkpoint": "third"}), overwrite=True) as writer:
        writer.put("train", 0, features("train")[:8], images(0, 8))
    with BankWriter.begin(old, other(), overwrite=True) as writer:
        assert writer.done == {}
    write_other(old)
    assert contents(old) == want


def test_what_was_begun_is_gone_on_with_where_the_old_bank_is_gone(
    old: Path, want: dict[str, bytes]
) -> None:
    write_other(old, 2)
    shutil.rmtree(old)
    with BankWriter.begin(old, other()) as writer:
        assert len(writer.done) == 2
    write_other(old, overwrite=False)
    assert contents(old) == want
    assert os.listdir(old.parent) == ["bank"]


def test_an_unfinished_bank_is_replaced_like_a_whole_one(
    tmp_path: Path, want: dict[str, bytes]
) -> None:
    path = tmp_path / "bank"
    write(path, 2)
    (path / "train/note").write_text("mine")
    before = contents(path)
    write_other(path, 1)
    assert contents(path) == before
    write_other(path)
    assert contents(path) == want | {"train/note": b"mine"}


def nan(value: float) -> Any:
    rows = splits()["test"][0].copy()
    rows[3, 2] = value
    return rows


@pytest.mark.parametrize(
    ("change", "dtype", "said"),
    [
        ({"test_features": nan(np.nan)}, None, "not finite"),
        ({"val_features": nan(np.inf)[:100]}, None, "not finite"),
        ({"test_features": nan(7e4)}, "float16", "beyond the range of float16"),
        ({"val_labels": np.full(100, 9)}, None, "label 9"),
        ({"train_labels": None}, None, "train_labels"),
        ({"weight": np.full((5, DIM), np.nan), "bias": np.zeros(5)}, None, "not finite"),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_an_import_that_is_refused_costs_nothing(
    tmp_path: Path, change: dict[str, Any], dtype: str | None, said: str, whole: bool
) -> None:
    bank = tmp_path / "bank"
    if whole:
        import_features(write_npz(tmp_path / "good.npz"), bank)
    else:
        write(bank, 2)
    (bank / "NOTES.txt").write_text("mine")
    bad, before = write_npz(tmp_path / "bad.npz", **change), contents(bank)
    with pytest.raises(InputError, match=said):
        import_features(bad, bank, dtype=dtype, overwrite=True)
    assert contents(bank) == before
    assert not work_path(bank).exists()


def test_a_refused_import_leaves_an_empty_folder_of_the_users(tmp_path: Path) -> None:
    bad = write_npz(tmp_path / "bad.npz", test_features=nan(np.nan))
    (tmp_path / "mine").mkdir()
    for out in (tmp_path / "mine", tmp_path / "new"):
        with pytest.raises(InputError, match="not finite"):
            import_features(bad, out)
    assert not list((tmp_path / "mine").iterdir())
    assert not (tmp_path / "new").exists()


GROUP = {"zarr_format": 3, "node_type": "group"}
STRANGERS: dict[str, dict[str, bytes]] = {
    "journal of days": {JOURNAL: b'{"day": 1}\n'},
    "empty journal": {JOURNAL: b""},
    "journal of a frame": {JOURNAL: frame({"day": 1})},
    "journal of a plan that is none": {JOURNAL: frame({"plan": {"dim": 3, "rows": {}}})},
    "journal of frames and no plan": {JOURNAL: frame({"chunk": ["a", 0, 0, 1, 2, "0" * 64]})},
    "the word": {MANIFEST: json.dumps({**GROUP, "attributes": {"note": '"featbank"'}}).encode()},
    "the attribute": {MANIFEST: json.dumps({**GROUP, "attributes": {ATTRIBUTE: "x"}}).encode()},
    "an empty body": {
        MANIFEST: json.dumps({**GROUP, "attributes": {ATTRIBUTE: {"body": {}}}}).encode()
    },
    "no json": {MANIFEST: b'"featbank" {'},
    "notes alone": {"thesis.tex": b"years"},
}


@pytest.mark.parametrize("name", STRANGERS)
@pytest.mark.parametrize(
    "how", [{}, {"overwrite": True}, {"overwrite": True, "replace_in_place": True}]
)
def test_a_strangers_folder_is_refused_and_keeps_everything(
    tmp_path: Path, name: str, how: dict[str, bool]
) -> None:
    folder = tmp_path / "project"
    (folder / "train" / "features").mkdir(parents=True)
    for file, raw in {**STRANGERS[name], "train/features/main.py": b"code"}.items():
        (folder / file).write_bytes(raw)
    before = contents(folder)
    with pytest.raises(OutputExistsError, match="exists and is not a bank") as caught:
        BankWriter.begin(folder, plan(), **how)
    assert "overwrite" not in str(caught.value)
    assert contents(folder) == before
    assert os.listdir(tmp_path) == ["project"]


def edit(store: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads((store / MANIFEST).read_bytes())
    change(record["attributes"][ATTRIBUTE]["body"])
    (store / MANIFEST).write_text(json.dumps(record, indent=1))


def test_a_bank_whose_manifest_was_edited_or_has_lost_chunks_can_be_replaced(
    old: Path, want: dict[str, bytes]
) -> None:
    edit(old, lambda body: body.update(class_names=["a", "b", "c"]))
    shutil.rmtree(old / "train/features/c/1")
    (old / "val/zarr.json").unlink()
    (old / "note").write_text("mine")
    with pytest.raises(DamagedError, match="does not match its own digest"):
        Bank.open(old)
    write_other(old)
    assert contents(old) == want | {"note": b"mine"}


@pytest.mark.parametrize("raw", [b"", b"{", b"[]"])
def test_a_bank_that_cannot_be_known_for_one_is_to_be_moved_away(old: Path, raw: bytes) -> None:
    (old / MANIFEST).write_bytes(raw)
    before = contents(old)
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="too damaged to be known .*; move it away"):
            BankWriter.begin(old, plan(), overwrite=overwrite)
    assert contents(old) == before


def test_a_name_that_the_new_bank_needs_is_found_before_the_work(tmp_path: Path) -> None:
    """A user's array stands where the new bank has a split."""
    rows = {"train": plan().rows["train"]}
    with BankWriter.begin(tmp_path / "bank", other(rows=rows)) as writer:
        for name, start, stop in list(writer.missing()):
            writer.put(name, start, features(name)[start:stop], images(start, stop))
        writer.commit()
    (tmp_path / "bank/val/labels").mkdir(parents=True)
    (tmp_path / "bank/val/labels/zarr.json").write_text("mine")
    before = contents(tmp_path / "bank")
    for how in ({}, {"replace_in_place": True}):
        with pytest.raises(OutputExistsError, match="labels/zarr.json was not made by featbank"):
            BankWriter.begin(tmp_path / "bank", plan(), overwrite=True, **how)
    assert contents(tmp_path / "bank") == before
    assert os.listdir(tmp_path) == ["bank"]


def test_too_little_room_is_said_before_anything_is_touched(
    old: Path, want: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (old / "note").write_text("mine")
    before, needs = contents(old), other().n_bytes()
    assert needs > sum(map(len, want.values())) * 0.7
    with monkeypatch.context() as patch:

        def usage(_path: Path) -> Any:
            return type("Usage", (), {"free": needs - 1 if (old / MANIFEST).exists() else needs})

        patch.setattr("shutil.disk_usage", usage)
        with pytest.raises(StorageError, match="until the new one is whole.*--replace-in-place"):
            BankWriter.begin(old, other(), overwrite=True)
        assert contents(old) == before
        assert os.listdir(old.parent) == ["bank"]
        write_other(old, replace_in_place=True)
    assert contents(old) == want | {"note": b"mine"}


def test_in_place_too_little_room_is_said_before_the_old_bank_is_removed(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(old)
    big = other(rows={"train": SplitRows([str(i) for i in range(9000)], np.arange(9000) % 3)})
    usage = type("Usage", (), {"free": 1000})()
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage)
    with pytest.raises(StorageError, match="needs 0.01 GB and the disk has 0.00 GB free"):
        BankWriter.begin(old, big, overwrite=True, replace_in_place=True)
    assert contents(old) == before


def test_replacing_in_place_is_a_way_of_overwriting(old: Path) -> None:
    with pytest.raises(InputError, match="--replace-in-place says how to overwrite"):
        BankWriter.begin(old, other(), replace_in_place=True)


def test_in_place_a_bank_that_the_process_stands_in_can_be_replaced(
    old: Path, want: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(old)
    with pytest.raises(InputError, match="stands in it; .* add --replace-in-place"):
        BankWriter.begin(Path(), other(), overwrite=True)
    write_other(Path(), replace_in_place=True)
    assert contents(old) == want


@pytest.mark.parametrize("fails", [False, True])
def test_in_place_a_cut_leaves_no_half_bank_that_opens_and_the_next_run_ends(
    tmp_path: Path, want: dict[str, bytes], fails: bool
) -> None:
    bank = tmp_path / "bank"

    def run() -> None:
        write_other(bank, replace_in_place=True)

    write(bank)
    count = steps_of(run, tmp_path / "steps")
    for step in range(0, count, 61):
        shutil.rmtree(bank)
        write(bank)
        (bank / "note").write_text("mine")
        before = contents(bank)
        assert at_step(step, fails=fails)(run)
        assert (bank / "note").read_text() == "mine"
        found = contents(bank)
        assert not (bank / MANIFEST).exists() or found == before or verify(Bank.open(bank)).sound
        finish(run)
        assert contents(bank) == want | {"note": b"mine"}


def test_two_who_overwrite_do_not_meet(old: Path) -> None:
    with BankWriter.begin(old, other(), overwrite=True):
        for how in ({"overwrite": True}, {"update": True}, {}):
            with pytest.raises((LockedError, OutputExistsError), match="being written|exists"):
                BankWriter.begin(old, other(), **how)
    write_other(old)


def test_a_pipe_in_the_place_of_a_chunk_is_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path / "bank", 1)
    (tmp_path / "bank/train/features/c/1").mkdir()
    os.mkfifo(tmp_path / "bank/train/features/c/1/0")
    with pytest.raises(OutputExistsError, match="c/1/0 is a pipe"):
        write(tmp_path / "bank")
    assert (tmp_path / "bank/train/features/c/1/0").is_fifo()


def test_a_process_joins_where_the_first_one_builds(old: Path, want: dict[str, bytes]) -> None:
    first = BankWriter.begin(old, other(), overwrite=True, update=True)
    first.lock.share()
    todo = list(first.missing())
    second = BankWriter.join(old, other(), 1, todo, beside=True)
    for writer, spans in ((first, todo[0::2]), (second, todo[1::2])):
        for name, start, stop in spans:
            writer.put(name, start, 2 * features(name)[start:stop], images(start, stop))
    reports = [writer.report() for writer in (first, second)]
    with second, first:
        first.take_over(reports)
        first.commit()
    assert contents(old) == want
    assert os.listdir(old.parent) == ["bank"]


READS: dict[str, Callable[[Bank], object]] = {
    "features": lambda bank: bank["train"].read(),
    "some": lambda bank: bank["train"].take([0, 19]),
    "blocks": lambda bank: list(bank["train"].blocks()),
    "torch": lambda bank: bank["train"].to_torch(),
    "zarr": lambda bank: bank["train"].features,
    "digests": lambda bank: bank["train"].image_sha256,
    "ids": lambda bank: bank["val"].ids,
    "verify": verify,
}


@pytest.mark.parametrize("read", READS)
def test_a_bank_that_is_replaced_while_it_is_read_says_so(old: Path, read: str) -> None:
    bank = Bank.open(old)
    rows = {
        name: SplitRows([f"other {row}" for row in range(len(split.labels))], split.labels[::-1])
        for name, split in plan().rows.items()
    }
    with BankWriter.begin(old, other(rows=rows), overwrite=True) as writer:
        for name, start, stop in list(writer.missing()):
            sizes = images(start + 1, stop + 1)
            writer.put(name, start, 2 * features(name)[start:stop], sizes)
        writer.commit()
    with pytest.raises(StaleError, match="bank was replaced while it was read; run again"):
        READS[read](bank)


def test_replaced_between_two_blocks_no_rows_are_mixed(old: Path) -> None:
    blocks = Bank.open(old)["train"].blocks()
    next(blocks)
    write_other(old)
    with pytest.raises(StaleError, match="was replaced while it was read"):
        list(blocks)


def test_the_same_bank_made_again_is_read_on(old: Path) -> None:
    bank = Bank.open(old)
    with BankWriter.begin(old, plan(), overwrite=True) as writer:
        for name, start, stop in list(writer.missing()):
            writer.put(name, start, features(name)[start:stop], images(start, stop))
        writer.commit()
    np.testing.assert_array_equal(bank["train"].read(), features("train"))
    assert bank["val"].ids[0] == "val/0.jpg"


def test_a_bank_that_is_removed_in_place_while_it_is_read_says_so(old: Path) -> None:
    bank = Bank.open(old)
    write_other(old, 1, replace_in_place=True)
    with pytest.raises(StaleError, match="was taken away while it was read"):
        bank["val"].read()


def test_damage_is_still_called_damage(old: Path) -> None:
    bank = Bank.open(old)
    (old / "train/features/c/1/0").unlink()
    with pytest.raises(DamagedError, match="c/1/0 is missing"):
        bank["train"].read()


def test_a_name_too_long_to_have_one_beside_it_can_be_written_and_replaced_in_place(
    tmp_path: Path, want: dict[str, bytes]
) -> None:
    bank = tmp_path / ("b" * 253)
    write(bank)
    with pytest.raises(StorageError, match="File name too long; choose another path"):
        BankWriter.begin(bank, other(), overwrite=True)
    assert Bank.open(bank).provenance == plan().provenance
    write_other(bank, replace_in_place=True)
    assert contents(bank) == want


def test_the_root_of_all_is_no_bank() -> None:
    with pytest.raises(OutputExistsError, match="/ exists and is not a bank"):
        BankWriter.begin("/", plan(), overwrite=True)
