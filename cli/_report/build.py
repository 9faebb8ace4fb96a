"""Build the page of a folder of results."""

from __future__ import annotations

from pathlib import Path

from cli._report.data import collect
from cli._report.folder import Results
from cli._report.page import render
from featbank.atomic import replace_text

__all__ = ["build_report"]


def build_report(folder: Path) -> Path:
    """Write `report.html` into a folder of results; return its path. Nothing is fitted."""
    page = folder / "report.html"
    replace_text(page, render(collect(Results(folder))))
    return page
