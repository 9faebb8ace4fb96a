"""The page as text: one file, nothing loaded, every text escaped, small."""

import base64
import hashlib
import json
import re
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cli.main import main
from featbank.errors import DamagedError
from featbank.report import build_report
from featbank.report.folder import read_result_arrays
from featbank.report.tsne import embedding
from tests.banks import write_bank
from tests.results_folder import Fake, write_results

HOSTILE = (
    "</script><script>window.hacked = 1</script>", '"><img src=x onerror="window.hacked = 1">',
    "<!--<script>", "{{ 7 * 7 }}", "javascript:window.hacked=1", "a\u2028b", "\udce9", "]]>",
    "<svg/onload=window.hacked=1>", "'-window.hacked-'",
)  # fmt: skip


def hostile_fake() -> Fake:
    """Names of classes, of a bank and of a head that would be markup or script if they could."""
    banks, heads = ("one", f"two{HOSTILE[0]}"), ("joint", f"ncm:{HOSTILE[1]}", "tau", "crt")
    return Fake(classes=len(HOSTILE), banks=banks, heads=heads, names=HOSTILE, notes=HOSTILE)


class Reader(HTMLParser):
    """What a parser makes of the page: elements with their attributes, and the scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem in self.inside:
            self.inside[self.cdata_elem].append(data)

    def tags(self) -> dict[str, int]:
        names = [tag for tag, _ in self.elements]
        return {tag: names.count(tag) for tag in set(names)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_results(tmp_path_factory.mktemp("report") / "out")


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return build_report(folder).read_text(encoding="utf-8")


def refused(folder: Path, code: int) -> str:
    done = CliRunner().invoke(main, ["report", str(folder)])
    assert done.exit_code == code, done.output
    (line,) = done.stderr.strip().splitlines()
    return line


def test_the_page_names_no_address_and_loads_nothing(text: str) -> None:
    without_arrays = re.sub(r'"b":"[A-Za-z0-9+/=]*"', "", text)
    assert not re.search(r"https?:|[\"'(=]//|@import|url\(", without_arrays)
    for tag, attrs in Reader(text).elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert attrs.get("href", "#").startswith("#")
        assert not {"src", "style"} & set(attrs)
        assert not any(name.startswith("on") for name in attrs)


def test_the_policy_allows_this_script_and_this_style_only(text: str) -> None:
    page = Reader(text)
    (policy,) = (
        attrs["content"] for tag, attrs in page.elements if "http-equiv" in attrs and tag == "meta"
    )
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    (style,), (_, script) = page.inside["style"], page.inside["script"]
    for name, content in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"


def test_the_scripts_write_no_markup() -> None:
    scripts = Path(__file__).parents[2] / "featbank/report/assets"
    for script in scripts.glob("*.js"):
        source = script.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", source)


def test_hostile_names_add_no_element(tmp_path: Path, text: str) -> None:
    plain = write_results(tmp_path / "plain", Fake(classes=len(HOSTILE), banks=("one", "two")))
    hostile = write_results(tmp_path / "hostile", hostile_fake())
    pages = [Reader(build_report(path).read_text(encoding="utf-8")) for path in (plain, hostile)]
    without, with_names = (page.tags() for page in pages)
    assert with_names.pop("ul") == 1
    assert with_names.pop("li") == len(HOSTILE)
    assert with_names == without


def test_the_data_in_the_page_are_those_of_the_folder(folder: Path, text: str) -> None:
    data = json.loads(Reader(text).inside["script"][0])
    compare = json.loads((folder / "compare.json").read_text())
    assert [bank["name"] for bank in data["banks"]] == ["instance", "class"]
    assert len(data["cells"]) == len(compare["results"]) == 8
    for cell, entry in zip(data["cells"], compare["results"], strict=True):
        assert cell["metrics"].items() >= entry["metrics"].items()
        assert cell["metrics"]["error"] == pytest.approx(1 - entry["metrics"]["micro"])
        with np.load(folder / "cells" / entry["cell"] / "evaluation.npz") as file:
            saved = dict(file)
        right = saved["labels"] == saved["predicted"]
        hits = np.bincount(saved["labels"][right], minlength=10)
        assert unpacked(cell["hits"]).tolist() == hits.tolist()
        assert np.array_equal(unpacked(cell["plane"]["grid"]), saved["plane_grid"].ravel())
        # The made-up view is of every row.
        assert np.array_equal(np.unpackbits(unpacked(cell["wrong"]))[:500], ~right)
        bins = cell["reliability"]
        hit = unpacked(bins["rows"]) * np.nan_to_num(unpacked(bins["accuracy"]))
        assert hit.sum() == pytest.approx(right.sum(), rel=1e-5)


def unpacked(packed: dict[str, str]) -> Any:
    """Read an array as the page's script does."""
    return np.frombuffer(base64.b64decode(packed["b"]), f"<{packed['t']}")


