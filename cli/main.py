"""The `raftlog` command: one file per noun, imported when its noun is named.

What every command shares is here: an error is one line on stderr and exit code 1, a wrong usage 2,
Ctrl-C 130, and a reader that closed the pipe is no error. No command prints a traceback for what a
user or a cluster did. A stdout that was closed before the start is an error BEFORE anything is done.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys

import click

from raftlog import __version__
from raftlog.errors import RaftlogError

from .explain import explain_os_error, explain_raftlog_error
from .failure import OneLineError

_INTERRUPTED = 130  # 128 + SIGINT, as shells count

# The help of a noun stands here as well as in its file, so that `raftlog --help` imports none of them.
NOUNS = {
    "demo": "Kill a leader in the middle of a stream and show that nothing is lost.",
    "node": "Run a node of a cluster.",
    "topic": "Create, list, describe, change and delete topics.",
    "produce": "Write records to a topic, one per line of a file or of stdin.",
    "consume": "Read the records of topics.",
    "group": "Look at consumer groups, delete them, move their offsets.",
    "cluster": "Look at the cluster as a whole, move replicas between its nodes, and take nodes out of it.",
    "top": "Show what goes on: nodes, partitions with their rates, groups with their lag, clients above a quota.",
    "export": "Copy a topic's records into a directory or a file, as they are.",
    "import": "Write the records of an export, or of Apache Kafka's files, to a topic.",
    "doctor": "Say what is wrong with a cluster or a data directory, and what to do.",
    "security": "Make keys and certificates: of a cluster, of its nodes, of its clients.",
    "user": "Create, list and delete users, and change their passwords.",
    "acl": "Say who may do what: add, list and remove rules.",
    "quota": "Limit how many bytes a second who may send and take.",
    "log": "Look into the files of a log.",
    "bench": "Measure how fast a cluster takes and hands out records.",
}


_MODULES = {"import": "import_topic"}  # a word of the language names no module


class Nouns(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in NOUNS:
            return None
        name = _MODULES.get(cmd_name, cmd_name)
        command = getattr(importlib.import_module(f".{name}", __package__), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """An unknown noun is answered with the nearest one, as click does within the nouns."""
        near = difflib.get_close_matches(args[0], NOUNS, n=1)
        if near and args[0] not in NOUNS:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(NOUNS.items()))

    def invoke(self, ctx: click.Context) -> object:
        if sys.stdout is None:
            raise OneLineError("stdout is closed; what nobody shall read goes to /dev/null")
        try:
            result: object = super().invoke(ctx)
            sys.stdout.flush()  # here, where a closed pipe can still be told from a crash
            return result
        except KeyboardInterrupt:
            raise click.exceptions.Exit(_INTERRUPTED) from None
        except BrokenPipeError:
            _abandon_stdout()
            raise click.exceptions.Exit(0) from None
        except RaftlogError as error:
            raise OneLineError(explain_raftlog_error(error)) from None
        except OSError as error:
            raise OneLineError(explain_os_error(error)) from None


def _abandon_stdout() -> None:
    """Let the interpreter's last flush go nowhere: the reader has gone."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


@click.group(cls=Nouns, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version=__version__, prog_name="raftlog")
def raftlog() -> None:
    """raftlog is a replicated log store: topics, partitions, offsets and replay.

    A node is one command, and one node is a full cluster:

    \b
        raftlog node start --id 1
        raftlog topic create orders --partitions 3
        echo hello | raftlog produce orders
        raftlog consume orders --from beginning --exit-at-end

    Kafka's clients use the same topics at 127.0.0.1:9092, and http://127.0.0.1:8071 shows them in a browser.

    See it survive the loss of a leader:

    \b
        raftlog demo

    Every command that talks to a cluster takes --bootstrap, or RAFTLOG_BOOTSTRAP from the environment. `raftlog COMMAND
    --help` shows examples of each.
    """


def main() -> None:
    if sys.stderr is None:  # closed by whoever started us, who wants no notes
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    try:
        raftlog(prog_name="raftlog")
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
