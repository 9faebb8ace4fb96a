"""Figures for a paper."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cli.main import main
from featbank.report.data import collect
from featbank.report.figures import drawings, label, render, size_trend, write_figures
from tests.results_folder import Fake, write_results

NAMES = ("class $\\alpha", "a_b^c$$", "\x1b[2J")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fake = Fake(banks=("one",), heads=("joint", "ncm:metric=$x", "tau"), names=NAMES)
    return write_results(tmp_path_factory.mktemp("figures") / "out", fake)


def test_every_figure_is_written_as_pdf_and_png(folder: Path, tmp_path: Path) -> None:
    paths = write_figures(collect(folder), tmp_path)
    names = {f"{name}-one" for name in ("tau", "norms", "classes")} | {"comparison"}
    assert {path.name for path in paths} == {
        f"{name}.{k}" for name in names for k in ("pdf", "png")
    }
    for path in paths:
        assert path.read_bytes().startswith(b"%PDF" if path.suffix == ".pdf" else b"\x89PNG")


def test_the_same_numbers_give_the_same_bytes(folder: Path) -> None:
    name, draw = next(drawings(collect(folder)))
    assert dict(render(name, draw)) == dict(render(name, draw))


def test_a_name_is_no_formula_and_steers_nothing() -> None:
    assert [label(name) for name in NAMES] == ["class \\$\\alpha", "a_b^c\\$\\$", "\\x1b[2J"]


def test_without_matplotlib_the_command_says_how_to_get_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = CliRunner().invoke(main, ["report", str(folder), "--figures", str(tmp_path / "out")])
    assert done.exit_code == 3
    assert done.stderr == "Error: --figures needs matplotlib: pip install 'featbank[figures]'\n"


def test_figures_say_what_was_chosen_on_the_reported_split(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    folder = write_results(tmp_path, Fake(banks=("one",), heads=("joint", "ncm", "tau")))
    path = folder / "compare.json"
    honest = json.loads(path.read_text())
    seen = json.loads(path.read_text())
    seen["results"][2]["selected_on"] = "test"
    for found, marked in ((honest, False), (seen, True)):
        path.write_text(json.dumps(found))
        for name, draw in drawings(collect(folder)):
            axes = Figure().add_subplot()
            draw(axes)
            words = " ".join([axes.get_ylabel(), *axes.get_legend_handles_labels()[1]])
            assert ("REPORTED" in words or "chosen on it" in words) == marked, name


@pytest.mark.parametrize("n", [1, 7, 20, 95])
def test_accuracy_by_size_is_a_mean_over_runs_of_neighbours(
    n: int, rng: np.random.Generator
) -> None:
    counts, rows = rng.integers(1, 300, n), rng.integers(0, 4, n)
    rows[0] = 2
    hits = rng.integers(0, rows + 1)
    order = sorted((c for c in range(n) if rows[c]), key=lambda c: -counts[c])
    runs = [run for run in np.array_split(order, min(20, len(order))) if len(run)]
    sizes, values = size_trend(counts, hits, rows)
    assert np.allclose(sizes, [np.prod(counts[run] ** (1 / len(run))) for run in runs])
    assert np.allclose(values, [np.mean([hits[c] / rows[c] for c in run]) for run in runs])
