"""`featbank compare` as a user runs it: the table, the folder, and what is not done again."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from cli.main import main
from featbank.bank.rows import SplitRows
from featbank.comparing.statistics import CellRows, cell_statistics, resampled, without_groups
from featbank.report.data import collect
from featbank.report.page import summary
from featbank.results.saved import read_record, write_record
from heads.metrics import Shots
from heads.metrics.holm import holm
from heads.metrics.mcnemar import mcnemar
from heads.metrics.unseen import unseen
from tests.banks import blobs, splits, write_bank, write_npz
from tests.commands import contents
from tests.results_folder import Fake, write_results

HEADS = ("joint", "ncm", "tau")
WANTED = [word for head in HEADS for word in ("--head", head)]


def featbank(*args: Any) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)


@pytest.fixture(scope="module")
def banks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("compare")
    return [
        write_bank(folder / f"{name}.zarr", provenance={"checkpoint": name}).path for name in "ab"
    ]


@pytest.fixture(scope="module")
def compared(banks: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, str]:
    out = tmp_path_factory.mktemp("compared") / "out"
    done = featbank("compare", *banks, *WANTED, "--out", out, "--device", "cpu", "--quiet")
    assert done.exit_code == 0
    return out, json.loads((out / "compare.json").read_text()), done.stdout


def test_compare_gives_what_fit_gives(
    banks: list[Path], compared: tuple[Path, Any, str], tmp_path: Path
) -> None:
    fitted = featbank("fit", banks[1], *WANTED, "--out", tmp_path / "h", "--json", "-")
    ours = [entry for entry in compared[1]["results"] if entry["bank_name"] == "b"]
    for want, got in zip(json.loads(fitted.stdout)["results"], ours, strict=True):
        for name in ("bank", "head", "params", "selected_on", "selection", "split", "metrics"):
            assert got[name] == want[name]


def test_every_file_of_the_format_is_there(compared: tuple[Path, Any, str]) -> None:
    out, found, _ = compared
    for entry in found["results"]:
        cell = out / "cells" / entry["cell"]
        with np.load(cell / "evaluation.npz") as file:
            arrays = dict(file)
        right = arrays["labels"] == arrays["predicted"]
        assert right.mean() == pytest.approx(entry["metrics"]["micro"])
        assert arrays["plane_grid"].shape == (64, 64)
        assert arrays["weight_norms"].shape == (5,)
        assert np.isnan(arrays["weight_norms"]).all() == (entry["head"] == "ncm")
        assert (cell / "head.head").is_file()
        assert json.loads((cell / "cell.json").read_text())["metrics"] == entry["metrics"]
        assert entry["calibration"]["nll_scaled"] == pytest.approx(arrays["nll"].mean(), rel=1e-6)
    for bank in found["banks"]:
        folder = out / "banks" / bank["slug"]
        assert json.loads((folder / "bank.json").read_text())["class_counts"][0] == 120
        with np.load(folder / "view.npz") as file:
            assert file["features2d"].shape == (200, 2)
        with np.load(folder / "curve-tau.npz") as file:
            assert file["parameter"].shape == file["test_all"].shape == (201,)


def again(banks: list[Path], out: Path, *more: Any) -> Result:
    """Compare into a folder that was compared into before."""
    done = featbank("compare", *banks, *WANTED, "--out", out, "--device", "cpu", *more)
    assert done.exit_code == 0, done.output
    return done


def stamps(out: Path) -> dict[str, int]:
    """Return when each cell's record was written."""
    return {file.parent.name: file.stat().st_mtime_ns for file in out.glob("cells/*/cell.json")}


@pytest.fixture
def copy(compared: tuple[Path, Any, str], tmp_path: Path) -> Path:
    return Path(shutil.copytree(compared[0], tmp_path / "out"))


def test_what_is_done_is_not_done_again_and_a_bank_more_costs_one_bank(
    banks: list[Path], compared: tuple[Path, Any, str], copy: Path, tmp_path: Path
) -> None:
    before = stamps(copy)
    assert again(banks, copy).stdout.replace(str(copy), "") == compared[2].replace(
        str(compared[0]), ""
    )
    assert stamps(copy) == before
    third = write_bank(tmp_path / "c.zarr", provenance={"checkpoint": "c"}).path
    again([*banks, third], copy)
    after = stamps(copy)
    assert {key: after[key] for key in before} == before
    assert len(after) == len(before) + 3
    found = json.loads((copy / "compare.json").read_text())
    assert found["results"][:6] == compared[1]["results"]  # a neighbour changes no number
    again(banks, copy, "--seed", "1")
    assert len(stamps(copy)) == len(after) + 6
    again(banks, copy, "--overwrite")
    assert all(stamps(copy)[key] > after[key] for key in before)


