"""Specifications with lists: every combination fitted, chosen on val, evaluated once."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import heads
from cli.main import main
from featbank.results.records import Candidate, Selection
from featbank.study.ends import ends_of
from heads import metrics
from tests.banks import splits, write_bank, write_npz


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bank(tmp_path_factory.mktemp("grids") / "bank.zarr").path


def fit(bank: Path, out: Path, *specs: str, code: int = 0) -> Any:
    words = [word for spec in specs for word in ("--head", spec)]
    args = ["fit", bank, *words, "--out", out, "--device", "cpu", "--quiet"]
    done = CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)
    assert done.exit_code == code, done.output
    if code:
        (line,) = done.stderr.strip().splitlines()
        return line
    return json.loads((out / "results.json").read_text())


def val_all(head: heads.TauNorm) -> float:
    (X, y), counts = splits()["val"], [120, 60, 30, 12, 6]
    groups = metrics.ShotGroups(counts, metrics.Shots(50, 10))
    return float(metrics.evaluate(y, head.predict(X), groups)["all"])


def test_every_combination_is_a_candidate_and_the_best_on_val_is_evaluated_once(
    bank: Path, tmp_path: Path
) -> None:
    grid = "crt:solver=sgd,batch=32,epochs=2,lr=[0.001,0.05],weight_decay=[0,5e-4,50]"
    found = fit(bank, tmp_path / "out", grid)

    (entry,) = found["results"]
    assert (entry["head"], entry["split"], entry["selected_on"]) == ("crt", "test", "val")
    points = [(c["params"]["lr"], c["params"]["weight_decay"]) for c in found["candidates"]]
    assert points == [(lr, wd) for lr in (0.001, 0.05) for wd in (0.0, 5e-4, 50.0)]
    assert {c["split"] for c in found["candidates"]} == {"val"}
    X, y = splits()["train"]
    for (lr, decay), candidate in zip(points, found["candidates"], strict=True):
        alone = heads.ClassifierRetraining(
            "sgd", batch=32, epochs=2, lr=lr, weight_decay=decay
        ).fit(X, y)
        assert candidate["metrics"]["all"] == val_all(alone)
    best = max(c["metrics"]["all"] for c in found["candidates"])
    assert min(c["metrics"]["all"] for c in found["candidates"]) < best
    chosen = entry["selection"]["best"]
    assert {key: entry["params"][key] for key in chosen} == chosen
    assert (entry["selection"]["value"], entry["selection"]["points"]) == (best, 6)
    saved = heads.load(tmp_path / "out" / "crt.head")
    assert val_all(saved) == best


@pytest.mark.parametrize(
    ("spec", "keys", "n"),
    [
        ("ncm:transform=[un,l2n,cl2n],metric=[l2,cosine]", {"transform", "metric"}, 6),
        ("tau:tau=[0,0.5,1]", {"tau"}, 3),
        ("tau:bias=[drop,keep]", {"bias", "tau"}, None),
        ("crt:weight_decay=[0.001,0.1,0.01]", {"weight_decay"}, 3),
        ("crt:q=[0,1],weight_decay=[0.01,0.1]", {"q", "weight_decay"}, 4),
        ("crt:anchor=[zero,stage1]", {"anchor", "weight_decay"}, None),
        ("balanced-softmax:weight_decay=[0.1,0.01]", {"weight_decay"}, 2),
        ("lws:solver=sgd,lr=[0.01,0.1]", {"lr"}, 2),
        ("lws:weight_decay=[1e-4,1e-3]", {"weight_decay"}, 2),
        ("crt:solver=[sgd,exact]", {"solver"}, None),
    ],
)
def test_any_key_of_any_head_may_be_a_list(
    bank: Path, tmp_path: Path, spec: str, keys: set[str], n: int | None
) -> None:
    found = fit(bank, tmp_path / "out", spec)

    (entry,) = found["results"]
    assert entry["selected_on"] == "val"
    candidates = found["candidates"]
    assert keys <= set().union(*(set(c["params"]) for c in candidates))
    assert n is None or len(candidates) == n
    value = entry["selection"]["value"]
    assert value <= max(c["metrics"]["all"] for c in candidates) + 1e-12
    head = heads.load(tmp_path / "out" / f"{entry['head']}.head")
    assert val_all(head) == pytest.approx(value)


def test_seeds_are_averaged_and_the_first_is_kept(bank: Path, tmp_path: Path) -> None:
    found = fit(bank, tmp_path / "out", "crt:solver=sgd,epochs=2,lr=[1e-5,0.1],seed=[4,5,6]")

    (entry,) = found["results"]
    assert (entry["params"]["seed"], entry["params"]["lr"]) == (4, 0.1)
    assert entry["selection"]["seeds"] == 3
    values = [c["metrics"]["all"] for c in found["candidates"] if c["params"]["lr"] == 0.1]
    assert len(found["candidates"]) == 6
    assert len(values) == 3
    assert entry["selection"]["value"] == pytest.approx(sum(values) / 3)


def test_of_equal_neighbours_the_middle_one_is_taken(bank: Path, tmp_path: Path) -> None:
    rates = [1e-9, 2e-9, 3e-9, 4e-9, 5e-9]  # from the same start, nothing moves
    found = fit(bank, tmp_path / "out", f"lws:solver=sgd,lr={rates}".replace(" ", ""))

    assert len({c["metrics"]["all"] for c in found["candidates"]}) == 1
    assert found["results"][0]["selection"]["best"] == 3e-9


def test_a_yaml_file_may_hold_lists(bank: Path, tmp_path: Path) -> None:
    file = tmp_path / "head.yaml"
    file.write_text("name: ncm\ntransform: [un, cl2n]\nmetric: cosine\n")

    found = fit(bank, tmp_path / "out", str(file))

    assert [c["params"] for c in found["candidates"]] == [
        {"transform": "un"},
        {"transform": "cl2n"},
    ]


def test_a_list_of_one_is_that_value_and_needs_no_val(tmp_path: Path) -> None:
    write_npz(tmp_path / "f.npz", val_features=None, val_labels=None)
    args = ["import", str(tmp_path / "f.npz"), "--out", str(tmp_path / "bank")]
    assert CliRunner().invoke(main, args).exit_code == 0

    found = fit(tmp_path / "bank", tmp_path / "one", "crt:solver=sgd,lr=[0.05]")
    assert (found["results"][0]["params"]["lr"], found["candidates"]) == (0.05, [])
    for spec, n in (("crt:solver=sgd,lr=[0.05,0.1]", 2), ("crt:weight_decay=[1,0.1,0.01]", 3)):
        line = fit(tmp_path / "bank", tmp_path / "two", "ncm", spec, code=3)
        assert line == (
            f"Error: {spec} lists {n} heads, and there is no val split to choose on: "
            "give single values, or name a split with --select"
        )
        assert not (tmp_path / "two").exists()


def test_the_table_names_what_was_chosen(bank: Path, tmp_path: Path) -> None:
    args = ["fit", str(bank), "--head", "crt:solver=sgd,epochs=[1,2]", "--quiet"]
    done = CliRunner().invoke(main, [*args, "--out", str(tmp_path / "out")])

    assert "solver=sgd, epochs=" in done.stdout


def test_joint_is_fitted_at_a_weight_decay_only_where_stage_1_left_no_classifier(
    bank: Path, tmp_path: Path
) -> None:
    line = fit(bank, tmp_path / "a", "joint:weight_decay=[0.1,10]", code=3)
    assert "has stage 1's classifier, which joint takes as it is" in line

    bare = write_bank(tmp_path / "bare.zarr", classifier=False).path
    found = fit(bare, tmp_path / "b", "joint:weight_decay=[0.01,10]")

    X, y = splits()["train"]
    for candidate in found["candidates"]:
        alone = heads.JointClassifier(**candidate["params"]).fit(X, y)
        assert candidate["metrics"]["all"] == val_all(alone)
    assert len({c["metrics"]["all"] for c in found["candidates"]}) == 2


def point(**params: Any) -> Candidate:
    return Candidate(params, "val", {})


def test_ends_are_named_of_numbers_with_a_beyond() -> None:
    path = [point(weight_decay=decay) for decay in (0.1, 0.01, 0.001)]
    end = "weight_decay=0.1 is the end of the range 0.001..0.1"
    assert ends_of(Selection(best=0.1), path) == [end]
    assert ends_of(Selection(best=0.01), path) == []
    assert ends_of(Selection(best=0.1), path[:2]) == []  # of two, one is always an end
    assert ends_of(None, []) == []
    curve = [point(tau=tau) for tau in (0.0, 0.5, 1.0, 2.0)]
    reaches = Selection(best=1.0, maximum={"interval": [0.5, 2.0]})
    assert ends_of(reaches, curve) == ["the best values reach from tau=1 to the end of 0..2"]
    assert ends_of(replace(reaches, maximum={"interval": [0.5, 1.9]}), curve) == []
    words = [point(transform=name, seed=n) for n, name in enumerate(("un", "l2n", "cl2n"))]
    assert ends_of(Selection(grid=("transform", "seed"), best=words[0].params), words) == []
    inner = [point(q=q, weight_decay=d) for q in (0, 1) for d in (0.1, 0.2, 0.3 + q)]
    chosen = Selection(grid=("q",), best=1, then=Selection(best=1.3))
    assert ends_of(chosen, inner) == ["weight_decay=1.3 is the end of the range 0.1..1.3"]
    assert ends_of(replace(chosen, best=0, then=Selection(best=0.3)), inner) == [
        "weight_decay=0.3 is the end of the range 0.1..0.3"
    ]
