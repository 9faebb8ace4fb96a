"""The commands as a user runs them: outputs, exit codes, one line for every error."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import heads
from cli.main import COMMANDS, main
from featbank import Bank, BankWriter
from tests.banks import plan, splits, write_bank, write_npz

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def featbank(*args: Any) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)


def refused(code: int, *args: Any) -> str:
    """Run what must fail; return its line, which must be the only one."""
    done = featbank(*args)
    assert done.exit_code == code, done.output
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("Error: ")
    assert "Traceback" not in done.output
    if code != 2:
        assert len(done.stderr.strip().splitlines()) == 1
    return line


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bank(tmp_path_factory.mktemp("cli") / "bank.zarr").path


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented_and_helpful(name: str) -> None:
    assert f"featbank {name}" in README
    done = featbank(name, "--help")
    assert done.exit_code == 0
    assert COMMANDS[name][1] in " ".join(done.output.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_loads_nothing_heavy(name: str) -> None:
    heavy = "{'torch', 'timm', 'sklearn', 'faiss', 'torchvision', 'zarr', 'scipy'}"
    code = (
        "import sys; from cli.main import main\n"
        f"try: main(['{name}', '--help'])\n"
        f"except SystemExit: print(sorted({heavy} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_import_then_info_tell_the_same(tmp_path: Path) -> None:
    done = featbank("import", write_npz(tmp_path / "f.npz"), "--out", tmp_path / "bank")
    assert done.exit_code == 0
    assert "train 228, val 100, test 200; D = 12, C = 5" in done.output
    facts = json.loads(featbank("info", tmp_path / "bank", "--json", "-").stdout)
    again = featbank(
        "import", tmp_path / "f.npz", "--out", tmp_path / "bank", "--overwrite", "--json", "-"
    )
    assert json.loads(again.stdout) == facts
    assert facts["splits"]["train"] == {"rows": 228, "skipped": 0, "views": 0}
    assert facts["class_counts"] == [120, 60, 30, 12, 6]
    assert (facts["dim"], facts["dtype"], facts["classifier"]) == (12, "float32", False)
    shown = featbank("info", tmp_path / "bank").stdout
    assert "1 many (> 100 training rows), 2 medium, 2 few (< 20)" in shown
    featbank("import", tmp_path / "f.npz", "--out", tmp_path / "b", "--shots", "50,10")
    assert Bank.open(tmp_path / "b").shots.many_above == 50


def test_fit_writes_heads_results_and_a_table(bank: Path, tmp_path: Path) -> None:
    names = ["joint", "ncm", "tau", "crt", "lws"]
    wanted = [word for name in names for word in ("--head", name)]
    done = featbank("fit", bank, *wanted, "--out", tmp_path / "heads", "--device", "cpu", "--quiet")
    assert done.exit_code == 0
    results = json.loads((tmp_path / "heads" / "results.json").read_text())
    assert results["schema"] == 1
    assert [(r["head"], r["split"]) for r in results["results"]] == [(n, "test") for n in names]
    X, y = splits()["test"]
    for entry in results["results"]:
        head = heads.load(tmp_path / "heads" / f"{entry['head']}.head")
        per_class = [np.mean(head.predict(X)[y == c] == c) for c in range(5)]
        assert entry["metrics"]["all"] == pytest.approx(np.mean(per_class))
        assert entry["ci95"]["all"][0] <= entry["metrics"]["all"] <= entry["ci95"]["all"][1]
        assert f"{100 * entry['metrics']['few']:.1f}" in done.stdout
        assert (entry["selected_on"] == "val") == (entry["head"] in ("tau", "crt"))
    tried = [c for c in results["candidates"] if c["head"] == "tau"]
    assert len(tried) in (21, 22)
    assert {c["split"] for c in tried} == {"val"}
    best = max(c["metrics"]["all"] for c in tried)
    tau = next(r for r in results["results"] if r["head"] == "tau")
    chosen = next(c for c in tried if c["params"]["tau"] == tau["params"]["tau"])
    assert chosen["metrics"]["all"] <= best <= tau["selection"]["maximum"]["value"] + 1e-9


def test_a_fixed_tau_is_not_chosen(bank: Path, tmp_path: Path) -> None:
    done = featbank(
        "fit",
        bank,
        "--head",
        "tau:tau=0.7",
        "--head",
        "tau",
        "--out",
        tmp_path / "h",
        "--json",
        "-",
    )
    first, second = json.loads(done.stdout)["results"]
    assert (first["params"]["tau"], first["selected_on"]) == (0.7, None)
    assert second["selected_on"] == "val"
    assert {p.name for p in (tmp_path / "h").iterdir()} == {
        "results.json", "tau.head", "tau-2.head",
    }  # fmt: skip


def test_same_seed_same_results(bank: Path, tmp_path: Path) -> None:
    def run(out: Path) -> dict[str, Any]:
        args = ["--head", "crt", "--head", "lws", "--seed", "3", "--json", "-", "--quiet"]
        found = json.loads(featbank("fit", bank, *args, "--out", out).stdout)
        for entry in found["results"]:
            entry.pop("fit_seconds")
        return dict(found)

    assert run(tmp_path / "a") == run(tmp_path / "b")


def test_heads_without_a_stage_1_classifier_fit_their_own_and_say_so(tmp_path: Path) -> None:
    write_bank(tmp_path / "bank", classifier=False)
    done = featbank("fit", tmp_path / "bank", "--head", "tau", "--out", tmp_path / "h")
    assert done.exit_code == 0
    assert "no stage-1 classifier: fitting a linear one first" in done.stderr


def test_without_val_nothing_is_chosen(tmp_path: Path) -> None:
    write_npz(tmp_path / "f.npz", val_features=None, val_labels=None)
    featbank("import", tmp_path / "f.npz", "--out", tmp_path / "bank")
    done = featbank(
        "fit", tmp_path / "bank", "--head", "tau", "--out", tmp_path / "h", "--json", "-"
    )
    (entry,) = json.loads(done.stdout)["results"]
    assert (entry["split"], entry["selected_on"], entry["params"]["tau"]) == ("test", None, 1.0)
    line = refused(2, "sweep", tmp_path / "bank")
    assert "has no val split; name the split to choose on with --select" in line


def test_choosing_on_the_reported_split_must_be_asked_for_and_is_marked(
    bank: Path, tmp_path: Path
) -> None:
    both = ["--select", "test", "--report", "test"]
    done = featbank("fit", bank, "--head", "tau", "--out", tmp_path / "h", *both)
    assert "test (REPORTED)" in done.stdout
    assert "test (REPORTED)" in featbank("sweep", bank, *both).stdout
    only = featbank(
        "fit", bank, "--head", "tau", "--out", tmp_path / "v", "--report", "val", "--json", "-"
    )
    (entry,) = json.loads(only.stdout)["results"]
    assert (entry["split"], entry["selected_on"]) == ("val", None)


def test_sweep_reports_the_chosen_point_and_both_curves(bank: Path, tmp_path: Path) -> None:
    done = featbank("sweep", bank, "--json", tmp_path / "sweep.json")
    assert "<- chosen" in done.stdout
    found = json.loads((tmp_path / "sweep.json").read_text())
    shown = [line.split()[0] for line in done.stdout.splitlines() if line.strip()[:1].isdigit()]
    tenths = [f"{step / 10:g}" for step in range(21)]
    assert sorted(set(shown) - {f"{found['select']['best']:g}"}, key=float) == [
        tau for tau in tenths if tau != f"{found['select']['best']:g}"
    ]
    some = featbank("sweep", bank, "--grid", "0:1:0.25").stdout
    assert [line.split()[0] for line in some.splitlines() if line.strip()[:1].isdigit()] == [
        "0", "0.25", "0.5", "0.75", "1",
    ]  # fmt: skip
    assert set(found["curves"]) == {"val", "test"}
    best = found["select"]["best"]
    assert [point["tau"] for point in found["curves"]["val"]] == sorted(
        {*(round(t / 20, 2) for t in range(41)), best}
    )
    at = {name: next(p for p in c if p["tau"] == best) for name, c in found["curves"].items()}
    low, high = found["select"]["maximum"]["interval"]
    assert 0 <= low < high <= 2
    assert (
        max(p["all"] for p in found["curves"]["val"]) <= found["select"]["maximum"]["value"] + 1e-9
    )
    assert found["report"]["metrics"]["all"] == at["test"]["all"]
    coarse = json.loads(featbank("sweep", bank, "--grid", "0:1:0.5", "--json", "-").stdout)
    assert [point["tau"] for point in coarse["curves"]["test"]] == [0, 0.5, 1]


def test_the_exact_sweep_agrees_with_the_grid_and_shows_every_step_when_asked(bank: Path) -> None:
    exact = json.loads(featbank("sweep", bank, "--range", "0:1.5", "--full", "--json", "-").stdout)
    grid = json.loads(featbank("sweep", bank, "--grid", "0:1.5:0.05", "--json", "-").stdout)
    for split in ("val", "test"):
        points = {point["tau"]: point for point in exact["curves"][split]}
        for point in grid["curves"][split]:
            assert point == {key: points[point["tau"]][key] for key in point}
        steps = exact["steps"][split]
        assert len(steps["edges"]) == len(steps["all"]) + 1 == len(steps["few"]) + 1
    assert max(exact["steps"]["val"]["all"]) == exact["select"]["maximum"]["value"]
    named = json.loads(
        featbank("sweep", bank, "--rule", "maximum", "--head", "logit-adjust", "--json", "-").stdout
    )
    low, high = named["select"]["maximum"]["interval"]
    assert (named["head"], named["select"]["rule"]) == ("logit-adjust", "maximum")
    assert low - 1e-4 <= named["select"]["best"] <= high + 1e-4
    assert "its exact curve needs no --grid" in refused(
        2, "sweep", bank, "--head", "logit-adjust", "--grid", "0:1:1"
    )
    assert "give a --grid" in refused(2, "sweep", bank, "--head", "tau:bias=keep")


def test_bad_input_is_one_line_and_an_exit_code(bank: Path, tmp_path: Path) -> None:
    assert "no bank at" in refused(3, "info", tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "is not a bank" in refused(4, "info", tmp_path / "empty")
    fit = ["fit", bank, "--out", tmp_path / "h", "--head"]
    assert "unknown head 'crtt' (did you mean crt?)" in refused(3, *fit, "crtt")
    assert "head 'tau' has no parameter 'tua' (did you mean tau?)" in refused(3, *fit, "tau:tua=1")
    assert "tau must be a number. Got 'x'" in refused(3, *fit, "tau:tau=x")
    assert not (tmp_path / "h").exists()
    assert "bank.zarr has only train, val, test" in refused(2, *fit, "ncm", "--report", "dev")
    assert "is not there" in refused(3, *fit, "ncm", "--device", "cuda:77")
    assert "has only" in refused(2, "sweep", bank, "--select", "dev")
    assert "only tau and logit-adjust have a parameter to sweep" in refused(
        2, "sweep", bank, "--head", "ncm"
    )
    assert "the most" in refused(2, "sweep", bank, "--grid", "0:2:0.000001")
    sweep = ["sweep", bank, "--head"]
    assert "has no parameter 'taus'" in refused(3, *sweep, "tau:taus=1")
    assert "has no parameter 'bias'" in refused(3, *sweep, "logit-adjust:bias=drop")
    words = "bias must be one of: drop, keep"
    assert words in refused(3, *sweep, "tau:bias=kept", "--grid", "0:1:0.5")
    for ends in ("-1:1", "1:1"):
        assert "LOW is at least 0" in refused(2, "sweep", bank, f"--range={ends}")
    assert "no command 'fitt'; did you mean fit?" in refused(2, "fitt")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    line = refused(3, "fit", bank, "--head", "ncm", "--out", tmp_path / "full")
    assert "exists and is not empty" in line


def test_damage_is_exit_code_4(tmp_path: Path) -> None:
    path = write_bank(tmp_path / "bank").path
    chunk = path / "train/features/c/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"\0\0")
    line = refused(4, "fit", path, "--head", "ncm", "--out", tmp_path / "h")
    assert "rows 0 to 227 are damaged" in line


def test_control_characters_in_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    line = refused(3, "info", tmp_path / "\x1b[31mred")
    assert "\x1b" not in line
    assert "\\x1b" in line


def test_a_bug_says_so_and_debug_shows_it(bank: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featbank.bank.facts.bank_facts", lambda _bank: 1 / 0)
    assert "internal error, please report it" in refused(1, "info", bank)
    done = featbank("info", bank, "--debug")
    assert done.exit_code == 1
    assert "Traceback" in done.stderr


def test_too_little_memory_is_no_bug(
    bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crt = "crt:solver=sgd,epochs=1000000000000"
    line = refused(3, "fit", bank, "--head", crt, "--out", tmp_path / "h")
    assert "epochs=1000000000000" in line
    monkeypatch.setattr("featbank.bank.facts.bank_facts", lambda _bank: np.empty(1 << 55))
    assert "too little memory for what was asked" in refused(3, "info", bank)


def test_verify_names_damage_and_exits_with_4(tmp_path: Path) -> None:
    path = write_bank(tmp_path / "bank").path
    assert "sound" in featbank("verify", path, "--quiet").stdout
    (path / ".DS_Store").touch()
    assert "is no part of the bank; it is ignored" in featbank("verify", path, "--quiet").stdout
    chunk = path / "val/features/c/0/0"
    chunk.write_bytes(b"\0" + chunk.read_bytes()[1:])
    done = featbank("verify", path, "--quiet", "--json", "-")
    assert done.exit_code == 4
    found = json.loads(done.stdout)
    assert found["sound"] is False
    assert found["findings"] == [f"{chunk} is not what was written: val/features, rows 0 to 99"]
    assert "damaged in 1 places; run the extraction or import" in done.stderr


def test_a_saved_head_is_evaluated_on_its_own_features_only(bank: Path, tmp_path: Path) -> None:
    featbank("fit", bank, "--head", "ncm", "--out", tmp_path / "h", "--quiet")
    head = tmp_path / "h" / "ncm.head"
    fitted = json.loads((tmp_path / "h/results.json").read_text())["results"][0]
    (found,) = json.loads(featbank("evaluate", bank, head, "--json", "-").stdout)["results"]
    assert found["metrics"] == fitted["metrics"]
    assert found["ci95"] == fitted["ci95"]
    other = featbank("evaluate", bank, head, "--seed", "1", "--quiet", "--json", "-")
    assert other.stderr == ""
    assert json.loads(other.stdout)["results"][0]["ci95"] != fitted["ci95"]
    assert (found["head"], found["params"]) == (fitted["head"], fitted["params"])
    write_bank(tmp_path / "other", provenance={"checkpoint": "another"})
    line = refused(5, "evaluate", tmp_path / "other", head)
    assert "was fitted on other features than those of" in line
    assert "checkpoint differ" in line
    write_bank(tmp_path / "names", class_names=list("abcde"))
    assert "was fitted on other classes" in refused(5, "evaluate", tmp_path / "names", head)
    raw = bytearray(head.read_bytes())
    raw[-5] ^= 1
    head.write_bytes(raw)
    assert "ncm.head" in refused(4, "evaluate", bank, head)


def test_info_of_an_unfinished_bank_says_how_far_it_got(tmp_path: Path) -> None:
    with BankWriter.begin(tmp_path / "bank", plan()) as writer:
        writer.put("train", 0, splits()["train"][0])
    line = refused(4, "info", tmp_path / "bank")
    assert "is an unfinished bank, 1 of 3 chunks of features written" in line


def test_export_and_import_are_inverse(bank: Path, tmp_path: Path) -> None:
    assert featbank("export", bank, "--out", tmp_path / "f.npz", "--quiet").exit_code == 0
    featbank("import", tmp_path / "f.npz", "--out", tmp_path / "again", "--quiet")
    first, second = Bank.open(bank), Bank.open(tmp_path / "again")
    assert first.manifest.rows == second.manifest.rows
    line = refused(2, "import", tmp_path / "f.npz", "--out", tmp_path / "b", "--map", "nonsense")
    assert "write NAME=THEIRS" in line


def test_extract_has_the_librarys_defaults() -> None:
    """Otherwise a bank made from Python is another one to the command, and the reverse."""
    from cli.commands.extract import command
    from featbank.extraction.extract import extract

    valued = [param for param in command.params if not getattr(param, "is_flag", False)]
    ours = {param.name: param.default for param in valued}
    theirs = {name: p.default for name, p in inspect.signature(extract).parameters.items()}
    shared = ours.keys() & theirs.keys() - {"data", "out"}
    assert {"batch_size", "dtype", "which", "workers", "on_bad_image"} <= shared
    assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}


def imported(folder: Path, **changes: Any) -> Path:
    """Import a bank of blobs, with some arrays of its file changed; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    file = write_npz(folder / "f.npz", **changes)
    done = featbank("import", file, "--out", folder / "bank.zarr", "--quiet")
    assert done.exit_code == 0, done.output
    return folder / "bank.zarr"


