"""docs/code.md leads through files and functions that there are."""

from __future__ import annotations

import ast
import re

import pytest

from tests.source_tree import ROOT

PAGE = (ROOT / "docs" / "code.md").read_text()
STEPS = re.findall(r"^\| `([a-z_/]+\.py)` \| (.+?) \| .+ \|$", PAGE, re.M)


def test_the_page_has_its_ways() -> None:
    ways = re.findall(r"^## (An? .*)$", PAGE, re.M)
    native = ["A produce", "A fetch", "A JoinGroup", "A CreateTopics"]
    assert ways == [*native, "A produce through Kafka's door", "A failover", "A move"]
    assert len(STEPS) > 50
    assert len(STEPS) == len(re.findall(r"^\| `", PAGE, re.M))


@pytest.mark.parametrize(("path", "functions"), STEPS)
def test_a_step_names_functions_of_its_file(path: str, functions: str) -> None:
    tree = ast.parse((ROOT / "raftlog" / path).read_text())
    there = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    named = re.findall(r"`(\w+)`", functions)
    assert named
    assert set(named) <= there


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(raftlog/[^`]*)`", PAGE))))
def test_a_path_that_the_page_names_exists(path: str) -> None:
    assert (ROOT / path).exists()
