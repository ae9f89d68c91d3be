"""What goes wrong is one line on stderr that says what to do, and an exit code; never a traceback."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from raftlog import errors
from raftlog.limits import LOCAL_NODES_MAX
from raftlog_cli import main
from raftlog_cli.explain import explain_raftlog_error
from tests.patience import WAIT_S


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
    """A noun `cluster` that raises what the test puts into the list."""
    raised: list[BaseException] = []

    @click.command()
    def fail() -> None:
        raise raised[0]

    monkeypatch.setattr(main.Nouns, "get_command", lambda *_: fail)
    yield raised


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (errors.RaftlogError("two\nlines"), "raftlog: error: two lines"),
        (errors.ConfigError("port 7071 is in use"), "raftlog: error: port 7071 is in use"),
        (errors.CorruptLogError("both copies are bad"), "raftlog: error: both copies are bad"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x.txt"), "No such file or directory: x.txt"),
        (errors.NoBrokersAvailableError("no node answers at 127.0.0.1:1"), "raftlog node start --id 1"),
        (errors.TopicAlreadyExistsError("topic 'a' exists"), "(TOPIC_ALREADY_EXISTS); choose another name"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_exit_code_1(
    failing: list[BaseException], error: BaseException, line: str
) -> None:
    failing.append(error)
    result = CliRunner().invoke(main.raftlog, ["cluster"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("raftlog: error: ")
    assert line in result.stderr


def test_an_error_of_our_own_is_not_hidden(failing: list[BaseException]) -> None:
    failing.append(ZeroDivisionError())
    result = CliRunner().invoke(main.raftlog, ["cluster"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_interrupting_ends_with_the_code_of_shells(failing: list[BaseException]) -> None:
    failing.append(KeyboardInterrupt())
    result = CliRunner().invoke(main.raftlog, ["cluster"])
    assert (result.exit_code, result.output) == (130, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["topic", "create"],
        ["topic", "create", "a", "--partitions", "0"],
        ["topic", "create", "a", "--config", "retention.ms"],
        ["topic", "create", "a", "--config", "retention.ms=1", "--config", "retention.ms=2"],
        ["produce", "a", "--acks", "2"],
        ["produce", "a", "--partition", "0", "--partitioner", "crc32"],
        ["produce", "a", "--partitioner", "nope"],
        ["produce", "a", "--partitioner", "no_such_module:f"],
        ["produce", "a", "--partitioner", "sys:version"],
        ["produce", "a", "--header", "novalue"],
        ["produce", "a", "--header", "\udcff=1"],
        ["produce", "a", "--key-separator", ""],
        ["produce", "a", "--key-separator", r"\q"],
        ["consume"],
        ["consume", "a", "--from", "yesterday"],
        ["consume", "a", "--from", "-1"],
        ["consume", "a", "--max", "0"],
        ["consume", "a", "--group", "\udcff"],
        ["consume", "a", "--format", "%q"],
        ["consume", "a", "--format", r"\q"],
        ["group", "describe", "\udcff"],
        ["group", "reset-offsets", "\udcff", "--topic", "a", "--to-end"],
        ["bench", "consume", "--local", "0"],
        ["bench", "consume", "--local", str(LOCAL_NODES_MAX + 1)],
        ["acl", "add", "--principal", "a", "--operation", "All", "--cluster", "--prefixed"],
        ["acl", "list", "--prefixed"],
        ["acl", "remove", "--principal", "a", "--prefixed"],
    ],
)
def test_a_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(main.raftlog, arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "two"),
    [
        ("consume a --json --format %v", "--json and --format"),
        ("consume a --tail 1 --from end", "--tail and --from"),
        ("consume a --tail 1 --group g", "--tail and --group"),
        ("consume a --group g --partition 0", "--group and --partition"),
        ("produce a --partition 0 --partitioner murmur2", "--partition and --partitioner"),
        ("group reset-offsets g --topic a --to-end --execute --dry-run", "--execute and --dry-run"),
        ("group reset-offsets g --topic a --to-end --dry-run --execute", "--execute and --dry-run"),
        ("doctor --data d --bootstrap 127.0.0.1:1", "--data and --bootstrap"),
        ("doctor --data d --user u", "--data and --user"),
        ("doctor --data d --security s", "--data and --security"),
        ("doctor --data d --recover a-0 --from 1", "--data and --recover"),
        ("doctor --data d --timeout 1", "--data and --timeout"),
        ("doctor --recover a-0 --from 1 --timeout 1", "--recover and --timeout"),
        ("demo --groups --file f", "--groups and --file"),
        ("demo --groups --kafka", "--groups and --kafka"),
        ("bench produce --bootstrap 127.0.0.1:1 --local 1", "--bootstrap and --local"),
        ("bench produce --bootstrap 127.0.0.1:1 --data d", "--bootstrap and --data"),
        ("bench consume --bootstrap 127.0.0.1:1 --secure", "--bootstrap and --secure"),
        ("bench consume --bootstrap 127.0.0.1:1 --flush os", "--bootstrap and --flush"),
        ("import a --from . --kafka-log-dir .", "--from and --kafka-log-dir"),
    ],
)
def test_options_that_contradict_each_other_are_named(arguments: str, two: str) -> None:
    result = CliRunner().invoke(main.raftlog, arguments.split())
    assert result.exit_code == 2
    assert f"{two} do not go together" in result.stderr
    assert result.stdout == ""


def test_what_the_environment_says_contradicts_no_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAFTLOG_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("RAFTLOG_USER", "somebody")
    result = CliRunner().invoke(main.raftlog, ["doctor", "--data", str(tmp_path / "none")])
    assert "do not go together" not in result.stderr
    assert str(tmp_path / "none") in result.stderr


def test_a_closed_pipe_is_no_error() -> None:
    """The interpreter's own last flush must not complain either."""
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m raftlog --help | true; echo done"],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


@pytest.mark.parametrize(
    ("redirected", "code", "said"),
    [
        ("produce a <&-", 1, "raftlog: error: stdin is closed; "),
        ("topic list >&-", 1, "raftlog: error: stdout is closed; "),
        ("produce a --partitioner nope 2>&-", 2, ""),
    ],
)
def test_a_stream_that_is_closed_from_the_start_is_no_crash(redirected: str, code: int, said: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m raftlog {redirected}"],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == bool(said)


def test_every_error_class_is_explained_in_one_sentence_or_two() -> None:
    for cls in [errors.RaftlogError, *errors.RaftlogError.__subclasses__()]:
        assert explain_raftlog_error(cls("it failed")).startswith("it failed")
        assert explain_raftlog_error(cls()).startswith(cls.__name__)
