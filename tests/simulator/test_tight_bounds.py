"""A bound is made small where it is read: a module that took the name for itself would go on with the large one."""

from __future__ import annotations

import ast

import pytest

from raftlog import limits
from raftlog.simulator.tight_bounds import BOUNDS, SLEEP_BOUNDS
from tests.source_tree import Module, modules


def _takes(module: Module, name: str) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "raftlog.limits"
        and name in [alias.name for alias in node.names]
        for node in ast.walk(module.tree)
    )


@pytest.mark.parametrize("name", sorted({name for _, name, _ in BOUNDS + SLEEP_BOUNDS}))
def test_a_bound_is_made_small_in_every_place_that_reads_it(name: str) -> None:
    small = [(patched, value) for patched, each, value in BOUNDS + SLEEP_BOUNDS if each == name]
    assert all(value < getattr(limits, name) for _, value in small)
    takers = {module.name for module in modules("raftlog") if _takes(module, name)}
    assert takers == {patched.__name__ for patched, _ in small if patched is not limits}
