"""The house's arrows: cli may import featbank and heads; nothing else crosses."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "featbank": {"cli", "click", "tests"},
    "heads": {"featbank", "cli", "tests"},
    "cli": {"tests"},
}


def imported_packages(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_arrows_point_one_way(package: str) -> None:
    sources = sorted((ROOT / package).rglob("*.py"))
    assert sources
    crossing = {
        f"{source.relative_to(ROOT)} imports {name}"
        for source in sources
        for name in imported_packages(source)
        if name in FORBIDDEN[package]
    }
    assert crossing == set()


@pytest.mark.parametrize(
    "module",
    ["featbank", "heads", "heads.balancing.class_frequency", "featbank.data.sampling", "cli.main"],
)
def test_light_modules_load_nothing_heavy(module: str) -> None:
    heavy = "{'torch', 'timm', 'sklearn', 'faiss', 'torchvision'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
