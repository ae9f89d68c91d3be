"""Options that several commands share."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource


class _Number(click.types.IntParamType):
    """A whole number whose bounds are those of its bytes: no help names them, since nobody comes near."""

    def __init__(self, first: int, last: int) -> None:
        self._first = first
        self._last = last

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = int(super().convert(value, param, ctx))
        if not self._first <= number <= self._last:
            self.fail(f"{number} is not in the range {self._first}<=x<={self._last}.", param, ctx)
        return number


# Partitions, nodes and factors are 32-bit numbers in Kafka's protocol, offsets 64-bit ones.
COUNT = _Number(1, 2**31 - 1)
PARTITION = _Number(0, 2**31 - 1)
OFFSET_MAX = 2**63 - 1
OFFSET = _Number(0, OFFSET_MAX)
DISTANCE = _Number(-(2**63), 2**63 - 1)
_SECONDS_MAX = 86_400.0

DEFAULT_BOOTSTRAP = "127.0.0.1:7071"
_Command = TypeVar("_Command", bound=Callable[..., object])


class Seconds(click.FloatRange):
    """A day at most. A range alone lets `nan` through, which is neither below nor above anything."""

    def __init__(self, min_s: float) -> None:
        super().__init__(min_s, _SECONDS_MAX)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = float(super().convert(value, param, ctx))
        if math.isnan(seconds):
            self.fail(f"{value} is no number of seconds.", param, ctx)
        return seconds


# What a command that works without a cluster does not take.
CLUSTER_OPTIONS = ("--bootstrap", "--user", "--password-file", "--security")


def excludes(option: str, others: tuple[str, ...], why: str) -> Callable[[_Command], _Command]:
    """`option` goes with none of `others`, where somebody wrote both: the environment and defaults count for nothing.

    Stands below the options of a command.
    """

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def checked(*args: object, **kwargs: object) -> object:
            given = _given(click.get_current_context())
            for other in others:
                if option in given and other in given:
                    raise click.UsageError(f"{option} and {other} do not go together: {why}")
            return command(*args, **kwargs)

        return checked  # type: ignore[return-value] # it takes and gives the same

    return decorate


def _given(context: click.Context) -> set[str]:
    """All names of the options that stand on the command line."""
    return {
        name
        for parameter in context.command.params
        if parameter.name is not None and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
        for name in parameter.opts
    }


def bootstrap_option(command: _Command) -> _Command:
    """Where the cluster is, and with what it is asked."""
    command = click.option(
        "--security",
        metavar="DIR",
        envvar="RAFTLOG_SECURITY",
        show_envvar=True,
        expose_value=False,
        callback=_use_security,
        help="Certificates for nodes that run with --security: the directory that `raftlog security client` made.",
    )(command)
    command = click.option(
        "--password-file",
        "own_password_file",
        metavar="FILE",
        envvar="RAFTLOG_PASSWORD_FILE",
        expose_value=False,
        callback=_use_password,
        show_envvar=True,
        help="The password of --user: the first line of FILE.",
    )(command)
    command = click.option(
        "--user",
        "own_user",
        metavar="NAME",
        envvar="RAFTLOG_USER",
        show_envvar=True,
        expose_value=False,
        callback=_use_user,
        help="Log in as this user, where the cluster has users.",
    )(command)
    return click.option(
        "--bootstrap",
        metavar="HOST:PORT,…",
        envvar="RAFTLOG_BOOTSTRAP",
        default=DEFAULT_BOOTSTRAP,
        show_default=True,
        show_envvar=True,
        callback=check_bootstrap,
        help="Addresses of some nodes of the cluster; one that answers is enough.",
    )(command)


def _use_security(context: click.Context, option: click.Parameter, value: str | None) -> None:
    """All clients of this process, and of those that it starts, take it from the environment."""
    if value is not None:
        os.environ["RAFTLOG_SECURITY"] = value


def _use_user(context: click.Context, option: click.Parameter, value: str | None) -> None:
    """All clients of this process, and of those that it starts, take it from the environment."""
    if value is not None:
        os.environ["RAFTLOG_USER"] = value


def _use_password(context: click.Context, option: click.Parameter, value: str | None) -> None:
    """Never an argument: what is written there every user of the machine can see."""
    if value is not None:
        try:
            with open(value) as file:
                os.environ["RAFTLOG_PASSWORD"] = file.readline().rstrip("\r\n")
        except OSError as error:
            raise click.BadParameter(f"cannot read {value}: {error.strerror}", context, option) from None


def check_bootstrap(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    from raftlog.client.core.engine import parse_bootstrap

    if value is not None:
        try:
            parse_bootstrap(value)
        except ValueError as error:
            raise click.BadParameter(str(error), context, option) from None
    return value


_Names = str | tuple[str, ...] | None


def check_group(context: click.Context, option: click.Parameter, value: _Names) -> _Names:
    """Of one group, or of several."""
    from raftlog.limits import GROUP_NAME_MAX_BYTES

    for name in (value,) if isinstance(value, str) else value or ():
        if not 0 < len(_encoded(name)) <= GROUP_NAME_MAX_BYTES:
            raise click.BadParameter(f"a group's name has 1 to {GROUP_NAME_MAX_BYTES} bytes", context, option)
    return value


def json_option(command: _Command) -> _Command:
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object on one line, and nothing else on stdout."
    )(command)


def parse_pairs(texts: tuple[str, ...], option: str) -> list[tuple[str, str]]:
    """`("a=1", "b=2")` to pairs. Raises click.BadParameter, which names the option."""
    pairs = []
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
        _encoded(name, option)
        pairs.append((name, value))
    return pairs


def _encoded(name: str, option: str | None = None) -> bytes:
    """What the shell handed over may be any bytes; a name is text."""
    try:
        return name.encode()
    except UnicodeEncodeError:
        raise click.BadParameter(f"{name!r} is not UTF-8", param_hint=option) from None
