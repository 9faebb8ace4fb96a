"""Which split chooses and which is reported."""

from __future__ import annotations

from dataclasses import dataclass

import click

from featbank import Bank

__all__ = ["Roles", "roles"]


@dataclass(frozen=True)
class Roles:
    """The split on which parameters are chosen (None: defaults are used), and those reported."""

    select: str | None
    report: tuple[str, ...]

    @property
    def dishonest(self) -> bool:
        """True where the user asked to choose on the reported split."""
        return self.select in self.report

    def selected_on(self, *, chosen: bool) -> str | None:
        """Name the split on which a parameter was chosen, if it was."""
        return self.select if chosen else None

    def label(self, split: str | None) -> str:
        """Name a split in a table, marked where choosing saw what is reported."""
        if split is None:
            return "-"
        return f"{split} (REPORTED)" if split in self.report else split


def roles(bank: Bank, select: str | None, report: str | None) -> Roles:
    """Give the splits their roles; choosing on a reported split happens only when named twice.

    By default parameters are chosen on val, and every other split but train is reported. Where
    that leaves nothing to report, val is reported and nothing is chosen.
    """
    for option, name in (("--select", select), ("--report", report)):
        if name is not None and name not in bank:
            message = f"{option} {name}: {bank.path} has only {', '.join(bank.splits)}"
            raise click.UsageError(message)
    others = tuple(name for name in bank.splits if name not in ("train", select or "val"))
    reported = (report,) if report else others or (("val",) if "val" in bank else ("train",))
    if select is None and "val" in bank and "val" not in reported:
        select = "val"
    return Roles(select, reported)