def test_the_table_can_be_read_without_scripts(text: str) -> None:
    data = json.loads(Reader(text).inside["script"][0])
    for cell in data["cells"]:
        assert f'<span class="value">{100 * cell["metrics"]["all"]:.1f}</span>' in text


def test_the_same_results_give_the_same_page(folder: Path, text: str) -> None:
    assert build_report(folder).read_text(encoding="utf-8") == text


def test_one_bank_without_curves_and_groups_has_fewer_panels(tmp_path: Path) -> None:
    folder = write_results(tmp_path, Fake(banks=("only",), heads=("ncm",)))
    (folder / "banks/only/curve-tau.npz").unlink()
    ids = {attrs.get("id") for _, attrs in Reader(build_report(folder).read_text()).elements}
    assert {"matrix", "classes", "sampling", "view"} <= ids
    assert not {"tau", "shots", "norms"} & ids


def test_many_classes_and_checkpoints_stay_small(tmp_path: Path) -> None:
    fake = Fake(
        classes=8142, banks=tuple(f"checkpoint-{i}" for i in range(20)), per_class=3, view=2000
    )
    folder = write_results(tmp_path, fake)
    began = time.perf_counter()
    page = build_report(folder)
    assert time.perf_counter() - began < 20
    assert page.stat().st_size < 5e6
    text = page.read_text(encoding="utf-8")
    assert "8,142 classes: curves over classes are drawn through means of 250 runs" in text
    assert "The feature view shows at most 600 rows" in text


def test_a_page_of_usual_size_is_under_2_mb(tmp_path: Path) -> None:
    fake = Fake(classes=1000, banks=tuple("abcde"), heads=tuple("uvwxyz"), view=2000)
    assert build_report(write_results(tmp_path, fake)).stat().st_size < 2e6


def test_the_command_says_where_the_page_is_and_how_large(folder: Path) -> None:
    done = CliRunner().invoke(main, ["report", str(folder), "--json", "-"])
    found = json.loads(done.output)
    assert found == {
        "schema": 1,
        "page": str(folder / "report.html"),
        "bytes": (folder / "report.html").stat().st_size,
    }


@pytest.mark.parametrize(
    ("damage", "code", "said"),
    [
        (lambda d: (d / "compare.json").unlink(), 3, "holds no compare.json"),
        (lambda d: (d / "compare.json").write_text("{"), 4, "is no JSON"),
        (lambda d: (d / "compare.json").write_text("[]"), 4, "is no JSON object"),
        (lambda d: (d / "compare.json").write_text('{"schema": 9}'), 4, "schema 9 is not 1"),
        (lambda d: (d / "compare.json").write_text('{"schema": 1}'), 4, "lacks settings"),
        (lambda d: (d / "banks/class/view.npz").write_bytes(b"PK"), 4, "view.npz cannot be read"),
        (lambda d: (d / "banks/class/bank.json").unlink(), 4, "bank.json is missing"),
        (lambda d: lose(d, "labels"), 4, "lacks labels"),
        (lambda d: change(d, predicted=np.full(500, 10)), 4, "class 10 of 10"),
        (lambda d: change(d, predicted=np.full(500, -1)), 4, "do not go together"),
        (lambda d: rename(d, "../../elsewhere"), 4, "which no comparison writes"),
    ],
)
def test_what_is_damaged_is_named_in_one_line(
    tmp_path: Path, damage: Any, code: int, said: str
) -> None:
    folder = write_results(tmp_path)
    damage(folder)
    assert said in refused(folder, code)


