"""Which banks are seeds of one recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from os.path import realpath
from typing import Any

from featbank.bank.provenance_diff import flattened
from featbank.comparing.bank_run import Entry
from featbank.errors import UsageError
from featbank.runtime.names import printable

__all__ = ["by_recipe", "named_groups"]


def named_groups(wanted: Mapping[str, Sequence[str]], entries: Sequence[Entry]) -> dict[str, Any]:
    """Return groups of banks by their short names; they are given by these or by their paths."""
    groups = {name: [find(bank, entries) for bank in banks] for name, banks in wanted.items()}
    for name, found in groups.items():
        if len(set(found)) < len(found):
            message = f"--group {name} names a bank twice; it has {', '.join(found)}"
            raise UsageError(printable(message))
    return groups


def find(given: str, entries: Sequence[Entry]) -> str:
    """Return the short name of a bank that is being compared."""
    for entry in entries:
        if given == entry.name or realpath(given) == realpath(entry.bank.path):
            return entry.name
    names = ", ".join(entry.name for entry in entries)
    wanted = given or "nothing"
    message = f"--group names {wanted}, which is not compared; there are {names}"
    raise UsageError(printable(message))


def by_recipe(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Return the banks whose recipes differ in their seed only, two at least.

    A group is named by what tells its recipe from the others'. A bank that does not say how its
    network was trained is in no group.
    """
    recipes: dict[str, dict[str, Any]] = {}
    members: dict[str, list[str]] = {}
    for entry in entries:
        recipe = recipe_of(entry.bank.provenance)
        if recipe is not None:
            key = json.dumps(recipe, sort_keys=True)
            recipes[key] = recipe
            members.setdefault(key, []).append(entry.name)
    differing = sorted(
        field
        for field in {field for recipe in recipes.values() for field in recipe}
        if len({json.dumps(recipe.get(field)) for recipe in recipes.values()}) > 1
    )
    return {
        name_of(recipes[key], differing): banks for key, banks in members.items() if len(banks) > 1
    }


def recipe_of(provenance: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how a network was trained, and on what, the seeds left out."""
    if not isinstance(provenance.get("recipe"), Mapping):
        return None
    data = provenance.get("data") or {}
    settings = {"data": data.get("name"), **dict(data.get("settings") or {})}
    recipe = flattened(provenance["recipe"])
    whole = {**settings, "transform": provenance.get("transform"), **recipe}
    return {name: value for name, value in whole.items() if name != "seed"}


def name_of(recipe: Mapping[str, Any], differing: Sequence[str]) -> str:
    """Name a recipe by the fields in which it differs."""
    return ", ".join(f"{field}={recipe.get(field)}" for field in differing) or "all seeds"
