"""The examples in the docstrings run and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

import heads

MODULES = sorted(module.name for module in pkgutil.iter_modules(heads.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"heads.{name}"))

    assert result.failed == 0