def test_a_head_may_be_written_in_another_order_the_next_time(
    banks: list[Path], copy: Path
) -> None:
    notes = copy / "notes.md"
    one = ["--head", "ncm:transform=l2n,metric=cosine"]
    first = featbank("compare", banks[0], *one, "--out", copy, "--markdown", notes)
    assert first.exit_code == 0, first.output
    before = stamps(copy)
    other = ["--head", "ncm:metric=cosine,transform=l2n"]
    again = featbank("compare", banks[0], *other, "--head", "joint", "--out", copy)
    assert again.exit_code == 0, again.output
    assert stamps(copy) == before
    found = json.loads((copy / "compare.json").read_text())
    assert [entry["spec"] for entry in found["results"]] == found["heads"]
    twice = featbank("compare", banks[0], *one, *other, "--out", copy)
    assert "is given twice" in twice.stderr


def test_all_seeds_are_drawn_in_one_plane(
    banks: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featbank.comparing.evaluating.VIEW_ROWS", 5)
    views = []
    for seed in (0, 1):
        out = tmp_path / str(seed)
        featbank("compare", banks[0], "--head", "ncm", "--seed", seed, "--out", out)
        views.append((out / "banks" / "a" / "view.npz").read_bytes())
    assert views[0] == views[1]


def test_a_second_run_loads_nothing_heavy(banks: list[Path], copy: Path) -> None:
    code = (
        "import sys; from cli.main import main\n"
        f"try: main({['compare', *map(str, banks), *WANTED, '--out', str(copy)]})\n"
        "except SystemExit as e: print(e.code, sorted("
        "{'torch', 'sklearn', 'scipy', 'heads.estimators.crt'}"
        " & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "0 []"


@pytest.mark.parametrize("name", ["evaluation.npz", "head.head", "cell.json"])
def test_a_damaged_cell_is_fitted_again_and_said_so(
    banks: list[Path], compared: tuple[Path, Any, str], copy: Path, name: str
) -> None:
    cell = copy / "cells" / compared[1]["results"][4]["cell"]
    raw = bytearray((cell / name).read_bytes())
    raw[len(raw) // 2] ^= 4
    (cell / name).write_bytes(raw)
    before = stamps(copy)
    done = again(banks, copy)
    assert f"{cell / name} is damaged or missing: ncm on b is fitted again" in done.stderr
    changed = {key for key, when in stamps(copy).items() if before[key] != when}
    assert changed == {cell.name}
    if name != "cell.json":
        assert (cell / name).read_bytes() == (compared[0] / "cells" / cell.name / name).read_bytes()
    assert "fitted again" not in again(banks, copy).stderr


def test_a_damaged_bank_record_and_table_are_made_again(
    banks: list[Path], compared: tuple[Path, Any, str], copy: Path
) -> None:
    (copy / "banks" / "a" / "view.npz").unlink()
    (copy / "compare.json").write_text("{}")
    before = stamps(copy)
    assert "view.npz is damaged or missing: it is made again" in again(banks, copy).stderr
    assert stamps(copy) == before
    assert json.loads((copy / "compare.json").read_text()) == compared[1]


def test_the_table_fits_80_columns_and_stars_the_best_of_each_row(tmp_path: Path) -> None:
    names = ["a-rather-long-name-of-a-checkpoint-that-somebody-chose.zarr", "b.zarr"]
    banks = [write_bank(tmp_path / n, provenance={"checkpoint": n}).path for n in names]
    heads = ["joint", "ncm", "ncm:transform=un,metric=cosine", "tau", "logit-adjust", "tau:tau=0.7"]
    wanted = [word for head in heads for word in ("--head", head)]
    done = featbank(
        "compare", *banks, *wanted, "--out", tmp_path / "o", "--groups", "--error", "--json",
        tmp_path / "new/o.json", "--markdown", tmp_path / "new/o.md",
    )  # fmt: skip
    assert done.exit_code == 0
    *lines, where = done.stdout.splitlines()
    assert where.startswith("everything is in")
    assert max(len(line) for line in lines) <= 80
    assert {line for line in lines if line.startswith(("accuracy", "top-1"))} == {
        "accuracy, mean over classes (`all`), in %",
        *(f"accuracy on {group}-shot classes, in %" for group in ("many", "medium", "few")),
        "top-1 error, in %",
    }
    found = json.loads((tmp_path / "new/o.json").read_text())
    for bank in found["banks"]:
        mine = [e for e in found["results"] if e["bank_name"] == bank["name"]]
        best = f"{100 * max(e['metrics']['all'] for e in mine):.1f}"
        assert f"{best}*" in done.stdout
        row = next(
            line
            for line in (tmp_path / "new/o.md").read_text().splitlines()
            if line.startswith(f"| {bank['name']} ") and f"**{best}**" in line
        )
        assert row.count("|") == len(heads) + 2
        low, high = mine[0]["ci95"]["all"]
        assert f"({100 * low:.1f} to {100 * high:.1f})" in row


def test_hostile_names_reach_neither_terminal_nor_markdown_raw(tmp_path: Path) -> None:
    name = "\x1b[31mred|<b>*x*\x9b1m\u202e\n.zarr"
    bank = write_bank(tmp_path / name).path
    out, page = tmp_path / "o", tmp_path / "o.md"
    done = featbank(
        "compare", bank, "--head", "joint", "--head", "ncm", "--out", out, "--markdown", page,
        "--group", f"s|={bank}", "--quiet",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    for text in (done.stdout, page.read_text()):
        assert not {"\x1b", "\x9b", "\u202e"} & set(text)
        assert "\\x1b" in text
    (row,) = (line for line in page.read_text().splitlines() if "red" in line)
    assert "\\|" in row
    assert "<b>" not in row.replace("\\<", "")
    assert row.replace("\\|", "").count("|") == 4
    (slug,) = (path.name for path in (out / "banks").iterdir())
    assert re.fullmatch(r"[A-Za-z0-9._-]+", slug)


def test_other_samples_are_compared_unpaired_and_said_so(banks: list[Path], tmp_path: Path) -> None:
    rows = {
        split: SplitRows([f"other/{row}" for row in range(len(y))], y)
        for split, (_, y) in splits().items()
    }
    other = write_bank(tmp_path / "other.zarr", rows=rows).path
    featbank("compare", banks[0], other, *WANTED, "--out", tmp_path / "o", "--quiet")
    found = json.loads((tmp_path / "o" / "compare.json").read_text())
    for each in found["comparisons"]:
        across = each["a"]["bank"] != each["b"]["bank"]
        assert each["paired"] == (not across)
        assert (each["p_mcnemar"] is None) == (each["p_mcnemar_adjusted"] is None) == across
    assert "different reported samples are compared unpaired" in found["notes"][0]
    assert "the same samples have" not in found["notes"][0]


def test_comparisons_agree_with_the_predictions_and_are_corrected(
    compared: tuple[Path, Any, str],
) -> None:
    out, found, _ = compared
    by_name = {(e["bank_name"], e["spec"]): e for e in found["results"]}
    assert len(found["comparisons"]) == 2 * 3 + 3
    for each in found["comparisons"]:
        a, b = (by_name[each[side]["bank"], each[side]["head"]] for side in "ab")
        assert each["difference"] == pytest.approx(a["metrics"]["all"] - b["metrics"]["all"])
        right = []
        for entry in (a, b):
            with np.load(out / "cells" / entry["cell"] / "evaluation.npz") as file:
                right.append(file["labels"] == file["predicted"])
        counts = (right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum()
        assert each["p_mcnemar"] == pytest.approx(mcnemar(*counts))
        assert each["ci95"][0] <= each["difference"] <= each["ci95"][1]
    raw, corrected = (
        [each[name] for each in found["comparisons"]] for name in ("p_bootstrap", "p_adjusted")
    )
    np.testing.assert_allclose(corrected, holm(raw))


def test_a_baseline_makes_fewer_comparisons(banks: list[Path], copy: Path) -> None:
    for head in ("joint", "tau"):
        again(banks, copy, "--baseline", head)
        found = json.loads((copy / "compare.json").read_text())["comparisons"]
        named = [(each["a"], each["b"]) for each in found]
        assert {b["head"] for a, b in named if a["bank"] == b["bank"]} == {head}
    for bank in "ab":
        again(banks, copy, "--baseline", bank)
        found = json.loads((copy / "compare.json").read_text())["comparisons"]
        across = [each for each in found if each["a"]["bank"] != each["b"]["bank"]]
        assert {each["b"]["bank"] for each in across} == {bank}
    done = featbank("compare", *banks, *WANTED, "--out", copy, "--baseline", "nobody")
    assert done.exit_code == 2
    assert "--baseline nobody is neither head nor bank; there are joint, ncm, tau, a, b" in (
        done.stderr
    )


def test_seeds_are_grouped_by_name_and_by_recipe(tmp_path: Path) -> None:
    banks = [
        write_bank(
            tmp_path / f"{sampler}{seed}.zarr",
            provenance={
                "checkpoint": sampler,
                "recipe": {"sampler": "class", "seed": seed, "init": {"sampler": sampler}},
            },
        ).path
        for sampler in ("instance", "class")
        for seed in (0, 1)
    ]  # fmt: skip
    group = f"mine={banks[0]},instance1"
    done = featbank(
        "compare", *banks, "--head", "joint", "--out", tmp_path / "o", "--group", group,
        "--group-seeds",
    )  # fmt: skip
    assert "mine" in done.stdout
    found = json.loads((tmp_path / "o" / "compare.json").read_text())
    groups = {each["name"]: each for each in found["groups"] if each["metric"] == "all"}
    assert {name: each["banks"] for name, each in groups.items()} == {
        "mine": ["instance0", "instance1"],
        "init.sampler=instance": ["instance0", "instance1"],
        "init.sampler=class": ["class0", "class1"],
    }
    values = [
        e["metrics"]["all"] for e in found["results"] if e["bank_name"].startswith("instance")
    ]
    assert groups["mine"]["mean"] == pytest.approx(np.mean(values))
    assert groups["mine"]["std"] == pytest.approx(np.std(values, ddof=1))


def test_bad_words_are_one_line(banks: list[Path], tmp_path: Path) -> None:
    def refused(code: int, *args: Any) -> str:
        done = featbank("compare", *args, "--out", tmp_path / "o")
        assert done.exit_code == code, done.output
        assert not (tmp_path / "o").exists()
        return done.stderr.strip().splitlines()[-1]

    assert "unknown head 'crtt'" in refused(3, *banks, "--head", "tau", "--head", "crtt")
    assert "are the same bank" in refused(2, banks[0], banks[0])
    assert "--head tau is given twice" in refused(2, *banks, "--head", "tau", "--head", "tau")
    assert "has only train, val, test" in refused(2, *banks, "--report", "dev")
    assert "names c, which is not compared; there are a, b" in refused(2, *banks, "--group", "x=c")
    assert "--group x names a bank twice" in refused(2, *banks, "--group", "x=a,b,a")
    assert "wants NAME=A.zarr" in refused(2, *banks, "--group", "x")
    assert "no two banks say" in refused(2, *banks, "--group-seeds")
    assert "no bank at" in refused(3, tmp_path / "nothing")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    done = featbank("compare", *banks, "--out", tmp_path / "full")
    assert done.exit_code == 3
    assert "holds thesis.tex and is no comparison's folder" in done.stderr


def test_choosing_on_the_reported_split_is_marked(banks: list[Path], tmp_path: Path) -> None:
    both = ["--select", "test", "--report", "test"]
    done = featbank("compare", banks[0], "--head", "tau", "--out", tmp_path / "o", *both)
    assert "note: a: parameters are chosen on test, the REPORTED split" in done.stdout
    (entry,) = json.loads((tmp_path / "o" / "compare.json").read_text())["results"]
    assert entry["calibration"]["temperature"] is None


def npz(folder: Path, name: str, **changes: Any) -> Path:
    """Import a bank of blobs, with some arrays of its file changed; return its path."""
    file = write_npz(folder / f"{name}.npz", **changes)
    done = featbank("import", file, "--out", folder / f"{name}.zarr", "--quiet")
    assert done.exit_code == 0, done.output
    return folder / f"{name}.zarr"


def compared_into(out: Path, *args: Any) -> tuple[dict[str, Any], str]:
    """Compare; return what `compare.json` holds, and what was printed, in one line."""
    done = featbank("compare", *args, "--out", out, "--device", "cpu", "--quiet")
    assert done.exit_code == 0, done.output
    return json.loads((out / "compare.json").read_text()), " ".join(done.stdout.split())


NAMES = ["ant", "bee", "cat", "dog", "elk"]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (["ant", "bee", "cat", "dog", "eel"], "class 4 is 'elk' in a and 'eel' in b"),
        (["bee", "ant", "cat", "dog", "elk"], "the same classes in another order: class 0 is"),
        (["Ant", "bee", "cat", "dog", "elk"], "class 0 is 'ant' in a and 'Ant' in b"),
        (None, "b gives its classes no names: class 0 is 'ant' in a and '0' in b"),
        (["ant", "b\x1b[2Jee", "cat", "dog", "elk"], "and 'b\\x1b[2Jee' in b"),
    ],
)
def test_banks_of_other_classes_are_refused(
    tmp_path: Path, other: list[str] | None, words: str
) -> None:
    banks = [
        npz(tmp_path, name, class_names=None if names is None else np.array(names))
        for name, names in (("a", NAMES), ("b", other))
    ]
    for pair, said in ((banks, words), (banks[::-1], "Only banks with the same classes")):
        done = featbank("compare", *pair, "--head", "ncm", "--out", tmp_path / "o")
        (line,) = done.stderr.strip().splitlines()
        assert done.exit_code == 3
        assert said in line
        assert not (tmp_path / "o").exists()


def test_a_bank_of_more_classes_is_refused(tmp_path: Path) -> None:
    X, y = blobs([30] * 6, 5)
    more = {f"{split}_features": X for split in ("train", "val", "test")}
    more |= {f"{split}_labels": y for split in ("train", "val", "test")}
    banks = [npz(tmp_path, "five"), npz(tmp_path, "six", **more)]
    done = featbank("compare", *banks, "--head", "ncm", "--out", tmp_path / "o")
    assert done.exit_code == 3
    assert "five has 5 classes and six has 6" in done.stderr


def test_shot_groups_of_other_classes_are_not_set_against_each_other(tmp_path: Path) -> None:
    X, y = splits()["train"]
    turned = {"train_features": X[::-1], "train_labels": 4 - y[::-1]}
    a, b = npz(tmp_path, "a"), npz(tmp_path, "b", shots=np.array([50, 10]))
    c = npz(tmp_path, "c", **turned)
    group = ["--group", "all=a,b", "--groups", "--head", "ncm"]
    found, printed = compared_into(tmp_path / "ab", a, b, *group)
    assert "differ (a: many > 100, few < 20; b: many > 50, few < 10)" in printed
    assert "2 of 5 classes are in another shot group in b than in a" in printed
    assert "accuracy on few-shot classes, in %; not the same classes in every bank" in printed
    assert "(`all`), in %;" not in printed
    means = {each["metric"]: each["mean"] for each in found["groups"]}
    assert [name for name, mean in means.items() if mean is None] == ["many", "medium", "few"]
    assert all(each["paired"] for each in found["comparisons"])  # the rows are the same

    found, printed = compared_into(tmp_path / "ac", a, c, "--head", "ncm", "--groups")
    assert "4 of 5 classes are in another shot group in c than in a" in printed
    assert "train rows by class differ (a: 228 rows; c: 228 rows)" in printed
    assert [bank["shot_groups"] for bank in found["banks"]] == [0, 1]

    found, printed = compared_into(tmp_path / "aa", a, "--head", "ncm", "--groups")
    assert "not the same classes" not in printed
    assert found["notes"] == []


def test_another_training_set_of_the_same_counts_is_told_by_its_ids(tmp_path: Path) -> None:
    ids = np.array([f"r{row:03}" for row in range(228)])
    a = npz(tmp_path, "a", train_ids=ids)
    b = npz(tmp_path, "b", train_ids=np.char.replace(ids, "r00", "s00"))
    c = npz(tmp_path, "c", train_ids=ids, val_ids=np.arange(100)[::-1].astype(str))
    _, printed = compared_into(tmp_path / "ab", a, b, "--head", "ncm")
    assert "train rows have other ids or labels: a against b" in printed
    _, printed = compared_into(tmp_path / "ac", a, c, "--head", "ncm")
    assert "train rows" not in printed


def reordered(order: Any, **ids: Any) -> dict[str, Any]:
    """Return the test split of the blobs, a little moved, in an order, with ids in that order."""
    X, y = splits()["test"]
    X = X + 0.5 * np.random.default_rng(3).normal(size=X.shape).astype(np.float32)
    named = {key: np.asarray(value)[order] for key, value in ids.items()}
    return {"test_features": X[order], "test_labels": y[order], **named}


@pytest.mark.parametrize("kind", ["paths", "numbers", "lengths"])
def test_rows_are_paired_by_their_ids_whatever_their_order(tmp_path: Path, kind: str) -> None:
    n, rng = 200, np.random.default_rng(0)
    ids = {
        "paths": [f"test/{row % 7}/{row}.png" for row in range(n)],
        "numbers": [str(row) for row in range(n)],
        "lengths": ["\u00e9" * (row + 1) for row in rng.permutation(n)],
    }[kind]
    a = npz(tmp_path, "a", test_ids=np.array(ids))
    heads = ["--head", "ncm", "--head", "joint"]
    seen = []
    for name, order in (("same", np.arange(n)), ("other", rng.permutation(n))):
        bank = npz(tmp_path, name, **reordered(order, test_ids=ids))
        for turn, pair in enumerate(([a, bank], [bank, a])):
            found, printed = compared_into(tmp_path / f"{name}{turn}", *pair, *heads)
            assert "unpaired" not in printed
            across = [e for e in found["comparisons"] if e["a"]["bank"] != e["b"]["bank"]]
            assert all(each["paired"] for each in found["comparisons"])
            seen.append([
                [
                    (1 - 2 * turn) * each["difference"],
                    *sorted((1 - 2 * turn) * end for end in each["ci95"]),
                    each["p_bootstrap"], each["p_mcnemar"],
                ]
                for each in across
            ])  # fmt: skip
            own = [e["ci95"]["all"] for e in found["results"] if e["bank_name"] != "a"]
            seen[-1].append(own[0] + own[1])
    for other in seen[1:]:
        for one, two in zip(seen[0], other, strict=True):
            assert two == pytest.approx(one, abs=1e-9)


def test_ids_that_do_not_say_which_row_is_which_are_not_paired_by(tmp_path: Path) -> None:
    ids = np.array([f"i{row}" for row in range(200)])
    twice = ids.copy()
    twice[7] = "i3"
    order = np.random.default_rng(1).permutation(200)
    a = npz(tmp_path, "a", test_ids=twice)
    b = npz(tmp_path, "b", **reordered(np.arange(200), test_ids=twice))
    c = npz(tmp_path, "c", **reordered(order, test_ids=twice))
    for other, paired in ((b, True), (c, False)):
        found, printed = compared_into(tmp_path / other.stem, a, other, "--head", "ncm")
        assert [each["paired"] for each in found["comparisons"]] == [paired]
        assert "the id 'i3' comes twice among the reported rows of a" in printed

    named = npz(tmp_path, "named", test_ids=ids)
    moved = splits()["test"][1].copy()
    moved[[0, 199]] = moved[[199, 0]]
    labels = npz(tmp_path, "labels", test_ids=ids, test_labels=moved)
    found, printed = compared_into(tmp_path / "l", named, labels, "--head", "ncm")
    assert not found["comparisons"][0]["paired"]
    assert "reported rows have the same ids and other labels in named and labels" in printed


def test_which_bank_is_named_first_changes_only_the_sign(tmp_path: Path) -> None:
    a = npz(tmp_path, "a", test_ids=np.array([f"a{row}" for row in range(200)]))
    keep = np.arange(0, 200, 2)
    some = {key: value[keep] for key, value in reordered(np.arange(200)).items()}
    b = npz(tmp_path, "b", **some)
    one, _ = compared_into(tmp_path / "ab", a, b, "--head", "ncm")
    two, _ = compared_into(tmp_path / "ba", b, a, "--head", "ncm")
    (first,), (second,) = one["comparisons"], two["comparisons"]
    assert not first["paired"]
    assert first["difference"] == -second["difference"]
    assert first["ci95"] == [-end for end in reversed(second["ci95"])]
    assert first["p_bootstrap"] == second["p_bootstrap"]


def place(bank: str, counts: list[int], right: Any) -> CellRows:
    """Return a cell of 5 classes, of which the last three have a row each."""
    labels = np.array([0] * 20 + [1] * 20 + [2, 3, 4])
    return CellRows(bank, "ncm", "rows", Shots(100, 20).groups(counts), labels, right, {
        **dict.fromkeys(("many", "medium", "few"), 0.5), "micro": right.mean(),
        "all": np.mean([right[labels == c].mean() for c in range(5)]),
    })  # fmt: skip


def test_rows_alone_in_their_classes_stay_paired_where_shot_groups_differ() -> None:
    rng = np.random.default_rng(0)
    one = place("a", [200, 200, 200, 5, 5], rng.random(43) < 0.6)
    other = place("b", [200, 5, 5, 50, 200], one.right)  # the same predictions, other groups
    third = place("c", [200, 5, 5, 50, 200], rng.random(43) < 0.6)
    drawn = resampled([one, other, third], 200, 0)
    alike = without_groups([one, other, third], drawn, 200, 0)
    np.testing.assert_array_equal(alike[0], alike[1])
    assert (drawn[0]["all"] != drawn[1]["all"]).any()
    found = cell_statistics([one, other, third], draws=200, seed=0).comparisons
    assert all(each.paired for each in found)
    hidden = unseen(np.zeros(43), one.labels, np.zeros(5), bounds=(-1, 1))["all"]
    assert found[0].ci95 == pytest.approx([-hidden.below, hidden.above])
    assert without_groups([one], drawn[:1], 200, 0)[0] is drawn[0]["all"]


def test_choosing_on_the_reported_split_is_stamped_on_every_line(
    banks: list[Path], tmp_path: Path
) -> None:
    both = ["--select", "test", "--report", "test"]
    out, notes = tmp_path / "o", tmp_path / "o.md"
    done = featbank(
        "compare", *banks, "--head", "tau", "--head", "ncm", "--out", out, *both, "--tests",
        "--group", "s=a,b", "--markdown", notes,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    for line in (line for line in lines if re.match(r"(a|b) +.*\d", line)):
        assert "(REPORTED)" in line
    differences = [line for line in lines if "mid-p=" in line]
    assert differences
    for line in differences:
        assert ("REPORTED" in line) == ("tau" in line)
    groups = [line for line in lines if "(n = 2)" in line]
    assert ["REPORTED" in line for line in groups] == [True, False]
    rows = [line for line in notes.read_text().splitlines() if re.match(r"\| (a|b) ", line)]
    assert len(rows) == 2
    assert all("(REPORTED" in row.replace("\\", "") for row in rows)
    data = collect(out)
    assert [bank.name for bank in data.banks] == ["a (REPORTED)", "b (REPORTED)"]
    assert {cell.dishonest for cell in data.cells if data.heads[cell.head] == "ncm"} == {False}
    assert {group.name for group in data.groups if group.head == "tau"} == {"s (REPORTED)"}
    assert "the REPORTED split" in summary(data)
    honest = featbank("compare", *banks, "--head", "tau", "--out", tmp_path / "h", "--quiet")
    assert "REPORTED" not in honest.stdout


def test_an_older_comparison_of_other_classes_is_reported_without_what_mixes_them(
    tmp_path: Path,
) -> None:
    folder = write_results(tmp_path / "old", Fake(classes=4, per_class=5))
    record = json.loads((folder / "banks/class/bank.json").read_text())
    compare = json.loads((folder / "compare.json").read_text())
    across = {"a": {"bank": "instance", "head": "ncm"}, "b": {"bank": "class", "head": "ncm"}}
    compare["comparisons"].append({**compare["comparisons"][0], **across})
    compare["groups"] = [
        {"name": "g", "banks": ["instance", "class"], "head": "ncm", "metric": name, "mean": 0.5,
         "std": 0.1, "n": 2}
        for name in ("all", "few")
    ]  # fmt: skip
    (folder / "compare.json").write_text(json.dumps(compare))
    data = collect(folder)
    assert len(data.comparisons) == len(compare["comparisons"])
    assert [group.mean for group in data.groups] == [0.5, 0.5]

    shots = record | {"shots": {"many_above": 10, "few_below": 5}}
    (folder / "banks/class/bank.json").write_text(json.dumps(shots))
    data = collect(folder)
    assert [group.mean for group in data.groups] == [0.5, None]
    assert any("in another shot group in class than in instance" in n for n in data.notes)

    named = record | {"class_names": ["p", "q", "r", "s"]}
    (folder / "banks/class/bank.json").write_text(json.dumps(named))
    data = collect(folder)
    assert len(data.comparisons) == len(compare["comparisons"]) - 1
    assert [group.mean for group in data.groups] == [None, None]
    assert any("have other classes: class 0 is 'class 0' in instance" in n for n in data.notes)


def test_a_bank_is_named_in_a_group_through_a_link_and_its_wrong_name_escaped(
    banks: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(banks[1])
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    group = f"g=a,{tmp_path / 'link'}"
    found, _ = compared_into(tmp_path / "o", *banks, "--head", "ncm", "--group", group)
    assert found["groups"][0]["banks"] == ["a", "b"]
    for wrong, said in (("\x1b[1m", "\\x1b[1m"), (str(tmp_path / "loop"), "loop"), ("", "nothing")):
        done = featbank(
            "compare", *banks, "--head", "ncm", "--out", tmp_path / "p", "--group", f"g=a,{wrong}"
        )
        assert done.exit_code == 2
        assert f"{said}, which is not compared" in done.stderr
        assert "\x1b" not in done.stderr
    done = featbank("compare", banks[1], tmp_path / "link", "--out", tmp_path / "p")
    assert "are the same bank" in done.stderr
    for option in ("--baseline", "--report"):
        done = featbank("compare", *banks, option, "\x1b[1m", "--out", tmp_path / "p")
        assert done.exit_code == 2
        assert "\x1b" not in done.stderr


def test_banks_that_choose_or_are_evaluated_on_other_splits_are_noted(tmp_path: Path) -> None:
    X, y = splits()["val"]
    a = npz(tmp_path, "a")
    b = npz(tmp_path, "b", val_features=None, val_labels=None, dev_features=X, dev_labels=y)
    c = npz(tmp_path, "c", val_features=None, val_labels=None)
    _, printed = compared_into(tmp_path / "o", a, b, c, "--head", "tau")
    assert "splits on which parameters are chosen differ (a: val; b: dev; c: none)" in printed
    assert "note: c: no val split: tau=1 of tau is the default" in printed


def inodes(out: Path) -> dict[str, int]:
    """Return the number of every file, by which a file that was written again is told."""
    return {str(p.relative_to(out)): p.stat().st_ino for p in out.rglob("*")}


def test_where_nothing_changes_nothing_is_written(banks: list[Path], copy: Path) -> None:
    before = inodes(copy), copy.stat().st_ino
    again(banks, copy)
    assert (inodes(copy), copy.stat().st_ino) == before
    (copy / "report.html").unlink()
    again(banks, copy)
    assert "report.html" in inodes(copy)


def fails_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the fit of one cell fail."""
    import featbank.comparing.evaluating

    real, calls = featbank.comparing.evaluating.fit_cell, []

    def fit_cell(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == number:
            raise OSError(28, "No space left on device")
        return real(*args)

    monkeypatch.setattr("featbank.comparing.evaluating.fit_cell", fit_cell)


@pytest.mark.parametrize("there", [True, False])
def test_a_comparison_that_fails_leaves_the_old_one_and_goes_on_from_its_own_cells(
    banks: list[Path], copy: Path, tmp_path: Path, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copy if there else tmp_path / "fresh"
    (copy / "cells" / "note").write_text("mine")
    before = contents(out) if there else {}
    more = ["--head", "ncm:transform=un", "--head", "ncm:transform=l2n", "--head", "logit-adjust"]
    with monkeypatch.context() as patch:
        fails_at(patch, 5)
        done = featbank("compare", *banks, *more, "--out", out, "--device", "cpu")
    assert done.exit_code == 3
    assert f"{out}: No space left on device" in done.stderr
    assert (contents(out) if out.exists() else {}) == before
    kept = stamps(out.with_name(f".{out.name}.new"))
    assert len(kept) == 4
    again = featbank("compare", *banks, *more, "--out", out, "--device", "cpu")
    assert again.exit_code == 0, again.output
    assert kept.items() <= stamps(out).items()
    assert len(stamps(out)) == 6 + 6 * there
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []
    if there:
        assert (copy / "cells" / "note").read_text() == "mine"
        assert contents(out).items() >= {
            name: raw for name, raw in before.items() if name.startswith("cells")
        }.items()  # fmt: skip


def test_overwrite_goes_on_from_nothing(
    banks: list[Path], copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(copy)
    words = ("compare", *banks, *WANTED, "--out", copy, "--device", "cpu", "--overwrite")
    with monkeypatch.context() as patch:
        fails_at(patch, 5)
        assert featbank(*words).exit_code == 3
    assert contents(copy) == before
    left = stamps(copy.with_name(".out.new"))
    assert featbank(*words).exit_code == 0
    assert len(left) == 4
    assert all(stamps(copy)[key] > left[key] for key in left)


@pytest.mark.parametrize("name", ["report.html", "compare.json", "cells", "banks"])
def test_something_of_the_users_in_the_way_is_said_before_the_first_fit(
    banks: list[Path], copy: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(copy / name) if (copy / name).is_dir() else (copy / name).unlink()
    if name == "cells":
        (copy / name).symlink_to(copy.parent)
    elif name == "compare.json":
        (copy / name).mkdir()
    else:
        (copy / name).write_text("mine")
    before = contents(copy)
    fails_at(monkeypatch, 1)
    done = featbank("compare", *banks, *WANTED, "--head", "lws", "--out", copy)
    assert done.exit_code == 3
    assert f"{copy / name} " in done.stderr
    assert contents(copy) == before


def test_a_record_that_leads_elsewhere_is_not_followed(banks: list[Path], copy: Path) -> None:
    victim = copy.parent / "victim"
    victim.mkdir()
    (victim / "head.head").write_text("mine")
    cell = next((copy / "cells").iterdir())
    record = read_record(cell / "cell.json")
    assert record is not None
    record["files"] |= {"../../../victim/head.head": "0", "note": "0", "/etc/hostname": "0"}
    write_record(cell / "cell.json", record)
    (cell / "note").write_text("mine")
    (copy / "cells" / ("0" * 32)).symlink_to(victim)
    again(banks, copy, "--overwrite")
    assert (victim / "head.head").read_text() == (cell / "note").read_text() == "mine"


def test_of_two_comparisons_the_second_is_refused(banks: list[Path], copy: Path) -> None:
    before = contents(copy)
    descriptor = os.open(copy, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    for words in (("compare", *banks, *WANTED, "--out", copy), ("report", copy)):
        done = featbank(*words)
        assert done.exit_code == 3
        assert "is being written by another process" in done.stderr
    os.close(descriptor)
    assert contents(copy) == before
