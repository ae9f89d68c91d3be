"""The shell completes what the command knows, by the lines of docs/commands.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import WAIT_S
from tests.source_tree import ROOT

_BIN = str(Path(sys.executable).parent)


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PATH": f"{_BIN}:{os.environ['PATH']}", **more}


def _completed(words: str) -> list[str]:
    """What bash would offer for the last word of the line."""
    environment = _environment(
        _RAFTLOG_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(words.split(" ")) - 1)
    )
    done = subprocess.run(["raftlog"], env=environment, capture_output=True, text=True, check=True, timeout=WAIT_S)
    return [line.removeprefix("plain,") for line in done.stdout.split()]


def test_nouns_verbs_and_options_are_completed() -> None:
    assert _completed("raftlog to") == ["topic", "top"]
    assert _completed("raftlog topic de") == ["delete", "delete-records", "describe"]
    assert _completed("raftlog topic create orders --part") == ["--partitions"]
    assert _completed("raftlog nothing-like-that x") == []


def _documented(shell: str) -> str:
    page = (ROOT / "docs" / "commands.md").read_text()
    (line,) = re.findall(rf"^\| {shell} \|.*\| `([^`]+)` \|$", page, re.M)
    return line.replace("\\|", "|")


def test_the_documented_line_makes_bash_complete() -> None:
    script = f"{_documented('bash')}\ncomplete -p raftlog"
    done = subprocess.run(
        ["bash", "-euc", script], env=_environment(), capture_output=True, text=True, check=True, timeout=WAIT_S
    )
    assert "_raftlog_completion" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_documented_lines_get_a_script_of_their_shell(shell: str) -> None:
    found = re.search(r"(_RAFTLOG_COMPLETE=\w+ raftlog)", _documented(shell))
    assert found
    done = subprocess.run(
        ["bash", "-euc", found[1]], env=_environment(), capture_output=True, text=True, check=True, timeout=WAIT_S
    )
    assert f"{shell}_complete" in done.stdout
