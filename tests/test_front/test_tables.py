"""What a table of results writes for programs."""

import csv
from pathlib import Path

from featbank import Table
from featbank.results.matrix import p_text


def test_names_with_line_ends_quotes_and_commas_are_read_back_from_csv(tmp_path: Path) -> None:
    names = ("plain", "a,b", 'say "no"', "two\nlines", "old\rmac", "both\r\n")
    table = Table("classes", ("name", "all"), tuple((name, 0.5) for name in names))
    table.to_csv(tmp_path / "t.csv")
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == list(names)


def test_small_p_values_are_not_shown_as_zero() -> None:
    assert [p_text(p) for p in (0.5, 0.001, 0.000999, 0.0)] == [
        "p=0.500", "p=0.001", "p<0.001", "p<0.001"
    ]  # fmt: skip
