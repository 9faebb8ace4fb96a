"""`featbank mistakes`, and `featbank.mistakes` in Python."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import classification_report, confusion_matrix

import featbank
import heads
from cli.commands.mistakes import laid_out
from featbank import Bank, BankWriter
from featbank.bank.rows import SplitRows
from featbank.results.mistakes import ClassReport, Confused, Mistakes
from featbank.results.tables import shown
from featbank.study.mistakes import class_reports, wrong_rows
from tests.banks import COUNTS, fill, plan, splits, write_bank
from tests.commands import contents, refused
from tests.commands import featbank as run

FILES = ["classes.csv", "confusion.csv", "mistakes.csv", "mistakes.json"]
# Names and ids that a careless writer of CSV, or a terminal, would stumble over.
ODD = ["a, b", 'say "c"', "line\nend", "return\rhere", "=1+1"]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write_bank(tmp_path_factory.mktemp("mistakes") / "bank.zarr").path)


@pytest.fixture(scope="module")
def head(bank: Path) -> Path:
    file = bank.parent / "tau.head"
    featbank.fit(bank, "tau").save(file)
    return file


def lines_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def matrix_of(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_rows_are_those_that_are_wrong_the_most_confident_first(
    bank: Path, head: Path, tmp_path: Path
) -> None:
    run("mistakes", bank, head, "--out", tmp_path / "out")
    test, fitted = Bank.open(bank)["test"], heads.load(head)
    shares = fitted.predict_proba(test.read("float32"))
    given = shares.argmax(axis=1)
    wrong = sorted(np.flatnonzero(given != test.labels), key=lambda row: -shares[row].max())
    found = lines_of(tmp_path / "out" / "mistakes.csv")
    assert [line["id"] for line in found] == [test.ids[row] for row in wrong]
    for line, row in zip(found, wrong, strict=True):
        assert line["true"] == f"class {test.labels[row]}"
        assert line["predicted"] == f"class {given[row]}"
        assert float(line["confidence"]) == pytest.approx(shares[row].max(), rel=1e-5)
        own = shares[row, test.labels[row]]
        assert float(line["true_probability"]) == pytest.approx(own, rel=1e-4)


def test_classes_and_confusions_are_those_of_scikit_learn(
    bank: Path, head: Path, tmp_path: Path
) -> None:
    run("mistakes", bank, head, "--out", tmp_path / "out")
    opened = Bank.open(bank)
    labels = opened["test"].labels
    given = heads.load(head).predict(opened["test"].read("float32"))
    names = list(opened.class_names)
    want = classification_report(labels, given, target_names=names, output_dict=True)
    found = lines_of(tmp_path / "out" / "classes.csv")
    assert [line["class"] for line in found] == names
    for line in found:
        ours = {"precision", "recall", "f1", "support"}
        theirs = [want[line["class"]][name] for name in ("precision", "recall", "f1-score")]
        assert [float(line[name]) for name in ("precision", "recall", "f1")] == theirs
        assert int(line["support"]) == want[line["class"]]["support"]
        assert ours <= line.keys()
    assert [int(line["train_rows"]) for line in found] == [*COUNTS]
    assert [line["group"] for line in found] == ["many", "many", "medium", "medium", "few"]
    table = matrix_of(tmp_path / "out" / "confusion.csv")
    assert table[0] == ["true \\ predicted", *names]
    assert [line[0] for line in table[1:]] == names
    counts = [[int(count) for count in line[1:]] for line in table[1:]]
    np.testing.assert_array_equal(counts, confusion_matrix(labels, given))


def test_what_nothing_can_be_divided_by_is_empty(bank: Path) -> None:
    """Class 2 is never given, class 3 does not occur, class 4 is given and has no row."""
    labels, given = np.array([0, 0, 1, 2]), np.array([0, 4, 1, 1])
    found = class_reports(Bank.open(bank), labels, given)
    assert [(each.precision, each.recall, each.f1) for each in found] == [
        (1.0, 0.5, pytest.approx(2 / 3)),
        (0.5, 1.0, pytest.approx(2 / 3)),
        (None, 0.0, 0.0),
        (None, None, None),
        (0.0, None, 0.0),
    ]
    report = small(classes=found)
    assert report.classes_csv().splitlines()[4] == "class 3,0,,,,12,medium"
    assert [each.name for _, each in report.by_recall()] == ["class 2", "class 0", "class 1"]


def small(**changes: Any) -> Mistakes:
    """Return mistakes of a head on two rows of two classes, with some fields changed."""
    classes = tuple(ClassReport(name, 1, 1.0, 1.0, 1.0, 9, "few") for name in "ab")
    cells = (Confused(0, 0, 1), Confused(1, 1, 1))
    found = Mistakes(
        bank="b.zarr", head="ncm", file="ncm.head", split="test", rows=2, metrics={}, wrong=(),
        classes=classes, confusion=cells,
    )  # fmt: skip
    return replace(found, **changes)


def test_a_head_that_is_always_right_says_so() -> None:
    assert small().sentence() == "ncm.head is right on all 2 rows of test."
    assert small().mistakes_csv() == "id,true,predicted,confidence,true_probability\n"


def test_the_matrix_of_many_classes_is_a_list_of_pairs() -> None:
    names = [f"class {number}" for number in range(101)]
    many = tuple(ClassReport(name, 1, 1.0, 1.0, 1.0, 9, "few") for name in names)
    cells = (Confused(0, 0, 3), Confused(0, 100, 1))
    text = small(classes=many, confusion=cells).confusion_csv()
    assert text == "true,predicted,count\nclass 0,class 0,3\nclass 0,class 100,1\n"
    fewer = small(classes=many[:100], confusion=cells[:1]).confusion_csv().splitlines()
    assert len(fewer) == 101
    assert fewer[1].startswith("class 0,3,0,")


def odd_bank(path: Path) -> Path:
    """Write a bank whose classes and rows have odd names."""
    rows = {
        name: SplitRows([f"{ODD[label]}/{name}-{row}" for row, label in enumerate(labels)], labels)
        for name, (_, labels) in splits().items()
    }
    with BankWriter.begin(path, plan(class_names=ODD, rows=rows)) as writer:
        fill(writer)
        writer.commit()
    return path


def test_odd_names_are_right_in_every_file_and_harmless_on_the_terminal(tmp_path: Path) -> None:
    featbank.fit(odd_bank(tmp_path / "odd.zarr"), "ncm").save(tmp_path / "ncm.head")
    done = run("mistakes", tmp_path / "odd.zarr", tmp_path / "ncm.head", "--out", tmp_path / "out")
    assert [line["class"] for line in lines_of(tmp_path / "out" / "classes.csv")] == ODD
    table = matrix_of(tmp_path / "out" / "confusion.csv")
    assert table[0][1:] == [line[0] for line in table[1:]] == ODD
    found = lines_of(tmp_path / "out" / "mistakes.csv")
    assert {line["true"] for line in found} > {"a, b", "line\nend"}
    assert all(line["id"].startswith(f"{line['true']}/test-") for line in found)
    assert "\r" not in done.output
    assert "line\\nend" in done.output


def test_the_terminal_says_the_most_telling_and_ends_with_one_sentence(
    bank: Path, head: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    lines = run("mistakes", bank, head, "--out", out, "--top", 2).output.splitlines()
    ids = [line["id"] for line in lines_of(out / "mistakes.csv")]
    told = [line.split()[0] for line in lines if ".png" in line]
    assert told == ids[:2]
    assert lines[-1] == (
        f"{head} is wrong on 12 of 200 rows of test (6.0 %); it does worst on class 0 (many-shot, "
        "120 training rows), of which it finds 33 of 40 rows, and which it most often takes for "
        f"class 2 (4 rows). Everything is in {out}."
    )


@pytest.mark.parametrize("width", [50, 60, 80, None])
def test_no_number_is_cut_where_the_terminal_is_narrow(
    width: int | None, bank: Path, head: Path
) -> None:
    found = featbank.mistakes(bank, head)
    first = replace(found.wrong[0], id="a/very/long/path/to/an/image/of/class/0/number.jpg")
    for table in (replace(found, wrong=(first,)).table(), found.worst_classes()):
        columns, rows = laid_out(table, width)
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        assert width is None or sum(widths) + 3 * len(widths) <= width
        assert "recall" in columns or "confidence" in columns
        numbers = [cell for cell in rows[0] if cell.replace(".", "").isdigit()]
        assert numbers == [shown(cell) for cell in table.rows[0] if shown(cell) in numbers]
        assert len(numbers) >= 1


def test_json_holds_everything_and_the_folder_too(bank: Path, head: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("mistakes", bank, head, "--out", out, "--json", "-", "--quiet")
    found = json.loads(done.stdout)
    assert found == featbank.mistakes(bank, head).to_json()
    assert len(found["mistakes"]) == 12
    kept = json.loads((out / "mistakes.json").read_text())
    assert {name: kept[name] for name in found} == found
    assert sorted(contents(out)) == FILES


def test_it_looks_at_the_split_that_is_named(bank: Path, head: Path, tmp_path: Path) -> None:
    done = run("mistakes", bank, head, "--out", tmp_path / "out", "--report", "val")
    assert all(line["id"].startswith("val/") for line in lines_of(tmp_path / "out/mistakes.csv"))
    assert "chosen on val, the REPORTED split" in " ".join(done.output.split())
    assert "has only train, val, test" in refused(
        2, "mistakes", bank, head, "--out", tmp_path / "no", "--report", "nowhere"
    )
    assert not (tmp_path / "no").exists()


def test_a_head_of_other_features_or_classes_is_refused(head: Path, tmp_path: Path) -> None:
    other = write_bank(tmp_path / "other.zarr", provenance={"layer": "another"}).path
    line = refused(5, "mistakes", other, head, "--out", tmp_path / "out")
    assert "other features" in line
    renamed = write_bank(tmp_path / "renamed.zarr", class_names=list("abcde")).path
    line = refused(5, "mistakes", renamed, head, "--out", tmp_path / "out")
    assert "other classes" in line
    assert not (tmp_path / "out").exists()


def test_a_class_that_the_head_does_not_know_has_no_probability(bank: Path) -> None:
    opened = Bank.open(bank)
    labels = opened["test"].labels
    loss = np.where(np.arange(len(labels)) == 7, np.nan, 1.0).astype(np.float32)
    sure = np.linspace(0.4, 0.6, len(labels))
    found = wrong_rows(opened, "test", (labels + 1) % 5, sure, loss)
    shares = {each.id: each.true_probability for each in found}
    assert shares.pop("test/7.png") == 0.0
    assert list(shares.values()) == pytest.approx([np.exp(-1.0)] * 199)


def test_of_equally_confident_rows_the_first_gives_its_class_least(bank: Path) -> None:
    opened = Bank.open(bank)
    labels = opened["test"].labels
    loss = np.arange(len(labels), dtype=np.float32)
    found = wrong_rows(opened, "test", (labels + 1) % 5, np.ones(len(labels)), loss)
    assert [each.id for each in found[:2]] == ["test/199.png", "test/198.png"]


def test_an_earlier_folder_is_replaced_on_demand_and_other_files_stay(
    bank: Path, head: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run("mistakes", bank, head, "--out", out)
    before = contents(out)
    assert "--overwrite" in refused(3, "mistakes", bank, head, "--out", out)
    (out / "notes.txt").write_text("mine")
    run("mistakes", bank, head, "--out", out, "--overwrite")
    assert contents(out) == before | {"notes.txt": b"mine"}


def test_a_file_that_is_not_ours_is_not_replaced(bank: Path, head: Path, tmp_path: Path) -> None:
    """A folder is known by a record that is whole; a name alone proves nothing."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "classes.csv").write_text("mine")
    (out / "mistakes.json").write_text('{"schema": 1}')
    before = contents(out)
    for extra in ((), ("--overwrite",)):
        assert str(out) in refused(3, "mistakes", bank, head, "--out", out, *extra)
        assert contents(out) == before


def test_a_json_file_obeys_overwrite(bank: Path, head: Path, tmp_path: Path) -> None:
    out, target = tmp_path / "out", tmp_path / "found.json"
    run("mistakes", bank, head, "--out", out, "--json", target)
    before = contents(tmp_path)
    refused(3, "mistakes", bank, head, "--out", tmp_path / "other", "--json", target)
    assert contents(tmp_path) == before
    run("mistakes", bank, head, "--out", out, "--json", target, "--overwrite")
    assert contents(tmp_path) == before
    for name in FILES:
        line = refused(
            2, "mistakes", bank, head, "--out", tmp_path / "new", "--json", tmp_path / "new" / name
        )
        assert "names what --out writes" in line


def test_it_prints_as_tables_and_gives_records(bank: Path, head: Path) -> None:
    found = featbank.mistakes(bank, head)
    assert str(found).splitlines()[-1] == found.sentence()
    assert [record["id"] for record in found.records()] == [each.id for each in found.wrong]
    assert found.records()[0]["true_probability"] == found.wrong[0].true_probability
    assert found.sentence() in found._repr_html_()