def test_no_changed_byte_of_an_archive_is_taken_for_what_was_written(
    folder: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    whole, path = an_evaluation(folder).read_bytes(), tmp_path / "evaluation.npz"
    with np.load(an_evaluation(folder)) as file:
        written = dict(file)
    headers = [
        at.start() + step for at in re.finditer(b"PK|NUMPY", whole) for step in range(0, 128, 11)
    ]
    for place in [*headers, *rng.integers(0, len(whole), 60)]:
        changed = bytearray(whole)
        changed[min(place, len(whole) - 1)] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            read = read_result_arrays(path, list(written))
        except DamagedError:
            continue
        assert all(np.array_equal(read[name], written[name], equal_nan=True) for name in written)


def an_evaluation(folder: Path) -> Path:
    return min((folder / "cells").glob("*/evaluation.npz"))


def change(folder: Path, **arrays: Any) -> None:
    with np.load(an_evaluation(folder)) as file:
        np.savez(an_evaluation(folder), **dict(file) | arrays)


def lose(folder: Path, name: str) -> None:
    with np.load(an_evaluation(folder)) as file:
        kept = {key: value for key, value in file.items() if key != name}
    np.savez(an_evaluation(folder), **kept)


def rename(folder: Path, slug: str) -> None:
    compare = json.loads((folder / "compare.json").read_text())
    compare["banks"][0]["slug"] = slug
    (folder / "compare.json").write_text(json.dumps(compare))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Two banks, the folder that comparing them leaves, and what the command said."""
    base = tmp_path_factory.mktemp("compared")
    banks = [write_bank(base / f"{kind}.zarr", dtype=kind).path for kind in ("float32", "float16")]
    heads = [part for head in ("joint", "ncm", "tau") for part in ("--head", head)]
    args = ["compare", *map(str, banks), *heads, "--out", str(base / "out"), "--quiet"]
    done = CliRunner().invoke(main, args, catch_exceptions=False)
    return base / "out", done.output


def test_a_comparison_of_banks_ends_with_the_page(compared: tuple[Path, str]) -> None:
    folder, said = compared
    assert str(folder / "report.html") in said.replace("\n", "")
    data = data_of(folder)
    results = json.loads((folder / "compare.json").read_text())["results"]
    for cell, result in zip(data["cells"], results, strict=True):
        assert cell["metrics"]["all"] == result["metrics"]["all"]
    assert len(data["comparisons"]) == 9
    taus = [result["params"]["tau"] for result in results if result["head"] == "tau"]
    assert [bank["curves"][0]["best"] for bank in data["banks"]] == taus
    assert {row["field"] for row in data["provenance"] if row["differs"]} >= {"digest"}


def data_of(folder: Path) -> Any:
    """Return what a folder's page holds."""
    text = (folder / "report.html").read_text(encoding="utf-8")
    return json.loads(Reader(text).inside["script"][0])


def test_tsne_is_made_on_request_once_and_only_of_the_same_bank(
    compared: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(compared[0], folder)
    monkeypatch.setattr("featbank.report.tsne.embedding", lambda features, seed: features[:, :2])
    assert build_report(folder, tsne=True) == folder / "report.html"
    assert [bank["view"]["tsne"]["units"] for bank in data_of(folder)["banks"]] == [65_535] * 2
    monkeypatch.setattr("featbank.report.tsne.embedding", None)  # not called again
    build_report(folder, tsne=True)
    (folder / "banks/float16/tsne.npz").unlink()
    record = json.loads((folder / "banks/float16/bank.json").read_text())
    record["path"] = record["path"].replace("float16", "float32")
    (folder / "banks/float16/bank.json").write_text(json.dumps(record))
    assert "does not hold what was written" in refused(folder, 4)
    del record["sha256"]
    (folder / "banks/float16/bank.json").write_text(json.dumps(record))
    done = CliRunner().invoke(main, ["report", str(folder), "--tsne"])
    assert done.exit_code == 5
    assert "is not the bank that was compared" in done.stderr


def test_tsne_keeps_groups_apart_and_is_the_same_again(rng: np.random.Generator) -> None:
    groups = np.repeat([0, 1], 20)
    features = (rng.normal(size=(40, 8)) + 20 * groups[:, None]).astype(np.float32)
    points = embedding(features, 0)
    assert np.array_equal(points, embedding(features, 0))
    one, other = points[groups == 0], points[groups == 1]
    apart = np.linalg.norm(one.mean(axis=0) - other.mean(axis=0))
    assert apart > 2 * max(
        np.linalg.norm(each - each.mean(axis=0), axis=1).max() for each in (one, other)
    )


@pytest.mark.parametrize("n_rows", [1, 2, 4])
def test_tsne_of_hardly_any_rows_has_two_axes(n_rows: int, rng: np.random.Generator) -> None:
    assert embedding(rng.normal(size=(n_rows, 3)).astype(np.float32), 0).shape == (n_rows, 2)
