"""`featbank.fit`, `sweep` and `evaluate`, as a program or a notebook calls them."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

import featbank
from featbank import Bank, BankWriter, InputError, UsageError
from featbank.bank.rows import SplitRows
from featbank.runtime.progress import Reporter
from featbank.study.arrays import BankArrays
from tests.banks import COUNTS, plan, splits, write_bank
from tests.commands import featbank as run


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write_bank(tmp_path_factory.mktemp("front") / "bank.zarr").path)


def test_a_fit_is_what_the_command_writes(bank: Path, tmp_path: Path) -> None:
    run("fit", bank, "--head", "tau", "--head", "ncm", "--out", tmp_path / "heads")
    kept = json.loads((tmp_path / "heads" / "results.json").read_text())["results"]
    fits = featbank.fit(bank, ["tau", "ncm"])
    assert [fit.results[0].metrics for fit in fits] == [entry["metrics"] for entry in kept]
    assert [fit.results[0].params for fit in fits] == [entry["params"] for entry in kept]
    assert fits[0].interval == tuple(kept[0]["ci95"]["all"])


def test_a_saved_head_is_the_one_that_the_command_saves(bank: Path, tmp_path: Path) -> None:
    run("fit", bank, "--head", "tau", "--out", tmp_path / "heads")
    featbank.fit(bank, "tau").save(tmp_path / "tau.head")
    written = (tmp_path / "heads" / "tau.head").read_bytes()
    assert (tmp_path / "tau.head").read_bytes() == written


def test_the_head_is_a_classifier_that_can_be_cloned(bank: Path) -> None:
    fit = featbank.fit(bank, "crt")
    test = Bank.open(bank)["test"]
    features, labels = test.read(dtype="float32"), test.labels
    assert fit.head.score(features, labels) == pytest.approx(fit.metrics["micro"])
    assert type(clone(fit.head)) is type(fit.head)


@pytest.mark.parametrize("order", [["tau", "ncm"], ["ncm", "tau"]])
def test_seconds_of_a_head_do_not_hold_what_heads_share(
    order: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bank without a classifier lends its heads one, which is fitted before the first of them."""
    plain = write_bank(tmp_path / "plain.zarr", classifier=False).path
    fit_stand_in, slept = BankArrays.fitted_here, []

    def slow(arrays: BankArrays, reporter: Reporter) -> Any:
        if arrays.stand_in is None:
            time.sleep(1.0)
            slept.append(1.0)
        return fit_stand_in(arrays, reporter)

    monkeypatch.setattr(BankArrays, "fitted_here", slow)
    fits = featbank.fit(plain, order)
    assert slept == [1.0]
    assert all(fit.seconds is not None and fit.seconds < 1.0 for fit in fits)


def test_tables_in_every_form(bank: Path, tmp_path: Path) -> None:
    fits = featbank.fit(bank, ["ncm", "tau:tau=1"])
    text, latex = str(fits), fits.to_latex()
    best = max(fit.metrics["all"] for fit in fits)
    assert f"{100 * best:.1f}*" in text
    assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == 1
    assert rf"$\mathbf{{{100 * best:.1f}}}$" in latex
    assert f"<b>{100 * best:.1f}" in fits._repr_html_()
    assert fits.to_csv(tmp_path / "fits.csv") == (tmp_path / "fits.csv").read_text()
    assert fits.frame()["all"].max() == best
    assert [record["all"] for record in fits.records()] == [fit.metrics["all"] for fit in fits]


def test_a_comparison_over_seeds_has_plus_minus_in_latex(tmp_path: Path) -> None:
    banks = [write_bank(tmp_path / f"{n}.zarr", provenance={"seed": n}).path for n in "ab"]
    study = featbank.compare(banks, ["ncm", "tau:tau=1"], groups={"plain": ["a", "b"]}, draws=100)
    assert r"\pm" in study.to_latex()
    assert study._repr_html_().count("<table>") == 2
    assert study.to_csv().count("\n") == 5


def test_a_sweep_gives_the_exact_choice_and_its_curve(bank: Path) -> None:
    curve = featbank.sweep(bank, "tau")
    chosen = featbank.fit(bank, "tau")
    assert curve.best == chosen.head.tau
    assert curve.metrics["all"] == chosen.metrics["all"]
    assert set(curve.curves) == {"val", "test"}
    with pytest.raises(featbank.InputError, match="outside"):
        curve.at(17.0)


def test_a_split_that_is_not_there_is_named(bank: Path) -> None:
    with pytest.raises(UsageError, match="dev2"):
        featbank.fit(bank, "ncm", report="dev2")


def repeated_bank(path: Path, times: Any, *, classifier: bool) -> Bank:
    """Write a bank of blobs in which each training row comes so many times."""
    parts = {name: (X, y) for name, (X, y) in splits().items()}
    parts["train"] = tuple(np.repeat(part, times, axis=0) for part in parts["train"])
    rows = {
        name: SplitRows([f"{row}" for row in range(len(y))], y) for name, (_, y) in parts.items()
    }
    with BankWriter.begin(path, plan(rows=rows, classifier=classifier)) as writer:
        for name, start, stop in writer.missing():
            writer.put(name, start, parts[name][0][start:stop])
        writer.commit()
    return Bank.open(path)


@pytest.mark.parametrize("classifier", [True, False])
@pytest.mark.parametrize("spec", ["ncm", "crt", "crt:weight_decay=[0.01,0.1]", "joint", "tau"])
def test_sample_weights_reach_the_solver(tmp_path: Path, spec: str, classifier: bool) -> None:
    """Rows of weight 2 are rows that stand in the bank twice."""
    times = np.random.default_rng(0).integers(1, 3, sum(COUNTS))
    bank = repeated_bank(tmp_path / "bank", np.ones_like(times), classifier=classifier)
    longer = repeated_bank(tmp_path / "longer", times, classifier=classifier)
    weighted, repeated = featbank.fit(bank, spec, sample_weight=times), featbank.fit(longer, spec)
    test = bank["test"].read("float32")
    scores = [fit.head.decision_function(test) for fit in (weighted, repeated)]
    np.testing.assert_allclose(*scores, rtol=1e-3, atol=1e-3)
    assert any("training rows are weighted" in note for note in weighted.notes)
    assert not any("weighted" in note for note in repeated.notes)


def test_weights_that_are_not_of_the_training_rows_are_refused(bank: Path) -> None:
    n_rows = len(Bank.open(bank)["train"])
    for weights in (np.ones(n_rows - 1), np.ones((n_rows, 1)), ["1"] * n_rows):
        with pytest.raises(InputError, match=f"has {n_rows} training rows"):
            featbank.fit(bank, "ncm", sample_weight=weights)
    with pytest.raises(ValueError, match="sample_weight"):
        featbank.fit(bank, "ncm", sample_weight=np.full(n_rows, np.nan))
