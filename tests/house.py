"""What the source of the three packages says, read without importing any of it.

A *room* is a folder of modules. A module is named as Python imports it; a package's own module,
its `__init__.py`, goes by the name of the folder and belongs to it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

__all__ = ["PACKAGES", "ROOT", "Function", "Module", "circles", "folder_of", "functions", "modules"]

ROOT = Path(__file__).parent.parent
PACKAGES = ("cli", "featbank", "heads")


@dataclass(frozen=True)
class Function:
    """A function, a method, or a class as it is called: what it takes and what it says of it.

    `dictionaries` counts the parameters, fields and results that are dictionaries from strings to
    anything. `owner` is the name by which another module gets at it: of a method, its class.
    """

    module: str
    owner: str
    name: str
    parameters: tuple[str, ...]
    positional: int
    doc: str
    dictionaries: int
    decorators: tuple[str, ...]

    @property
    def public(self) -> bool:
        """Whether no part of its name is private."""
        return not any(part.startswith("_") for part in f"{self.owner}.{self.name}".split("."))

    @property
    def is_command(self) -> bool:
        """Whether click calls it: its parameters are options, and their help documents them."""
        return any("option" in line or "command" in line for line in self.decorators)


@dataclass(frozen=True)
class Module:
    """One source file."""

    name: str
    path: Path

    @property
    def room(self) -> str:
        """The folder, as Python names it."""
        return ".".join(self.path.relative_to(ROOT).parent.parts)

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"))

    @cached_property
    def imports(self) -> frozenset[str]:
        """Every module of any package that an import statement names, with the names in it."""
        return frozenset(_imported(self.tree))

    @cached_property
    def uses(self) -> frozenset[str]:
        """Modules of the three packages that it imports, inside functions and for types too."""
        known = modules()
        return frozenset(
            found for name in self.imports if (found := _home(name, known)) and found != self.name
        )

    @cached_property
    def names_used(self) -> frozenset[str]:
        """Names of other modules that it uses: ``package.module.name``."""
        aliases = dict(_aliases(self.tree))
        dotted = {
            f"{aliases[node.value.id]}.{node.attr}"
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in aliases
        }
        return frozenset(self.imports | dotted)


@cache
def modules() -> Mapping[str, Module]:
    """Return the modules of the three packages by name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = Module(name, path)
    return found


def folder_of(name: str) -> str:
    """Return the room in which the chain of rooms counts a module: ``package.room``."""
    parts = modules()[name].room.split(".")
    return ".".join(parts[:2])


@cache
def functions() -> tuple[Function, ...]:
    """Return every function, method and constructor that stands at the level of a module."""
    return tuple(found for module in modules().values() for found in _functions(module))


def circles(arrows: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """Return the groups of nodes that reach each other, by depth-first search (Tarjan, 1972)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        stack.append(node)
        for other in sorted(arrows.get(node, ())):
            if other not in order:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], order[other])
        if lowest[node] == order[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(arrows):
        if node not in order:
            visit(node)
    return found


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _home(name: str, known: Mapping[str, Module]) -> str | None:
    """Return the module that an imported name is, or is in."""
    return name if name in known else next((m for m in [name.rpartition(".")[0]] if m in known), "")


def _aliases(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the names that imports give to modules and to what is in them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _functions(module: Module) -> Iterator[Function]:
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef):
            yield _function(module, node, node.name)
        elif isinstance(node, ast.ClassDef):
            yield from _class(module, node)


def _class(module: Module, node: ast.ClassDef) -> Iterator[Function]:
    """Yield a class as its constructor is called, and its methods."""
    doc = ast.get_docstring(node) or ""
    decorators = tuple(map(ast.unparse, node.decorator_list))
    if any("dataclass" in line for line in decorators):
        fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
        names = tuple(ast.unparse(field.target) for field in fields)
        free = sum(_is_free(field.annotation) for field in fields)
        keywords = any("kw_only=True" in line for line in decorators)
        given = 0 if keywords else len(names)
        yield Function(module.name, node.name, node.name, names, given, doc, free, ())
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            made = _function(module, part, node.name, skip_first=True)
            yield Function(**(vars(made) | {"name": node.name, "doc": doc + made.doc}))
        elif isinstance(part, ast.FunctionDef):
            static = any("staticmethod" in ast.unparse(line) for line in part.decorator_list)
            yield _function(module, part, node.name, skip_first=not static)


def _function(
    module: Module, node: ast.FunctionDef, owner: str, *, skip_first: bool = False
) -> Function:
    args = node.args
    positional = [*args.posonlyargs, *args.args][skip_first:]
    taken = [*positional, *args.kwonlyargs]
    annotations = [arg.annotation for arg in taken] + [node.returns]
    return Function(
        module=module.name,
        owner=owner,
        name=node.name,
        parameters=tuple(arg.arg for arg in taken),
        positional=len(positional),
        doc=ast.get_docstring(node) or "",
        dictionaries=sum(_is_free(each) for each in annotations),
        decorators=tuple(map(ast.unparse, node.decorator_list)),
    )


def _is_free(annotation: ast.expr | None) -> bool:
    """Tell whether a type holds a dictionary from strings to anything."""
    text = "" if annotation is None else ast.unparse(annotation)
    return any(f"{kind}[str, Any]" in text for kind in ("dict", "Mapping"))
