"""The project's own files agree with each other."""

import re
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
