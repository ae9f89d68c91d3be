"""Checks of arguments, in the caller's thread: a value that cannot be encoded must not end the client's thread."""

from __future__ import annotations

import inspect
import operator
import os
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from raftlog.errors import ConfigError
from raftlog.limits import OFFSET_MAX
from raftlog.protocol.security import Behalf
from raftlog.security.credentials import Credentials
from raftlog.types import TopicPartition

SECURITY_VARIABLE = "RAFTLOG_SECURITY"

_S = TypeVar("_S")
_P = ParamSpec("_P")
_Options = TypeVar("_Options")


def takes(
    options: Callable[_P, _Options],
) -> Callable[[Callable[[_S, _Options], None]], Callable[Concatenate[_S, _P], None]]:
    """Of an `__init__` that is given one object of options: what makes that object is what its callers write.

    So options are listed once, for two faces and for type checkers, editors and `help`.
    """

    def decorate(init: Callable[[_S, _Options], None]) -> Callable[Concatenate[_S, _P], None]:
        def __init__(self: _S, /, *args: _P.args, **keywords: _P.kwargs) -> None:
            init(self, options(*args, **keywords))

        __init__.__doc__ = init.__doc__
        __init__.__qualname__ = init.__qualname__
        __init__.__dict__["__signature__"] = inspect.signature(getattr(options, "__init__"))  # noqa: B009 - of a class
        return __init__

    return decorate


def who(user: str | Behalf | None, password: str | None) -> Callable[[], tuple[str, str] | Behalf] | None:
    """As whom a client asks; what is not given is taken of RAFTLOG_USER and RAFTLOG_PASSWORD. Raises ConfigError.

    A Behalf: it asks as a node, for somebody else.
    """
    if isinstance(user, Behalf):
        behalf = user
        return lambda: behalf
    user = os.environ.get("RAFTLOG_USER") if user is None else user
    if not user:
        return None
    password = os.environ.get("RAFTLOG_PASSWORD") if password is None else password
    if not password:
        raise ConfigError(f"user {user} needs a password: --password-file, or password=")
    found = (text(user), text(password))
    return lambda: found


def text(value: str) -> str:
    """Raises TypeError, and ValueError for what UTF-8 cannot say."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    value.encode()
    return value


def number(what: str, value: int, least: int = 0, most: int = OFFSET_MAX) -> int:
    """Raises TypeError for what is no whole number, and ValueError outside of [least, most]."""
    try:
        found = operator.index(value)
    except TypeError:
        raise TypeError(f"{what} is a whole number, not {value!r}") from None
    if not least <= found <= most:
        raise ValueError(f"{what} is between {least} and {most}, not {found}")
    return found


def offset(value: int) -> int:
    """Raises as `number`."""
    return number("an offset", value)


def partition(value: int) -> int:
    """Raises as `number`. Which partitions there are, the metadata knows."""
    return number("a partition", value, -(2**31), 2**31 - 1)


def place(value: TopicPartition) -> TopicPartition:
    """Raises TypeError, ValueError."""
    topic, partition = value
    return TopicPartition(text(topic), number("a partition", partition, most=2**31 - 1))


def seconds(what: str, value_ms: float, *, least_ms: float | None = None, finite: bool = True) -> float:
    """Of a time to wait. Without `least_ms` it is above 0. Raises TypeError, ValueError."""
    if not isinstance(value_ms, int | float):
        raise TypeError(f"{what} must be a number of milliseconds, not {value_ms!r}")
    is_enough = value_ms > 0 if least_ms is None else value_ms >= least_ms
    if not is_enough or (finite and value_ms == float("inf")):
        number = "a finite number" if finite else "a number"
        bound = "above 0" if least_ms is None else f"of at least {least_ms:g}"
        raise ValueError(f"{what} must be {number} {bound}, not {value_ms}")
    return value_ms / 1000


def function(what: str, value: Callable[..., object] | None) -> None:
    """Raises TypeError for what is neither a function nor None."""
    if value is not None and not callable(value):
        raise TypeError(f"{what} must be a function, not {value!r}")


def record(key: object, value: object, headers: object, number: int | None) -> None:
    """What no batch takes, and what is the number of no partition. Raises TypeError, ValueError."""
    if number is not None:
        partition(number)
    for what, part in (("key", key), ("value", value)):
        if part is not None and not isinstance(part, bytes | bytearray | memoryview):
            raise TypeError(f"the {what} must be bytes or None, not {part!r}: encode it, or set {what}_serializer")
    if not isinstance(headers, list):
        raise TypeError(f"headers must be a list of (name, bytes) pairs, not {headers!r}")
    for header in headers:
        if not isinstance(header, tuple) or len(header) != 2:
            raise TypeError(f"a header must be a pair (name, bytes), not {header!r}")
        name, content = header
        text(name)
        if content is not None and not isinstance(content, bytes | bytearray | memoryview):
            raise TypeError(f"the value of header {name!r} must be bytes or None, not {content!r}")


def credentials(directory: str | None) -> Credentials | None:
    """Of a directory; None: what the environment says; None comes back: no security. Raises ConfigError, TypeError."""
    found = os.environ.get(SECURITY_VARIABLE, "") if directory is None else text(directory)
    return Credentials.read(found) if found else None
