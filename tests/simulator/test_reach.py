"""The list of what the simulator never reaches names code that is there; simulate-coverage keeps it complete."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.simulator import reach
from tests.source_tree import ROOT

NAMED = sorted(reach.named(reach.PAGE.read_text()).items())


@pytest.mark.parametrize(("module", "names"), NAMED, ids=[module for module, _ in NAMED])
def test_what_is_named_as_unreached_is_there(module: str, names: str) -> None:
    path = ROOT / "raftlog" / module
    source = path.read_text()
    functions = {function.name for function in reach.functions(ast.parse(source))}
    lines = {line.strip() for line in source.splitlines()}
    for name, first in re.findall(r"`([^`]+)`(?:: `([^`]+)`)?", names):
        assert name in functions, f"{module} has no {name}"
        assert not first or first in lines, f"{name} has no line {first!r}"


def test_lines_that_follow_each_other_are_one_block_named_by_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "raftlog" / "storage" / "some.py"
    path.parent.mkdir(parents=True)
    path.write_text("def one():\n    a = 1\n    b = 2\n    return a + b\n\n\ndef two():\n    return 2\n")
    monkeypatch.setattr(reach, "ROOT", tmp_path)
    found = reach.blocks(path, [1, 2, 3, 4, 7, 8], [3, 4, 8])
    assert [str(block) for block in found] == ["storage/some.py `one`: `b = 2`", "storage/some.py `two`"]
    assert [reach.is_named(block, {"storage/some.py": "`two`\n"}) for block in found] == [False, True]
    assert all(reach.is_named(block, {"storage/some.py": "all of it\n"}) for block in found)
