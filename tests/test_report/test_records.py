"""The records that a comparison keeps are read back as they were written, older ones too."""

import json
from pathlib import Path
from typing import Any

import pytest

from featbank.report.data import collect
from featbank.report.pack import cleaned
from featbank.results.cell import BankRecord, RowsRecord
from featbank.results.saved import read_record
from tests.banks import write_bank
from tests.commands import featbank
from tests.results_folder import Fake, bank_record, write_results


def test_a_banks_record_is_the_same_after_reading_and_writing(tmp_path: Path) -> None:
    bank = write_bank(tmp_path / "a.zarr")
    featbank("compare", bank.path, "--head", "ncm", "--out", tmp_path / "out", "--quiet")
    found = read_record(tmp_path / "out/banks/a/bank.json")
    assert found is not None
    found.pop("files")
    again = BankRecord.from_json(found).to_json()
    assert json.dumps(again) == json.dumps(found)


@pytest.mark.parametrize(
    ("kept", "read"),
    [({}, None), ({"samples": "0f" * 32}, None), ({"samples": {"digest": "a"}}, RowsRecord("a"))],
)
def test_an_older_banks_record_may_say_less_of_its_rows(
    kept: dict[str, Any], read: RowsRecord | None
) -> None:
    found = BankRecord.from_json({"slug": "one", **bank_record("one", Fake()), **kept})
    assert found.samples == read
    assert found.train_samples is None


def test_the_page_has_the_fields_of_the_records_in_their_order(tmp_path: Path) -> None:
    data = cleaned(collect(write_results(tmp_path / "out", Fake(per_class=5, view=20))))
    assert [*data] == [
        "settings", "heads", "banks", "classes", "cells", "comparisons", "groups", "provenance",
        "notes", "by_group", "gallery",
    ]  # fmt: skip
    assert [*data["cells"][0]] == [
        "bank", "head", "metrics", "ci95", "params", "selected_on", "selection", "seconds",
        "calibration", "dishonest", "hits", "norms", "confusion", "reliability", "plane", "wrong",
    ]  # fmt: skip
    assert data["classes"][0]["shots"] == {"many_above": 100, "few_below": 20}
