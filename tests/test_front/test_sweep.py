"""What `featbank.sweep` returns: a point, a table and a figure of its curves."""

import sys

import pytest
from matplotlib import pyplot

import featbank
from featbank import Sweep
from tests.banks import write_bank


@pytest.fixture(scope="module")
def curve(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return featbank.sweep(write_bank(tmp_path_factory.mktemp("sweep") / "bank.zarr").path, "tau")


def test_the_table_has_a_row_for_each_point_of_every_curve(curve: Sweep) -> None:
    rows = curve.records()
    assert [row["tau"] for row in rows] == [point["tau"] for point in curve.curves["val"]]
    for row in rows:
        for split in ("val", "test"):
            assert row[f"{split} all"] == curve.at(row["tau"], split)["all"]


def test_the_chosen_row_is_bold_in_a_paper(curve: Sweep) -> None:
    bold = [line for line in curve.to_latex().splitlines() if "mathbf" in line]
    assert len(bold) == 1
    assert float(bold[0].split("&")[0]) == round(curve.best, 2)


@pytest.mark.parametrize("metric", ["all", "few"])
def test_a_figure_shows_every_curve_and_the_chosen_value(
    metric: str, curve: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    axes = curve.plot(metric)
    *lines, chosen = axes.get_lines()
    for line, (split, points) in zip(lines, curve.curves.items(), strict=True):
        assert line.get_label() == split
        assert list(line.get_ydata()) == [100 * (point[metric] or 0) for point in points]
    assert set(chosen.get_xdata()) == {curve.best}
    assert metric in axes.get_ylabel()
    pyplot.close(axes.figure)


def test_a_figure_without_matplotlib_says_what_to_install(
    curve: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(featbank.FeatbankError, match=r"needs matplotlib: pip install"):
        curve.plot()
