"""A page of the documentation as a Jupyter notebook: its blocks of code become cells.

``python docs/_site/notebook.py docs/tutorials/checkpoints.md`` writes the notebook beside the page.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

CODE = re.compile(r"^```(python|console)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"^<!--.*-->\n", re.MULTILINE)


def notebook_of(page: str) -> str:
    """Return the notebook of a page of Markdown, as the text of its file."""
    pieces = CODE.split(COMMENT.sub("", page))
    cells = [cell("markdown", pieces[0])]
    for language, code, text in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        cells.append(cell("code", shell_lines(code) if language == "console" else code))
        cells.append(cell("markdown", text))
    kept = [{"id": f"cell-{k}", **each} for k, each in enumerate(cells) if each["source"]]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = {
        "cells": kept, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5,
    }  # fmt: skip
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def cell(kind: str, text: str) -> dict[str, Any]:
    """Return a cell; its source is empty where the text is."""
    more = {"execution_count": None, "outputs": []} if kind == "code" else {}
    source = text.strip("\n").splitlines(keepends=True)
    return {"cell_type": kind, "metadata": {}, "source": source, **more}


def shell_lines(commands: str) -> str:
    """Return commands as a notebook runs them."""
    return re.sub(r"^\$ ", "!", commands, flags=re.MULTILINE)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        source = Path(name)
        text = notebook_of(source.read_text(encoding="utf-8"))
        source.with_suffix(".ipynb").write_text(text, encoding="utf-8")
