"""A module imports its own package and lower layers only; packages of one layer never meet. So do the client's wings.

The table is the one of docs/architecture.md, section 6. Read it there before you change it here.
"""

from __future__ import annotations

import ast

import pytest

from tests.source_tree import ROOT, Module, imports, modules

LAYERS = (
    ("errors", "types", "clock", "config", "limits", "histogram"),
    ("record", "security"),
    ("storage", "protocol"),
    ("consensus", "network", "machine"),
    ("partition", "controller", "coordinator", "client", "kafka"),
    ("view",),
    ("http",),
    ("node", "simulator"),
    ("cli", "faultlab"),
)
# The client's packages, which only look down as well.
WINGS = (("arguments",), ("core",), ("producer", "fetcher"), ("group",), ("consumer", "admin"))
WING_OF = {wing: number for number, wings in enumerate(WINGS) for wing in wings}
LAYER_OF = {package: number for number, layer in enumerate(LAYERS) for package in layer}
# The one home of each library: a change of library is then a change of one package.
HOMES = {
    "pysyncobj": "consensus",
    "zmq": "network",
    "lmdb": "storage",
    "kio": "kafka",
    "click": "cli",
    "rich": "cli",
    "aiohttp": "http",
    "cryptography": "security",
    "scramp": "security",
    "joserfc": "security",
}
# State machines take data and a time and return data.
PURE = ("record", "protocol", "consensus", "machine", "partition", "controller", "coordinator", "kafka")
IMPURE_MODULES = {
    "asyncio",
    "multiprocessing",
    "select",
    "selectors",
    "socket",
    "subprocess",
    "threading",
    "time",
}

SOURCES = modules("raftlog", "cli")


def _ids(module: Module) -> str:
    return module.shown


def test_every_package_has_a_layer() -> None:
    assert {module.package for module in SOURCES} - {""} <= set(LAYER_OF)


@pytest.mark.parametrize("module", SOURCES, ids=_ids)
def test_a_module_imports_its_own_package_and_lower_layers_only(module: Module) -> None:
    if module.name == "raftlog":
        return  # the front door, held by the next test
    wrong = []
    for line, name in imports(module):
        target = _package_of(name)
        if target is None or target == module.package:
            continue
        # Layer 0 is one package: its modules may use each other.
        if LAYER_OF[target] == LAYER_OF[module.package] == 0:
            continue
        if LAYER_OF[target] >= LAYER_OF[module.package]:
            wrong.append(f"{module.shown}:{line} ({module.package}, layer {LAYER_OF[module.package]}) imports {name}")
    assert not wrong


@pytest.mark.parametrize("module", [module for module in SOURCES if module.package == "client"], ids=_ids)
def test_a_wing_of_the_client_imports_itself_and_lower_wings_only(module: Module) -> None:
    wing = _wing_of(module.name)
    if wing is None:
        return  # raftlog.client itself: what users import
    wrong = []
    for line, name in imports(module):
        target = _wing_of(name)
        if target is not None and target != wing and WING_OF.get(target, len(WINGS)) >= WING_OF[wing]:
            wrong.append(f"{module.shown}:{line} ({wing}) imports {name}")
    assert not wrong


def test_the_front_door_imports_the_client_and_the_vocabulary_only() -> None:
    (front,) = (module for module in SOURCES if module.name == "raftlog")
    targets = {_package_of(name) for _, name in imports(front)} - {None}
    assert targets <= {"client", *LAYERS[0]}


@pytest.mark.parametrize("library", HOMES)
def test_each_library_is_imported_in_one_package_only(library: str) -> None:
    wrong = [
        f"{module.shown}:{line}"
        for module in SOURCES
        for line, name in imports(module)
        if name.split(".")[0] == library and module.package != HOMES[library]
    ]
    assert not wrong, f"{library} belongs to {HOMES[library]}/"


@pytest.mark.parametrize("package", PURE)
def test_what_decides_never_reaches_for_a_clock_a_socket_or_a_thread(package: str) -> None:
    wrong = []
    for module in SOURCES:
        if module.package != package:
            continue
        wrong += [f"{module.shown}:{n} {name}" for n, name in imports(module) if name.split(".")[0] in IMPURE_MODULES]
        wrong += [f"{module.shown}:{n} {text}" for n, text in _global_random(module)]
    assert not wrong


def test_the_table_is_the_one_of_the_architecture_page() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text().partition("\n## 6. Layout\n")[2].partition("\n## ")[0]
    rows = [line for line in page.splitlines() if line.startswith("| ") and line.split("|")[1].strip().isdigit()]
    written = {(int(row.split("|")[1]), package) for row in rows for package in _packages_in(row.split("|")[2])}
    assert written == {(number, package) for package, number in LAYER_OF.items()}
    assert "\n    " + " ← ".join(", ".join(wings) for wings in WINGS) + "\n" in page


def _packages_in(cell: str) -> list[str]:
    words = cell.replace("`", " ").replace("raftlog/", " ").split()
    return [word.strip("/").removesuffix(".py") for word in words]


def _wing_of(name: str) -> str | None:
    parts = name.split(".")
    return parts[2] if parts[:2] == ["raftlog", "client"] and len(parts) > 2 else None


def _package_of(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] in ("raftlog_cli", "cli"):
        return "cli"
    if parts[0] != "raftlog":
        return None
    if len(parts) == 1 or parts[1] not in LAYER_OF:
        return "client"  # `from raftlog import Producer`: the front door hands out the client
    return parts[1]


def _global_random(module: Module) -> list[tuple[int, str]]:
    """`random.random()` and the like draw from a generator that no seed of ours controls."""
    return [
        (node.lineno, f"random.{node.attr}")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "random"
        and node.attr != "Random"
    ]
