"""The order of the rooms, what may pass between them, and that a name has one meaning.

docs/architecture.md draws the rooms. A test that fails here says which module to look at.
"""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import house
from tests.house import Function, circles, functions, modules

# Every room and every module that stands alone in its package, from the ground up. A module
# imports from its own line and from those above it in this list.
FLOORS = (
    {"heads.errors", "heads.names", "heads.lazy", "heads.canonical"},
    {"heads._arrays", "heads._checks", "heads._labels", "heads._params", "heads._stage1"},
    {"heads.balancing"},
    {"heads.solvers"},
    {"heads.metrics"},
    {"heads.curves"},
    {"heads.head_file", "heads._saved_labels", "heads._save"},
    {"heads.estimators"},
    {"heads._load", "heads.specs", "heads"},
    {"featbank.errors"},
    {"featbank.files"},
    {"featbank.runtime"},
    {"featbank.store"},
    {"featbank.bank"},
    {"featbank.data"},
    {"featbank.runs"},
    {"featbank.backbones"},
    {"featbank.stage1"},
    {"featbank.extraction"},
    {"featbank.importing"},
    {"featbank.results"},
    {"featbank.study"},
    {"featbank.report"},
    {"featbank.comparing"},
    {"featbank.serving"},
    {"featbank.front", "featbank.demo", "featbank"},
    {
        "cli.options",
        "cli._streams",
        "cli._show",
        "cli._progress",
        "cli._outputs",
        "cli._fit_table",
        "cli._network",
    },
    {"cli.commands"},
    {"cli._lazy", "cli.main", "cli.__main__", "cli"},
)
MOST_MODULES = 15
# How many dictionaries of anything are parameters, fields or results of what another room uses.
# The number may fall, and then it is lowered here; it may not rise.
MOST_DICTIONARIES = 58
MOST_POSITIONAL = 6
# Two ways to the same thing: `featbank.evaluate` evaluates heads, `heads.metrics.evaluate` labels.
# Every command's function is called `command`.
SHARED_NAMES = {"command", "evaluate"}


def room_of(name: str) -> str:
    """Return the room of a module, or the module where it stands alone in its package."""
    parts = modules()[name].room.split(".")
    return name if len(parts) == 1 else ".".join(parts[:2])


def floor_of(room: str) -> int:
    """Return the place of a room in `FLOORS`."""
    return next(place for place, rooms in enumerate(FLOORS) if room in rooms)


def exported(tree: ast.Module) -> Iterator[str]:
    """Yield the names in a module's `__all__`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            yield from ast.literal_eval(node.value)


def test_every_room_has_its_floor() -> None:
    found = {room_of(name) for name in modules()}
    named = [room for rooms in FLOORS for room in rooms]
    assert sorted(named) == sorted(found)


@pytest.mark.parametrize("room", sorted({room for rooms in FLOORS for room in rooms}))
def test_a_room_imports_from_the_floors_below(room: str) -> None:
    wrong = [
        f"{name} imports {used}"
        for name, module in modules().items()
        if room_of(name) == room
        for used in module.uses
        if room_of(used) != room and floor_of(room_of(used)) > floor_of(room)
    ]
    assert not wrong


def test_nothing_imports_in_a_circle() -> None:
    assert not circles({name: module.uses for name, module in modules().items()})
    between = defaultdict(set)
    for name, module in modules().items():
        between[room_of(name)] |= {room_of(used) for used in module.uses} - {room_of(name)}
    assert not circles({room: frozenset(used) for room, used in between.items()})


def test_a_room_holds_few_modules() -> None:
    sizes = Counter(each.room for each in modules().values() if each.path.name != "__init__.py")
    assert {room: n for room, n in sizes.items() if n > MOST_MODULES} == {}


def test_private_names_stay_in_their_room() -> None:
    """A name with an underscore is used where it stands, and in the rooms inside that room."""
    wrong = []
    for name, module in modules().items():
        for used in module.names_used:
            parts = used.split(".")
            private = [
                i for i, part in enumerate(parts) if part.startswith("_") and part[:2] != "__"
            ]
            if parts[0] in house.PACKAGES and private:
                owner = ".".join(parts[: private[0]])
                wrong += [] if f"{name}.".startswith(f"{owner}.") else [f"{name} uses {used}"]
    assert not wrong


def test_a_name_has_one_meaning() -> None:
    """No two modules offer the same name; a class's name is one even where it is not offered."""
    homes = defaultdict(set)
    for name, module in modules().items():
        offered = set(exported(module.tree))
        for node in module.tree.body:
            is_class = isinstance(node, ast.ClassDef) and not node.name.startswith("_")
            if is_class or (isinstance(node, ast.FunctionDef) and node.name in offered):
                homes[node.name].add(name)
    shared = {name: sorted(of) for name, of in homes.items() if len(of) > 1}
    assert {name: of for name, of in shared.items() if name not in SHARED_NAMES} == {}


def crossing() -> Iterator[Function]:
    """Yield the functions, methods and classes that another room uses."""
    users = defaultdict(set)
    for module in modules().values():
        for used in module.names_used:
            users[used].add(module.room)
    for each in functions():
        others = users[f"{each.module}.{each.owner}"] - {modules()[each.module].room}
        if others and not each.name.startswith("_"):
            yield each


def test_records_pass_between_rooms() -> None:
    """A record's own JSON, `to_json` and `from_json`, is the edge where dictionaries belong."""
    free = [each for each in crossing() if each.name not in ("to_json", "from_json")]
    assert sum(each.dictionaries for each in free) <= MOST_DICTIONARIES


def test_parameters_that_belong_together_travel_together() -> None:
    long = [
        f"{each.module}.{each.name}({', '.join(each.parameters)})"
        for each in crossing()
        if each.positional > MOST_POSITIONAL and not each.is_command and each.name != each.owner
    ]
    assert not long


def test_long_lists_of_parameters_are_documented() -> None:
    """An overload only states types; what it is of has the documentation."""
    bare = [
        f"{each.module}.{each.owner}.{each.name}"
        for each in functions()
        if each.public and len(each.parameters) >= 4 and not each.is_command
        if "overload" not in each.decorators
        if "Parameters\n" not in each.doc and "Attributes\n" not in each.doc
    ]
    assert not bare


def test_the_drawing_names_every_room() -> None:
    drawing = Path(house.ROOT, "docs/architecture.svg").read_text(encoding="utf-8")
    names = " ".join(re.findall(r'class="name">([^<]*)<', drawing))
    rooms = {room.split(".")[1] for room in map(room_of, modules()) if "." in room}
    folders = {room for room in rooms if (Path(house.ROOT, "featbank", room).is_dir())}
    folders |= {room for room in rooms if (Path(house.ROOT, "heads", room).is_dir())}
    assert {room for room in folders if not re.search(rf"\b{room}\b", names)} == set()
