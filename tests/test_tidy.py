"""The house rules that a machine can hold: docstrings, sizes, words, and pages that match the code."""

from __future__ import annotations

import ast
import configparser
import io
import re
import subprocess
import tokenize
from pathlib import Path

import pytest

from tests.conftest import LONGEST
from tests.source_tree import ROOT, Module, imports, modules

PRODUCT = modules("raftlog", "cli")
ALL = (*PRODUCT, *modules("scripts", "tests"))
# What is started by its name; other files there have an ending that says what they are.
SCRIPTS = sorted(path for path in (ROOT / "scripts").rglob("*") if path.is_file() and not path.suffix)

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

# A function is read as a whole; a file is as long as its one thing.
FUNCTION_LINES_MAX = 70

# docs/architecture.md, section 7: one term per concept, so these never name a thing of ours.
BANNED_WORDS = {
    "shard",
    "shards",
    "master",
    "masters",
    "slave",
    "slaves",
    "chunk",
    "chunks",
    "checkpoint",
    "checkpoints",
}
UNNAMED_MODULES = {"utils", "util", "helpers", "misc", "common"}
# Written in two pieces, or this file would find itself.
UNFINISHED = re.compile("|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]))


def _ids(module: Module) -> str:
    return module.shown


@pytest.mark.parametrize("module", ALL, ids=_ids)
def test_every_module_says_its_one_job(module: Module) -> None:
    if module.path.name == "__init__.py" and not module.text.strip():
        return
    assert ast.get_docstring(module.tree), f"{module.shown} opens without a docstring"


@pytest.mark.parametrize("module", (*PRODUCT, *modules("scripts")), ids=_ids)
def test_a_class_docstring_says_first_what_the_class_is(module: Module) -> None:
    classes = [node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)]
    assert [node.name for node in classes if (ast.get_docstring(node) or "").startswith("`")] == []


@pytest.mark.parametrize("module", ALL, ids=_ids)
def test_no_function_is_long(module: Module) -> None:
    long = [
        f"{node.name} has {lines} lines"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert not long, module.shown


@pytest.mark.parametrize("module", ALL, ids=_ids)
def test_nothing_is_left_for_later_in_a_comment(module: Module) -> None:
    assert not UNFINISHED.search(module.text)


def test_the_formatter_is_kept_from_tables_of_bytes_only() -> None:
    mark = "fmt:" + " skip"
    assert {module.shown for module in ALL if mark in module.text} == {
        "tests/record/test_batch.py",
        "tests/record/test_compacted.py",
    }


@pytest.mark.parametrize("module", ALL, ids=_ids)
def test_no_except_hides_what_it_catches(module: Module) -> None:
    bare = [node.lineno for node in ast.walk(module.tree) if isinstance(node, ast.ExceptHandler) and node.type is None]
    assert not bare, f"{module.shown}: bare except in lines {bare}"


@pytest.mark.parametrize("module", PRODUCT, ids=_ids)
def test_no_pickle(module: Module) -> None:
    pickling = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
    found = [f"{module.shown}:{line}" for line, name in imports(module) if name.split(".")[0] in pickling]
    assert not found


@pytest.mark.parametrize("module", PRODUCT, ids=_ids)
def test_identifiers_use_the_vocabulary(module: Module) -> None:
    found = sorted({name for name in _defined_names(module.tree) if _words(name) & BANNED_WORDS})
    assert not found, f"{module.shown}: see docs/architecture.md, section 7"
    assert module.path.stem not in UNNAMED_MODULES, f"{module.shown}: name the one job"


def test_every_limit_has_its_reason() -> None:
    path = ROOT / "raftlog" / "limits.py"
    lines = path.read_text().splitlines()
    commented = {
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        if token.type == tokenize.COMMENT and len(token.string.strip("#- ")) > 5
    }
    silent = [
        lines[node.lineno - 1]
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and not {node.lineno - 1, node.end_lineno} & commented
    ]
    assert not silent


def test_every_fail_point_is_in_the_durability_page() -> None:
    page = (ROOT / "docs" / "durability.md").read_text()
    points = [point for module in PRODUCT for point in _fail_points(module.tree)]
    assert points
    assert not [point for point in points if f"`{point}`" not in page]


def test_every_guard_is_explained() -> None:
    architecture = (ROOT / "docs" / "architecture.md").read_text()
    consensus = (ROOT / "docs" / "consensus.md").read_text()
    assert not [n for n in range(1, 12) if f"| **G{n}** " not in architecture or f"* **G{n} " not in consensus]


def test_time_outs_are_measured_with_one_clock() -> None:
    """time.monotonic stands still in suspend: raftlog/clock.py says what to call. The labs measure themselves only."""
    labs = {"faultlab", "simulator"}
    others = [m for m in modules("raftlog") if m.path.name != "clock.py" and not labs & set(m.path.parts)]
    assert not [m.shown for m in others if re.search(r"\btime\.(monotonic|perf_counter)|import monotonic\b", m.text)]


def test_setup_cfg_ships_every_package_there_is() -> None:
    shipped = {package for name in ("setup.cfg", "setup-lab.cfg") for package in _setup(name)["packages"].split()}
    there = {m.name for m in PRODUCT if m.path.name == "__init__.py"}
    assert shipped == there
    # Every folder with code is a package.
    assert {m.path.parent for m in PRODUCT} == {m.path.parent for m in PRODUCT if m.path.name == "__init__.py"}


def test_every_dependency_is_used_and_bounded() -> None:
    used = {name.split(".")[0] for module in PRODUCT for _, name in imports(module)}
    imported_as = {"pyzmq": "zmq", "google-crc32c": "google_crc32c"}
    for line in _setup("setup.cfg")["install_requires"].split("\n"):
        if not line:
            continue
        match = re.fullmatch(r"([a-z0-9-]+)(==[0-9.]+|>=[0-9.]+(,!=[0-9.]+)*,<[0-9.]+)", line)
        assert match, f"{line} needs a lower and an upper bound"
        assert imported_as.get(match[1], match[1]) in used, f"{match[1]} is not used"


def test_the_files_that_a_run_begins_with_are_there() -> None:
    assert [name for name in LONGEST if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [t for t in targets if not t.startswith(("http://", "https://")) and not (page.parent / t).exists()]
    assert not missing


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_scripts_are_executable_and_parse(script: Path) -> None:
    first = script.read_text().splitlines()[0]
    assert first.startswith("#!")
    assert script.stat().st_mode & 0o111 == 0o111
    if first.endswith("sh"):
        shell = first.removeprefix("#!").split()[-1].rpartition("/")[2]
        subprocess.run([shell, "-n", str(script)], check=True)


def _setup(name: str) -> configparser.SectionProxy:
    setup = configparser.ConfigParser()
    setup.read(ROOT / name)
    return setup["options"]


def _defined_names(tree: ast.Module) -> set[str]:
    """What this file names itself. Names of other libraries, as attributes or keywords, are theirs."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    return names


def _words(name: str) -> set[str]:
    """`APPEND_WINDOW` and `AppendWindow` are both {append, window}."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def _fail_points(tree: ast.Module) -> list[str]:
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "FAIL_POINTS" and isinstance(node.value, ast.Tuple):
            return [item.value for item in node.value.elts if isinstance(item, ast.Constant)]
    return []
