"""How much of the replicas, the group coordinator and Kafka's door the simulator runs, and which lines it never does.

The command behind scripts/simulate-coverage. docs/results/simulator.md names what is never reached, with the reason; a
line that is not reached and not named there makes the exit code 1; of Kafka's door, most of whose handlers serve what
the simulated clients never ask, modules are counted only. One process, so that the tracer sees everything.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import coverage

from tests.source_tree import ROOT

NAMED = ("consensus", "storage", "partition", "machine", "coordinator")
COUNTED = (*NAMED, "kafka")
PAGE = ROOT / "docs" / "results" / "simulator.md"


class Block(NamedTuple):
    """Lines that follow each other in one function and were not run; `first` is the text of the first one."""

    module: str
    function: str
    first: str
    lines: int

    def __str__(self) -> str:
        return f"{self.module} `{self.function}`: `{self.first}`" if self.first else f"{self.module} `{self.function}`"


class _Function(NamedTuple):
    name: str
    first: int
    last: int
    body: frozenset[int]


def functions(tree: ast.AST, prefix: str = "") -> Iterator[_Function]:
    """Every function, the inner ones before the outer ones."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            name = f"{prefix}{node.name}"
            yield from functions(node, f"{name}.")
            if isinstance(node, ast.FunctionDef):
                nodes = [each for statement in node.body for each in ast.walk(statement)]
                lines = frozenset(each.lineno for each in nodes if isinstance(each, (ast.stmt, ast.expr)))
                yield _Function(name, node.lineno, node.end_lineno or node.lineno, lines)
        elif not isinstance(node, ast.expr):
            yield from functions(node, prefix)


def blocks(path: Path, statements: list[int], missing: list[int]) -> list[Block]:
    """`first` is empty where nothing of a function was run."""
    module = str(path.relative_to(ROOT / "raftlog"))
    source = path.read_text().splitlines()
    known = list(functions(ast.parse(path.read_text())))

    def function_of(line: int) -> _Function | None:
        return next((each for each in known if each.first <= line <= each.last), None)

    found: list[Block] = []
    previous = -1
    unreached = set(missing)
    for number, line in enumerate(statements):
        if line not in unreached:
            continue
        function = function_of(line)
        name = function.name if function else ""
        whole = function is not None and not [s for s in statements if s in function.body and s not in unreached]
        goes_on = bool(found) and number == previous + 1 and (found[-1].module, found[-1].function) == (module, name)
        if goes_on:
            found[-1] = found[-1]._replace(lines=found[-1].lines + 1)
        else:
            found.append(Block(module, name, "" if whole else source[line - 1].strip(), 1))
        previous = number
    return found


def named(page: str) -> dict[str, str]:
    """Module -> what the page says of it: the names of all rows of the table that are about it."""
    table = page.split("<!-- unreached: begin -->")[1].split("<!-- unreached: end -->")[0]
    found: dict[str, str] = {}
    for modules, names in re.findall(r"^\| (`[^|]*`) \| ((?:[^|]|\\\|)*) \|", table, re.M):
        for module in re.findall(r"`([^`]*)`", modules):
            found[module] = found.get(module, "") + names.replace("\\|", "|") + "\n"
    return found


def is_named(block: Block, names: dict[str, str]) -> bool:
    text = names.get(block.module, "")
    if text.startswith("all"):
        return True
    if not block.first:
        return f"`{block.function}`" in text
    return f"`{block.function}`: `{block.first}`" in text


def run(seeds: int) -> tuple[int, list[str]]:
    """`seeds` of the mix, and fewer of five nodes and of each story. Returns how many, and what broke."""
    from raftlog.simulator.run import run_seed  # measured from its import on
    from raftlog.simulator.scenarios import SCENARIOS

    verdicts = [run_seed(seed) for seed in range(seeds)]
    few = max(1, seeds // 10)
    verdicts += [run_seed(seed, nodes=5) for seed in range(few)]
    verdicts += [run_seed(seed, nodes=1) for seed in range(few)]
    verdicts += [run_seed(seed, scenario=name) for name in SCENARIOS for seed in range(few)]
    return len(verdicts), [f"seed {verdict.seed}: {verdict.text}" for verdict in verdicts if verdict.kind]


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/simulate-coverage", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=60, metavar="N", help="seeds of the mix of faults (60)")
    options = parser.parse_args()
    tracer = coverage.Coverage(
        branch=True, data_file=None, config_file=False, source_pkgs=[f"raftlog.{package}" for package in COUNTED]
    )
    tracer.start()
    count, broken = run(options.seeds)
    tracer.stop()
    print(f"{count} runs: {options.seeds} of the mix, the others of 5 nodes, 1 node and each scenario")
    tracer.report(file=sys.stdout, skip_empty=True)
    names = named(PAGE.read_text())
    unnamed = []
    for package in NAMED:
        for path in sorted((ROOT / "raftlog" / package).glob("*.py")):
            _, statements, _, missing, _ = tracer.analysis2(str(path))
            unnamed += [block for block in blocks(path, statements, missing) if not is_named(block, names)]
    print(f"not reached and not named in docs/results/simulator.md: {len(unnamed)}")
    for block in unnamed:
        print(f"  {block} ({block.lines})")
    for line in broken:
        print(line)
    return 1 if unnamed or broken else 0


if __name__ == "__main__":
    sys.exit(main())
