"""Standard streams that are closed, full, or of few letters; names that would steer a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.banks import write_bank

CLI = [sys.executable, "-m", "cli"]


def shell(line: str, *args: object, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which "$@" is the command."""
    words = [*CLI, *map(str, args)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    return subprocess.run(
        ["bash", "-c", line, "-", *words], capture_output=True, text=True, env=environment,
        errors="surrogateescape", check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bank(tmp_path_factory.mktemp("streams") / "bank").path


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_cost_no_result(bank: Path, tmp_path: Path, closed: str) -> None:
    out = tmp_path / "h"
    done = shell(f'"$@" {closed}', "fit", bank, "--head", "ncm", "--out", out, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "results.json").read_text())["schema"] == 1
    assert shell(f'"$@" {closed}', "verify", bank).returncode == 0


def test_nothing_that_is_printed_lands_in_a_file(bank: Path, tmp_path: Path) -> None:
    done = shell('"$@" >&- 2>&-', "export", bank, "--out", tmp_path / "e.npz")
    assert done.returncode == 0
    again = shell('"$@"', "import", tmp_path / "e.npz", "--out", tmp_path / "again")
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("command", [["info"], ["info", "--json", "-"], ["verify"]])
def test_a_full_standard_output_is_one_line(bank: Path, command: list[str]) -> None:
    done = shell('"$@" > /dev/full', *command[:1], bank, *command[1:])
    assert done.returncode == 3
    assert done.stderr.endswith("Error: standard output: No space left on device\n")
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_is_no_error(bank: Path) -> None:
    done = shell('"$@" | true; exit ${PIPESTATUS[0]}', "info", bank)
    assert (done.returncode, done.stderr) == (0, "")


def test_letters_that_an_encoding_lacks_are_escaped(tmp_path: Path) -> None:
    path = write_bank(tmp_path / "b\u4e2dnk").path
    done = shell('"$@"', "verify", path, "--quiet", PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "b\\u4e2dnk: sound" in done.stdout


ODD = "x\x1b]0;pwn\x07\r\x9b31m\u202e"


@pytest.mark.parametrize(
    "args",
    [
        ["verify", "BANK", "--quiet"],
        ["info", "BANK"],
        ["fit", "BANK", "--head", "ncm", "--select", "zz", "--out", "h"],
        ["fit", "BANK", "--head", ODD, "--out", "h"],
        ["info", ODD],
        ["import", ODD, "--out", "h"],
        ["train", "--data", f"imagefolder:root={ODD}", "--out", "h"],
        ["train", "--config", ODD, "--out", "h"],
        [ODD],
        ["info", f"--{ODD}"],
    ],
)
def test_names_do_not_steer_the_terminal(tmp_path: Path, args: list[str]) -> None:
    path = write_bank(tmp_path / ODD).path
    words = [str(path) if word == "BANK" else word for word in args]
    done = subprocess.run(
        [*CLI, *words], capture_output=True, check=False, cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    shown = (done.stdout + done.stderr).decode()
    assert done.returncode in (0, 2, 3)
    assert [c for c in shown if not c.isprintable() and c != "\n"] == []


@pytest.mark.parametrize(
    "line", ["out: there", "overwrite: true", "json: there", "json-to: there", "resume: true",
             "replace_in_place: true", "quiet: true", "device: cpu", "config: other.yaml"],
)  # fmt: skip
def test_a_recipe_says_nothing_of_where_is_written(tmp_path: Path, line: str) -> None:
    recipe = tmp_path / "run.yaml"
    recipe.write_text(f"data: digits-lt\nepochs: 1\n{line}\n")
    done = subprocess.run(
        [*CLI, "train", "--config", str(recipe), "--out", str(tmp_path / "run")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "is not part of a recipe; give it as an option" in done.stderr
    assert os.listdir(tmp_path) == ["run.yaml"]


def test_git_is_asked_without_the_programs_that_a_repository_names(tmp_path: Path) -> None:
    from featbank.data.provenance import git

    def run(*words: str) -> None:
        named = ["-c", "user.email=a", "-c", "user.name=b"]
        subprocess.run(["git", "-C", str(tmp_path), *named, *words], check=True)

    canary, program = tmp_path / "canary", tmp_path / "program.sh"
    program.write_text(f"#!/bin/sh\ntouch {canary}\ncat\n")
    program.chmod(0o755)
    run("init", "-q")
    (tmp_path / "text").write_text("one")
    (tmp_path / ".gitattributes").write_text("* filter=odd diff=odd\n")
    run("add", "text", ".gitattributes")
    run("commit", "-q", "-m", "x")
    for key in (
        "core.fsmonitor", "diff.external", "diff.odd.textconv", "diff.odd.command", "core.pager",
        "core.sshCommand",
    ):  # fmt: skip
        run("config", key, str(program))
    run("config", "core.hooksPath", str(tmp_path))
    canary.unlink(missing_ok=True)
    found = git(tmp_path)
    assert found is not None
    assert found["dirty"] is False
    (tmp_path / "text").write_text("another")
    found = git(tmp_path)
    assert found is not None
    assert found["dirty"] is True
    for key in ("filter.odd.clean", "filter.odd.process"):
        run("config", key, str(program))
        found = git(tmp_path)
        assert found is not None
        assert found["dirty"] is None
    assert not canary.exists()
