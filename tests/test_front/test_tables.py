"""What a table of results writes for programs."""

import csv
from pathlib import Path

from featbank import Table


def test_names_with_line_ends_quotes_and_commas_are_read_back_from_csv(tmp_path: Path) -> None:
    names = ("plain", "a,b", 'say "no"', "two\nlines", "old\rmac", "both\r\n")
    table = Table("classes", ("name", "all"), tuple((name, 0.5) for name in names))
    table.to_csv(tmp_path / "t.csv")
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == list(names)
