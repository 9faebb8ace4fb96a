"""The examples in the docstrings run and print what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import featbank
from tests.banks import write_bank

ROOT = Path(__file__).parent.parent
# Every module whose docstrings hold an example.
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("heads", "featbank", "cli")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


def test_there_are_examples_at_both_doors() -> None:
    assert {"featbank.front", "featbank.comparing.compare", "heads.estimators.tau_norm"} <= set(
        MODULES
    )


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, tmp_path: Path) -> None:
    """The examples of featbank speak of a bank, and of a folder to write to."""
    bank = write_bank(tmp_path / "bank.zarr").path
    given = {"featbank": featbank, "bank": bank, "folder": tmp_path}

    result = doctest.testmod(importlib.import_module(name), extraglobs=given)

    assert result.attempted > 0
    assert result.failed == 0
