"""How a command fails: one line on stderr, and an exit code."""

from __future__ import annotations

import click


class OneLineError(click.ClickException):
    """What went wrong and what to do about it, in one line on stderr. Exit code 1."""

    def show(self, file: object = None) -> None:
        click.echo(f"raftlog: error: {' '.join(self.format_message().split())}", err=True)


class UnusableError(OneLineError):
    """Nothing was done or looked at: the command line, or what it names, cannot be used."""

    exit_code = 2
