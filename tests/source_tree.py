"""The project's own sources as data, for the tests that hold the house rules."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
_FRONTS = ("raftlog", "raftlog_cli", "raftlog.client")  # what is imported from them is mostly a module


class Module(NamedTuple):
    """`name` is the name under which it is imported: cli/ is installed as raftlog_cli."""

    path: Path
    name: str
    text: str
    tree: ast.Module

    @property
    def shown(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def package(self) -> str:
        """The first part below raftlog (`storage`), `cli`, or a module of layer 0 (`errors`)."""
        parts = self.name.split(".")
        if parts[0] == "raftlog_cli" or self.name == "raftlog.__main__":  # the command by another name
            return "cli"
        return parts[1] if len(parts) > 1 else ""


def _name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    if parts[0] == "cli":
        parts[0] = "raftlog_cli"
    return ".".join(parts)


@functools.cache
def modules(*folders: str) -> tuple[Module, ...]:
    found = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text()
            found.append(Module(path, _name(path), text, ast.parse(text, str(path))))
    return tuple(found)


def imports(module: Module) -> Iterator[tuple[int, str]]:
    """(line, absolute module name) of every import, those under `if TYPE_CHECKING` included."""
    package = module.name.split(".")
    if module.path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
            base = base if node.level else node.module or ""
            for alias in node.names:
                # `from raftlog import types` imports raftlog.types, not raftlog.
                yield node.lineno, f"{base}.{alias.name}" if base in _FRONTS else base
