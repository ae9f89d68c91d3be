"""Every command is found, explained by an example and named in the documentation."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from raftlog_cli.main import NOUNS, raftlog
from tests.patience import WAIT_S
from tests.source_tree import ROOT

PAGES = "\n".join(path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])


def _walk(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, f"{path} {name}"
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from _walk(command, f"{path} {name}")


COMMANDS = dict(_walk(raftlog, "raftlog"))
LEAVES = [path for path, command in COMMANDS.items() if not isinstance(command, click.Group)]


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_is_explained_with_an_example(path: str) -> None:
    result = CliRunner().invoke(raftlog, [*path.split()[1:], "--help"])
    assert result.exit_code == 0
    assert "Example" in result.output
    indented = [line for line in result.output.splitlines() if line.startswith("    ") and path in line]
    assert indented, f"no example of {path}"


@pytest.mark.parametrize("path", LEAVES)
def test_every_command_is_named_in_the_documentation(path: str) -> None:
    assert path in PAGES


@pytest.mark.parametrize("path", LEAVES)
def test_every_option_has_help(path: str) -> None:
    silent = [each.name for each in COMMANDS[path].params if isinstance(each, click.Option) and not each.help]
    assert not silent


@pytest.mark.parametrize("path", [path for path in COMMANDS if path.count(" ") == 2])
def test_the_first_sentence_of_a_command_fits_the_list_of_commands(path: str) -> None:
    assert not COMMANDS[path].get_short_help_str(limit=60).endswith("...")


@pytest.mark.parametrize("noun", NOUNS)
def test_the_list_of_nouns_says_what_the_noun_says_of_itself(noun: str) -> None:
    assert COMMANDS[f"raftlog {noun}"].get_short_help_str(limit=200) == NOUNS[noun]


def test_help_of_the_whole_imports_no_noun() -> None:
    heavy = ["zmq", "rich", "msgspec", "psutil", "raftlog.client", "raftlog.node"]
    script = (
        "import sys; from click.testing import CliRunner; from raftlog_cli.main import raftlog;"
        "assert CliRunner().invoke(raftlog, ['--help']).exit_code == 0;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert done.stdout.strip() == "[]"


def test_a_client_imports_nothing_of_logins_and_certificates() -> None:
    heavy = ["scramp", "asn1crypto", "cryptography"]
    script = f"import sys, raftlog.client; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert done.stdout.strip() == "[]"


def test_version() -> None:
    result = CliRunner().invoke(raftlog, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("raftlog, version ")
