"""The report's arithmetic, beside loops that take their time."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from featbank.report.cells import Cell
from featbank.report.classes import by_size, hits_by_class, sampling_curves
from featbank.report.confusion import top_confusions
from featbank.report.data import chosen_on_curve, curve_data, scaled
from featbank.report.limits import Limits, kept_by_class
from featbank.report.pack import cleaned, smallest, to_json, to_units
from featbank.report.provenance import provenance_rows
from featbank.report.reliability import reliability_bins
from featbank.results.cell import BankRecord
from featbank.results.compared import ComparedResult
from tests.results_folder import Fake, bank_record


def labelled(rng: np.random.Generator, n: int, classes: int) -> tuple[Any, Any]:
    labels = rng.integers(0, classes, n)
    return labels, np.where(rng.random(n) < 0.6, labels, rng.integers(0, classes, n))


def result(**known: Any) -> ComparedResult:
    """A result of tau on a bank, with what is known of it."""
    bare = {"bank": "b", "head": "tau", "split": "test", "metrics": {}, "fit_seconds": 0.1}
    return ComparedResult.from_json({**bare, "cell": "k", **known})


def test_hits_are_the_diagonal(rng: np.random.Generator) -> None:
    labels, predicted = labelled(rng, 500, 7)
    expected = [sum((labels == c) & (predicted == c)) for c in range(8)]
    assert hits_by_class(labels, predicted, 8).tolist() == expected


def test_few_classes_are_drawn_one_by_one_from_the_largest() -> None:
    assert by_size(np.array([5, 9, 5, 7]), np.array([0.0, 1, 2, 3])).tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize("n", [11, 250, 251, 1003])
def test_many_classes_are_drawn_by_means_of_even_runs(n: int, rng: np.random.Generator) -> None:
    counts, values = rng.integers(1, 50, n), rng.normal(size=n)
    order = sorted(range(n), key=lambda c: (-counts[c], c))
    starts = [i * n // 10 for i in range(11)]
    expected = [np.mean([values[c] for c in order[a:b]]) for a, b in pairwise(starts)]
    assert np.allclose(by_size(counts, values, bins=10), expected)


def test_sampling_probabilities_are_the_papers() -> None:
    curves = sampling_curves(np.array([4, 16, 1]))
    assert np.allclose(curves["instance"], np.array([16, 4, 1]) / 21)
    assert np.allclose(curves["sqrt"], np.array([4, 2, 1]) / 7)
    assert np.allclose(curves["class"], 1 / 3)
    assert np.allclose(curves["progressive"], (np.array([16, 4, 1]) / 21 + 1 / 3) / 2)
    assert np.allclose(curves["reversed"], np.array([1 / 16, 1 / 4, 1]) / (1 + 1 / 4 + 1 / 16))


def test_the_confusion_matrix_is_that_of_the_classes_it_names(rng: np.random.Generator) -> None:
    labels, predicted = labelled(rng, 900, 20)
    found = top_confusions(labels, predicted, 20, top=6)
    classes = found.classes.tolist()
    assert classes == sorted(classes)
    assert len(classes) == 6
    for i, true in enumerate(classes):
        assert found.rows[i] == sum(labels == true)
        for j, named in enumerate(classes):
            both = sum((labels == true) & (predicted == named))
            assert found.matrix[i * 6 + j] == both


def test_the_most_frequent_confusions_come_first() -> None:
    labels = np.array([0] * 5 + [1] * 4 + [2] * 3 + [3] * 3)
    predicted = np.array([1] * 5 + [0] * 4 + [3] * 3 + [0] * 3)
    assert top_confusions(labels, predicted, 4, top=2).classes.tolist() == [0, 1]
    assert top_confusions(labels, predicted, 4, top=3).classes.tolist() == [0, 1, 3]
    assert top_confusions(labels, labels, 4).classes.tolist() == []


def test_reliability_bins_are_those_of_guo(rng: np.random.Generator) -> None:
    sure = np.append(rng.random(399), [0.25, 0.0, 1.0, 0.5, np.nan]).astype(np.float32)
    right = rng.random(404) < 0.5
    found = reliability_bins(sure, right, bins=4)
    for m in range(4):
        low, high = m / 4, (m + 1) / 4
        inside = [i for i, p in enumerate(sure) if low < np.float64(p) <= high or (m == p == 0)]
        assert found.rows[m] == len(inside)
        assert found.confidence[m] == pytest.approx(np.mean(sure[inside]), abs=1e-6)
        assert found.accuracy[m] == pytest.approx(np.mean(right[inside]))


def test_a_bin_without_rows_has_no_accuracy() -> None:
    found = reliability_bins(np.array([0.9], np.float32), np.array([True]), bins=2)
    assert found.rows.tolist() == [0, 1]
    assert np.isnan(found.accuracy[0])


def test_what_differs_between_banks_is_said_field_by_field() -> None:
    one, other = bank_record("one", Fake()), bank_record("other", Fake())
    other["provenance"]["versions"] = {"torch": "2.11.0"}
    records = [BankRecord.from_json(each | {"slug": "b"}) for each in (one, other)]
    rows = {row.field: row for row in provenance_rows(records)}
    assert rows["recipe.sampler"].values == ("one", "other")
    assert {name for name, row in rows.items() if row.differs} == {
        "digest", "recipe.sampler", "versions.torch",
    }  # fmt: skip


def test_points_are_kept_to_a_part_in_65535_of_their_extent(rng: np.random.Generator) -> None:
    points = rng.normal(size=(50, 2)).astype(np.float32)
    found = scaled(points)
    x0, x1, y0, y1 = found.extent
    x, y = found.xy.reshape(2, -1) / found.units
    back = np.stack([x0 + x * (x1 - x0), y0 + y * (y1 - y0)], axis=1)
    assert np.abs(back - points).max() <= 0.51 * max(x1 - x0, y1 - y0) / 65_535 + 1e-6


def test_points_that_are_all_the_same_are_kept() -> None:
    assert to_units(np.array([3.0, 3.0]), 3.0, 3.0).tolist() == [0, 0]


def test_a_group_that_a_curve_lacks_is_null() -> None:
    arrays = {
        "parameter": np.array([0.0, 1.0]),
        "test_few": np.array([np.nan, np.nan]),
        "test_all": np.array([0.5, 0.25]),
    }
    found = curve_data("tau", arrays, 0.7)
    assert found.splits["test"]["few"] is None
    assert found.splits["test"]["all"].tolist() == [0.5, 0.25]
    assert found.best == 0.7


def test_a_curve_marks_what_was_chosen_on_it_and_not_what_was_given() -> None:
    def cell(head: int, best: float | None, bias: str = "drop") -> Cell:
        selection = None if best is None else {"best": best}
        return Cell(0, head, "k", result(params={"bias": bias}, selection=selection))

    kept, chosen, given = cell(0, 0.3, "keep"), cell(1, 0.7), cell(2, None)
    assert chosen_on_curve("tau", 0, [kept, chosen, given]) == 0.7
    assert chosen_on_curve("tau", 0, [kept, given]) is None
    assert chosen_on_curve("tau", 1, [chosen]) is None


@pytest.mark.parametrize(("top", "dtype"), [(0, "u1"), (255, "u1"), (256, "u2"), (65_536, "u4")])
def test_whole_numbers_take_the_room_that_they_need(top: int, dtype: str) -> None:
    assert cleaned(smallest(np.array([0, top])))["t"] == dtype


def test_numbers_that_json_lacks_are_null() -> None:
    assert cleaned({"a": [float("nan"), float("inf"), np.float32(0.5)]}) == {"a": [None, None, 0.5]}


@pytest.mark.parametrize(
    "name",
    ["</script>", "<!--", "<script>", "\u2028", "\udce9", "\u202eevil", "a&amp;b", "\x1b[2J"],
)
def test_no_text_can_end_the_script_element_it_stands_in(name: str) -> None:
    text = to_json({"name": name, name: 1})
    assert text.isascii()
    assert text.isprintable()
    assert not set("<>&") & set(text)
    assert json.loads(text)["name"] == "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in name
    )


def test_single_classes_are_kept_of_the_best_heads_of_each_bank() -> None:
    values = {(0, 0): 0.5, (0, 1): 0.7, (0, 2): 0.6, (1, 0): 0.9, (1, 1): None, (1, 2): 0.8}
    cells = [Cell(b, h, "", result(metrics={"all": value})) for (b, h), value in values.items()]
    assert kept_by_class(cells, 3) == {(0, 1), (1, 0), (0, 2)}
    assert kept_by_class(cells, 99) == set(values)
    assert len(kept_by_class(cells, 0)) == 2  # there are always two to look at


def test_rows_of_a_view_are_sampled_evenly() -> None:
    sizes = Limits(n_classes=3, n_cells=1, points=4, stride=1, kept=frozenset())
    assert sizes.sampled(10).tolist() == [0, 2, 5, 7]
    assert sizes.sampled(3).tolist() == [0, 1, 2]
