"""Every code block of the documentation and of the README runs, in the order of its page.

A page's blocks share one folder and one namespace. Three comments directly above a block, or
anywhere in a page for the last, say what a reader does not see:

- ``<!-- not run: REASON -->``: the block is not run.
- ``<!-- run with: OPTIONS -->``: each of its commands gets these options too, to be quick.
- ``<!-- prepared: NAME, NAME -->``: what is in the folder; see `tests.doc_blocks`.
"""

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from cli.main import main
from tests.doc_blocks import Block, blocks_of, commands_of, prepare, prepared_names

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES}
COMMANDS, OTHERS = ("console", "sh"), ("", "text", "json", "yaml", "bibtex")
RUN_IN_CELLS = ("python", "console")
# Blocks that cannot run. A new one is weighed against this number, which only falls.
MOST_NOT_RUN = 10


def runs(block: Block) -> bool:
    return block.not_run is None and block.language in ("python", *COMMANDS)


@pytest.fixture(autouse=True)
def one_thread(two_threads: None) -> None:
    """Small work is quicker on one thread, most of all where several tests run at once."""
    torch.set_num_threads(1)


RUNNING = [name for name, text in TEXTS.items() if any(map(runs, blocks_of(text)))]


# Pages that train, which takes more than ten seconds each.
LONG = {
    "docs/how-to/export.md",
    "docs/how-to/predict.md",
    "docs/how-to/train.md",
    "docs/tutorials/checkpoints.md",
    "docs/tutorials/own-images.md",
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in RUNNING],
)
def test_blocks_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for each in prepared_names(TEXTS[name]):
        prepare(each, tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in filter(runs, blocks_of(TEXTS[name])):
        if block.language == "python":
            exec(compile("\n" * block.line + block.text, name, "exec"), namespace)
        else:
            run_commands(block, f"{name}:{block.line}")


def run_commands(block: Block, where: str) -> None:
    commands = commands_of(block.text)
    assert commands, f"{where}: no command"
    for words in commands:
        assert words[0] == "featbank", f"{where}: {words[0]} does not run here; say why above it"
        done = CliRunner().invoke(main, [*words[1:], *block.extra])
        assert done.exit_code == 0, f"{where}: {' '.join(words)}\n{done.output}"


@pytest.mark.parametrize("name", TEXTS)
def test_blocks_say_what_they_are(name: str) -> None:
    """A block that holds commands is marked as such, and one that is not run says why."""
    command = re.compile(
        r"^(\$ )?(\w+=\S+ )?(featbank|python|pytest|pip|make|torchrun|source) ", re.MULTILINE
    )
    for block in blocks_of(TEXTS[name]):
        assert block.language in ("python", *COMMANDS, *OTHERS), f"{name}:{block.line}"
        assert block.not_run != "", f"{name}:{block.line}: no reason"
        if block.language in OTHERS:
            assert not command.search(block.text), f"{name}:{block.line}: mark it ```console"


def test_few_blocks_are_not_run() -> None:
    marked = [block for text in TEXTS.values() for block in blocks_of(text) if block.not_run]
    assert len(marked) <= MOST_NOT_RUN


@pytest.mark.parametrize("notebook", sorted((ROOT / "docs").rglob("*.ipynb")), ids=str)
def test_a_notebook_is_its_page(notebook: Path) -> None:
    """The page's blocks run above; ``python docs/_site/notebook.py PAGE`` writes the notebook."""
    made = runpy.run_path(str(ROOT / "docs" / "_site" / "notebook.py"))["notebook_of"]
    page = notebook.with_suffix(".md").read_text(encoding="utf-8")
    assert notebook.read_text(encoding="utf-8") == made(page)
    cells = json.loads(made(page))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) == len([block for block in blocks_of(page) if block.language in RUN_IN_CELLS])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("added", "told"),
    [
        ("", ""),
        ("[text](nowhere.md)", "nowhere.md"),
        ("[text](how-to/fit.md#nowhere)", "nowhere"),
        ("[text][featbank.nowhere]", "featbank.nowhere"),
        ("::: featbank.nowhere", "featbank.nowhere"),
    ],
)
def test_the_site_is_built_and_a_broken_link_or_reference_fails(
    added: str, told: str, tmp_path: Path
) -> None:
    """The build is the one of `make docs`: with mkdocs's --quiet, --strict sees no warning."""
    line = re.search(r"-m (mkdocs build .*)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert line is not None
    for name in ("docs", "featbank", "heads", "cli"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    with (tmp_path / "docs" / "index.md").open("a", encoding="utf-8") as page:
        page.write(f"\n{added}\n")
    build = [sys.executable, "-m", *line[1].split()]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (not added), done.stderr
    assert told in done.stderr
