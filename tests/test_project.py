"""The project's own files agree with each other."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


def requirements() -> list[Requirement]:
    listed = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    return [Requirement(text) for text in listed]


def constraints() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {pin.name: pin for pin in pins}


def test_conda_gives_python_and_pip_gives_everything_else_from_pyproject() -> None:
    conda = [item for item in ENVIRONMENT["dependencies"] if isinstance(item, str)]
    (pip,) = (item["pip"] for item in ENVIRONMENT["dependencies"] if isinstance(item, dict))
    assert pip == ["--constraint constraints.txt", "--editable .[dev]"]
    assert {name.split("=")[0] for name in conda} == {"python", "pip", "make"}
    python = next(name for name in conda if name.startswith("python=")).partition("=")[2]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python)
    assert any(need.name == "faiss-gpu" for need in requirements())


@pytest.mark.parametrize("need", requirements(), ids=lambda need: need.name)
def test_every_dependency_has_a_tested_version(need: Requirement) -> None:
    (pin,) = constraints()[need.name].specifier
    assert pin.operator == "=="
    assert need.specifier.contains(Version(pin.version))


def test_no_pin_is_left_over() -> None:
    indirect = {"packaging"}
    assert set(constraints()) - {need.name for need in requirements()} <= indirect


@pytest.mark.parametrize(
    ("name", "floor"), [("torch", "2.10"), ("fsspec", "2026.6.0"), ("pillow", "12.3.0")]
)
def test_security_floors_are_kept(name: str, floor: str) -> None:
    (need,) = (each for each in requirements() if each.name == name)
    assert f">={floor}" in str(need.specifier)


def test_what_the_readme_links_to_is_there() -> None:
    links = re.findall(r"(?:\]\(|src=\")(?!https?:)([^)#\"]+)[)#\"]", README)
    assert "docs/demo.png" in links
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_changelog_is_made_of_the_files_in_changes(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "changes", tmp_path / "changes")
    for kind in ("fixed", "added"):
        (tmp_path / "changes" / f"some-name.{kind}.md").write_text(f"`x` was {kind}.\n")
    made = [sys.executable, "-m", "towncrier", "build", "--yes", "--version", "99.0"]
    subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)
    old, new = (folder.joinpath("CHANGELOG.md").read_text("utf-8") for folder in (ROOT, tmp_path))
    before, _, after = old.partition("\n## ")
    assert new.startswith(f"{before}\n## 99.0 (")
    assert new.endswith(f"\n\n## {after}")
    sections = new[len(before) : -len(after)]
    assert re.search(r"### Added\n\n(- .*\n)*- `x` was added\.\n", sections)
    assert re.search(r"### Fixed\n\n(- .*\n)*- `x` was fixed\.\n", sections)
    assert {path.name for path in (tmp_path / "changes").iterdir()} == {"README.md", "template.md"}


def test_a_change_says_what_kind_it_is() -> None:
    kinds = "added|changed|fixed|removed"
    for path in (ROOT / "changes").iterdir():
        named = re.fullmatch(rf"[a-z0-9-]+\.({kinds})\.md", path.name)
        assert named or path.name in ("README.md", "template.md"), path.name


def test_the_version_is_in_the_changelog_once_its_changes_are() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {PROJECT['version']} (2" in text
