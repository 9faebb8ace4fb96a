"""What is shown of a comparison → one HTML page that loads nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from featbank.report.pack import to_json
from featbank.report.page_data import PageCell, PageData
from featbank.results.compared import SeedGroup
from featbank.results.numbers import percent
from featbank.runtime.names import printable

__all__ = ["render"]

# In this order they are one script.
SCRIPTS = (
    "core", "chart", "matrix", "shots", "tau", "norms", "classes", "sampling", "confusion",
    "mistakes", "view", "reliability", "provenance", "start",
)  # fmt: skip

# Metrics of the table over seeds.
SHOWN = ("all", "many", "medium", "few")

PANELS = {
    "matrix": "Results",
    "shots": "Sampler and head",
    "tau": "Tau",
    "norms": "Weight norms",
    "classes": "Classes",
    "sampling": "Sampling",
    "confusion": "Confusions",
    "mistakes": "Mistakes",
    "view": "Features",
    "reliability": "Calibration",
    "provenance": "Provenance",
}


def render(data: PageData) -> str:
    """Return the page. Every text of the data is escaped where it stands."""
    style, script = asset("style.css"), whole_script()
    there = present(data)
    return template().render(
        title=printable(title(data)),
        summary=printable(summary(data)),
        footer=printable(f"Made by featbank {data.settings.version}; one file, no loads."),
        policy=policy(style, script, pictures=bool(data.gallery and data.gallery.pictures)),
        style=Markup(style),
        script=Markup(script),
        data=Markup(to_json(data)),
        ids=there,
        panels=[(name, PANELS[name]) for name in there],
        heads=[printable(head) for head in data.heads],
        banks=[printable(bank.name) for bank in data.banks],
        rows=list(static_rows(data)),
        groups=group_rows(data.groups),
        notes=[printable(note) for note in data.notes],
        gallery_notes=[printable(note) for note in (data.gallery.notes if data.gallery else ())],
        provenance=data.provenance,
        n_sets=len(data.classes),
    )


def asset(name: str) -> str:
    """Return the text of a file of the page."""
    return (resources.files("featbank.report") / "assets" / name).read_text(encoding="utf-8")


def whole_script() -> str:
    """Return the page's script: its files in order, in one scope of their own."""
    body = "\n".join(asset(f"{name}.js") for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{body}}})();\n'


@cache
def template() -> Template:
    """Return the page's template; what is put into it is escaped unless it is `Markup`."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(asset("page.html.j2"))


def policy(style: str, script: str, *, pictures: bool) -> str:
    """Return the Content-Security-Policy: this script and this style, and nothing else at all.

    Where the page holds pictures, they may be shown too, out of the page itself.
    """
    shown = "img-src data:; " if pictures else ""
    return (
        f"default-src 'none'; script-src '{source(script)}'; style-src '{source(style)}'; "
        f"{shown}base-uri 'none'; form-action 'none'"
    )


def source(text: str) -> str:
    """Return the hash by which a policy allows an inline element."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def present(data: PageData) -> list[str]:
    """Name the panels that have something to show."""
    samplers = {bank.recipe.get("sampler") for bank in data.banks} - {None}
    absent = {
        "shots": len(samplers) < 2,
        "tau": not any(bank.curves for bank in data.banks),
        "norms": all(cell.norms is None for cell in data.cells),
        "confusion": not any(len(cell.confusion.classes) for cell in data.cells),
        "mistakes": data.gallery is None or not any(data.gallery.mistakes),
    }
    return [name for name in PANELS if not absent.get(name)]


def title(data: PageData) -> str:
    """Name the comparison."""
    n_banks, n_heads = len(data.banks), len(data.heads)
    banks = data.banks[0].name if n_banks == 1 else f"{n_banks} checkpoints"
    return f"{banks}, {n_heads} head{'s' * (n_heads > 1)}"


def summary(data: PageData) -> str:
    """Say on what and how was measured."""
    settings = data.settings
    chosen = f"parameters chosen on {settings.select}" if settings.select else ""
    if chosen and settings.select == settings.report:
        chosen += ", the REPORTED split"
    draws = f"95 % intervals from {settings.bootstrap:,} bootstrap draws (seed {settings.seed})"
    n_classes = " or ".join(f"{len(each.counts):,}" for each in data.classes)
    parts = [f"Evaluated on {settings.report}", f"{n_classes} classes", chosen, draws]
    return "; ".join(part for part in parts if part) + "."


def static_rows(data: PageData) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield the table of `all` as it stands before, or without, the script."""
    cells = {(cell.bank, cell.head): cell for cell in data.cells}
    for index, bank in enumerate(data.banks):
        row = [static_cell(cells.get((index, head))) for head in range(len(data.heads))]
        yield printable(bank.name), row


def static_cell(cell: PageCell | None) -> tuple[str, str]:
    """Return a value and its interval as text."""
    if cell is None:
        return "-", ""
    span = cell.ci95.get("all")
    return percent(cell.metrics["all"]), interval(span)


def interval(span: Sequence[float] | None) -> str:
    """Return an interval in %."""
    return f"{percent(span[0])}\N{EN DASH}{percent(span[1])}" if span else ""


def group_rows(groups: Sequence[SeedGroup]) -> list[list[str]]:
    """Return the table over seeds: a line for each group and head, mean ± deviation in %."""
    lines: dict[tuple[str, str], dict[str, SeedGroup]] = {}
    for group in groups:
        lines.setdefault((group.name, group.head), {})[group.metric] = group
    return [
        [
            printable(name),
            printable(head),
            *(spread(line.get(metric)) for metric in SHOWN),
            str(next(iter(line.values())).n),
        ]
        for (name, head), line in lines.items()
    ]


def spread(group: SeedGroup | None) -> str:
    """Return mean ± standard deviation in %."""
    if group is None or group.mean is None:
        return "-"
    return percent(group.mean) + ("" if group.std is None else f" ± {percent(group.std)}")