def with_splits(folder: Path, *names: str) -> Path:
    """Import a bank whose held-out splits have these names; val's rows serve for each but test."""
    changes: dict[str, Any] = dict.fromkeys(
        f"{split}_{what}" for split in ("val", "test") for what in ("features", "labels")
    )
    for name in names:
        X, y = splits()["test" if name == "test" else "val"]
        changes |= {f"{name}_features": X, f"{name}_labels": y}
    return imported(folder, **changes)


def rows_of(split: str, classes: list[int]) -> dict[str, Any]:
    """Return the rows of some classes only, of a split of the blobs."""
    X, y = splits()[split]
    there = np.isin(y, classes)
    return {f"{split}_features": X[there], f"{split}_labels": y[there]}


def fitted(bank: Path, out: Path, *args: Any) -> tuple[dict[str, Any], str]:
    """Fit tau and crt; return the results and what was printed, in one line."""
    heads = ["--head", "tau", "--head", "crt", "--head", "ncm"]
    done = featbank("fit", bank, *heads, "--out", out, "--device", "cpu", "--quiet", *args)
    assert done.exit_code == 0, done.output
    return json.loads((out / "results.json").read_text()), " ".join(done.stdout.split())


@pytest.mark.parametrize("name", ["validation", "VALID", "Dev", "Val", "development"])
def test_a_split_that_is_val_by_another_name_chooses_and_is_not_reported(
    tmp_path: Path, name: str
) -> None:
    bank = with_splits(tmp_path, name, "test")
    found, printed = fitted(bank, tmp_path / "h")
    assert {entry["split"] for entry in found["results"]} == {"test"}
    assert [e["selected_on"] for e in found["results"]] == [name, name, None]
    assert f" {name} " in printed
    plain, _ = fitted(with_splits(tmp_path / "val", "val", "test"), tmp_path / "v")
    for ours, theirs in zip(found["results"], plain["results"], strict=True):
        assert (ours["params"], ours["metrics"]) == (theirs["params"], theirs["metrics"])
    swept = json.loads(featbank("sweep", bank, "--json", "-").stdout)
    assert (swept["select"]["split"], swept["report"]["split"]) == (name, "test")
    (entry,) = json.loads(
        featbank("evaluate", bank, tmp_path / "h/tau.head", "--json", "-").stdout
    )["results"]
    assert entry["split"] == "test"


