"""Every benchmark runs, has the one form, and fails where a result is wrong.

Benchmarks and experiments use public names alone.
"""

import ast
import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import common
from benchmarks.common import Row, in_turn, same
from heads import NearestClassMean

ROOT = Path(__file__).parent.parent
SHARED = ("banks", "common", "features")
BENCHMARKS = sorted(
    path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem not in SHARED
)

EXPERIMENTS = sorted(path.stem for path in (ROOT / "experiments").glob("*.py"))


@pytest.mark.parametrize(
    "name",
    [f"benchmarks.{name}" for name in (*BENCHMARKS, *SHARED)]
    + [f"experiments.{name}" for name in EXPERIMENTS],
)
def test_only_public_names_are_used(name: str) -> None:
    """No part of the command line, nothing of how a study is made, no name with an underscore."""
    importlib.import_module(name)
    source = ROOT.joinpath(*name.split(".")).with_suffix(".py").read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            for alias in node.names:
                parts = f"{module}.{alias.name}".split(".") if module else alias.name.split(".")
                assert parts[0] != "cli", parts
                assert parts[:2] not in (["featbank", "study"], ["featbank", "comparing"]), parts
                assert module == "__future__" or not any(p.startswith("_") for p in parts), parts


def test_make_bench_runs_all_of_them() -> None:
    named = re.search(r"^BENCHMARKS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert named is not None
    assert sorted(named[1].split()) == BENCHMARKS


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_prints_one_table_with_its_peer_and_keeps_it(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    out = tmp_path / "new" / "table.md"
    torch.set_num_threads(1)  # many threads wait for each other at these sizes

    module.main(["--small", "--out", str(out)])

    text = out.read_text()
    assert capsys.readouterr().out == text
    command, empty, header, rule, *rows = text.splitlines()
    assert command.startswith(f"`python -m benchmarks.{name} --small`")
    assert not empty
    assert header == common.joined(common.HEADER)
    assert rule == common.joined(["---"] * len(common.HEADER))
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert {len(row) for row in cells} == {len(common.HEADER)}
    for what, shape, median, peer, ratio, _ in cells:
        assert (peer, shape) in {(row[0], row[1]) for row in cells}, f"{what}: no peer in the table"
        assert float(median) > 0
        assert float(ratio.split()[0]) > 0
    assert any(row[0] != row[3] for row in cells)


def test_a_benchmark_fails_where_a_result_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    right = NearestClassMean.fit

    def wrong(self: NearestClassMean, X: object, y: object) -> NearestClassMean:
        fitted = right(self, X, y)
        fitted.centroids_[0] += 1e-3
        return fitted

    monkeypatch.setattr(NearestClassMean, "fit", wrong)
    module = importlib.import_module("benchmarks.ncm")
    with pytest.raises(AssertionError, match=r"means: differs by 0\.001"):
        module.main(["--small"])


def test_a_difference_above_the_tolerance_fails_and_one_below_is_told() -> None:
    assert same("labels", np.zeros(2), np.array([0, 1e-7]), 1e-6) == "labels equal to 1.0e-07"
    with pytest.raises(AssertionError, match="labels: differs by 1, more than 0.5"):
        same("labels", np.zeros(2), np.ones(2), 0.5)
    with pytest.raises(AssertionError, match=r"labels: \(2,\) is not \(3,\)"):
        same("labels", np.zeros(2), np.ones(3), 9)


def test_a_ratio_is_taken_round_by_round() -> None:
    row = Row("ours", "2 x 3", (2.0, 3.0, 8.0), "theirs", (1.0, 1.0, 2.0), "the same")
    assert row.line() == "| ours | 2 x 3 | 3 | theirs | 3 (2 to 4) | the same |"
    once = Row("slow", "2 x 3", (9.0,), "theirs", (1.0, 3.0, 8.0))
    assert once.line() == "| slow | 2 x 3 | 9 | theirs | 3 |  |"


def test_works_run_in_turn_and_the_first_round_does_not_count() -> None:
    order: list[str] = []
    works = {name: (lambda name=name: order.append(name) or len(order)) for name in "ab"}
    seconds, results = in_turn(works, 2, clear=lambda: order.append("clear"))
    assert order == ["a", "clear", "b", "clear"] * 3
    assert [len(each) for each in seconds.values()] == [2, 2]
    assert results == {"a": 9, "b": 11}