@pytest.mark.parametrize("name", ["testing", "holdout", "eval", "valence", "new_val"])
def test_a_split_of_any_other_name_is_reported(tmp_path: Path, name: str) -> None:
    found, printed = fitted(with_splits(tmp_path, name, "test"), tmp_path / "h")
    assert {entry["split"] for entry in found["results"]} == {"test", name}
    line = "no val split: tau=1 of tau, weight_decay=0.003 of crt are defaults"
    assert line in printed
    assert line in found["notes"]
    of_tau = next(entry for entry in found["results"] if entry["head"] == "tau")
    assert of_tau["notes"] == ["no val split: tau=1 of tau is the default"]


def test_val_chooses_where_there_are_others_and_two_others_have_to_be_told_apart(
    tmp_path: Path,
) -> None:
    found, printed = fitted(with_splits(tmp_path / "1", "val", "valid", "test"), tmp_path / "h")
    assert {entry["split"] for entry in found["results"]} == {"test"}
    assert "note: valid is not used; --select or --report can name it" in printed

    two = with_splits(tmp_path / "2", "validation", "dev", "test")
    for command in (["fit", two, "--head", "tau", "--out", tmp_path / "x"], ["sweep", two]):
        line = refused(2, *command)
        assert "has dev and validation; name the one to choose on with --select" in line
    assert "name the one" in refused(2, "compare", two, "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    found, _ = fitted(two, tmp_path / "d", "--report", "dev")
    assert {(e["split"], e["selected_on"]) for e in found["results"]} == {
        ("dev", "validation"), ("dev", None),
    }  # fmt: skip
    done = featbank("evaluate", two, tmp_path / "d/tau.head", "--json", "-")
    assert [e["split"] for e in json.loads(done.stdout)["results"]] == ["test"]

    none = with_splits(tmp_path / "3", "val", "validation")
    assert "name the one to choose on" in refused(
        2, "fit", none, "--head", "tau", "--out", tmp_path / "x"
    )
    found, _ = fitted(none, tmp_path / "n", "--select", "val")
    assert {entry["split"] for entry in found["results"]} == {"validation"}


def test_a_lonely_split_that_is_val_by_another_name_is_reported_and_chooses_nothing(
    tmp_path: Path,
) -> None:
    found, printed = fitted(with_splits(tmp_path, "valid"), tmp_path / "h")
    assert {(e["split"], e["selected_on"]) for e in found["results"]} == {("valid", None)}
    assert "note: valid is reported: tau=1 of tau" in printed
    found, printed = fitted(with_splits(tmp_path / "t"), tmp_path / "t/h")
    assert {entry["split"] for entry in found["results"]} == {"train"}
    assert "train is reported, the rows that heads are fitted on" in printed


@pytest.mark.parametrize("classes", [[0, 1], [1, 2, 3, 4]])
def test_a_split_that_lacks_classes_is_said_so(tmp_path: Path, classes: list[int]) -> None:
    said = f"val has rows of {len(classes)} of 5 classes; parameters are chosen on those"
    bank = imported(tmp_path / "val", **rows_of("val", classes))
    found, printed = fitted(bank, tmp_path / "h")
    assert f"note: {said}" in printed
    assert found["notes"][0] == said
    assert [said in entry["notes"] for entry in found["results"]] == [True, True, False]
    assert f"note: {said}" in " ".join(featbank("sweep", bank).stdout.split())
    assert json.loads(featbank("sweep", bank, "--json", "-").stdout)["notes"][0] == said
    done = featbank("compare", bank, "--head", "tau", "--out", tmp_path / "c")
    assert f"note: bank: {said}" in " ".join(done.stdout.split())
    (entry,) = json.loads((tmp_path / "c/compare.json").read_text())["results"]
    assert said in entry["notes"]
    done = featbank("evaluate", bank, tmp_path / "h/tau.head", "--json", "-")
    assert json.loads(done.stdout)["notes"][0].endswith(f"tau.head: {said}")


def test_a_reported_split_that_lacks_classes_is_said_so(tmp_path: Path) -> None:
    bank = imported(tmp_path / "test", **rows_of("test", [0, 3]))
    said = "test has rows of 2 of 5 classes, so `all` is a mean of 2 (medium: 0 of 2, few: 1 of 2)"
    found, printed = fitted(bank, tmp_path / "h")
    assert said in printed
    for entry in found["results"]:
        assert entry["notes"][-1] in found["notes"]
        assert "`all` is a mean of 2" in entry["notes"][-1]
    done = featbank("evaluate", bank, tmp_path / "h/ncm.head")
    assert "`all` is a mean of 2" in " ".join(done.stdout.split())
    _, printed = fitted(imported(tmp_path / "all"), tmp_path / "h2")
    assert "has rows of" not in printed


def test_nothing_is_chosen_on_a_split_of_one_class(tmp_path: Path) -> None:
    bank = imported(tmp_path, **rows_of("val", [3]))
    found, printed = fitted(bank, tmp_path / "h")
    assert [entry["selected_on"] for entry in found["results"]] == [None, None, None]
    assert found["results"][0]["params"]["tau"] == 1
    assert "note: val has rows of 1 of 5 classes: nothing is chosen on it" in printed
    assert "note: val has rows of 1 of 5 classes: tau=1 of tau, weight_decay=0.003" in printed
    assert "cannot be swept: val has rows of 1 of 5 classes" in refused(2, "sweep", bank)
    lists = ["--head", "tau:tau=[0,1]", "--out", tmp_path / "x"]
    line = refused(3, "fit", bank, *lists)
    assert "lists 2 heads, and val has rows of 1 of 5 classes: give single values" in line


def test_a_head_evaluated_on_the_split_that_chose_it_is_marked(bank: Path, tmp_path: Path) -> None:
    fitted(bank, tmp_path / "h")
    files = [tmp_path / "h" / name for name in ("tau.head", "ncm.head")]
    done = featbank("evaluate", bank, *files, "--report", "val")
    rows = [line for line in done.stdout.splitlines() if re.search(r"\.head +val", line)]
    assert ["(REPORTED)" in row for row in rows] == [True, False]
    assert "were chosen on val, the REPORTED split" in " ".join(done.stdout.split())
    assert "REPORTED" not in featbank("evaluate", bank, *files).stdout


def test_choosing_on_the_reported_split_is_said_in_notes_and_at_the_chosen_row(
    bank: Path, tmp_path: Path
) -> None:
    both = ["--select", "test", "--report", "test"]
    said = "parameters are chosen on test, the REPORTED split"
    found, printed = fitted(bank, tmp_path / "h", *both)
    assert said in found["notes"]
    assert f"note: {said}" in printed
    assert [said in entry["notes"] for entry in found["results"]] == [True, True, False]
    assert "<- chosen (REPORTED)" in featbank("sweep", bank, *both).stdout
    assert said in json.loads(featbank("sweep", bank, *both, "--json", "-").stdout)["notes"]
    _, printed = fitted(bank, tmp_path / "t", "--select", "train")
    assert "chosen on train, the rows that heads are fitted on" in printed


def test_intervals_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    X, y = splits()["test"]
    ids = np.array([f"{row}.png" for row in range(len(y))])
    order = np.random.default_rng(0).permutation(len(y))
    found = [
        fitted(
            imported(tmp_path / name, test_features=X[by], test_labels=y[by], test_ids=ids[by]),
            tmp_path / name / "h",
        )[0]["results"]
        for name, by in (("a", np.arange(len(y))), ("b", order))
    ]
    for one, other in zip(*found, strict=True):
        assert one["ci95"] == other["ci95"]


def test_a_parameter_at_the_end_of_what_was_tried_is_said_so(bank: Path, tmp_path: Path) -> None:
    done = featbank(
        "fit", bank, "--head", "tau:tau=[5,6,7,8]", "--head", "crt:weight_decay=[50,100,200]",
        "--head", "crt:solver=sgd,epochs=1,seed=[1,2,3]", "--out", tmp_path / "h", "--quiet",
    )  # fmt: skip
    printed = " ".join(done.stdout.split())
    assert "note: tau:tau=[5,6,7,8]: tau=5 is the end of the range 5..8" in printed
    assert re.search(r"weight_decay=\d+ is the end of the range 50\.\.200", printed)
    assert "seed=" not in printed.partition("note:")[2].replace("seed=[", "")
    swept = json.loads(featbank("sweep", bank, "--grid", "4:7:1", "--json", "-").stdout)
    assert swept["notes"] == ["tau=4 is the end of the range 4..7"]
    assert (
        json.loads(featbank("sweep", bank, "--range", "0:3", "--json", "-").stdout)["notes"] == []
    )
