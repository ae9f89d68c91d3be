"""What the lab's clients work with: raftlog's own client, or one of Kafka's through Kafka's door.

Partitions are numbers and the topic is one, so that a role (clients.py) is the same through each of them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from raftlog.errors import ConfigError

NATIVE = "raftlog"
KAFKA = {"confluent-kafka": "confluent_kafka", "kafka-python": "kafka"}
"""Kafka's clients that a role can use, the preferred one first, and the module of each."""
POLL_RECORDS_MAX = 5_000
Shares = Callable[[Collection[int]], None]


class RefusedError(Exception):
    """What was asked for did not happen, or may not have: `outcome_unknown`."""

    def __init__(self, text: str, *, outcome_unknown: bool = True) -> None:
        super().__init__(text)
        self.outcome_unknown = outcome_unknown


class Login(NamedTuple):
    """Under TLS, to nodes that `authority`, a file, has signed for."""

    user: str
    password: str
    authority: str


class Options(NamedTuple):
    """What a client of any library is made with. `login` None: nodes ask nobody who he is."""

    bootstrap: str
    topic: str
    client_id: str
    delivery_ms: int
    session_s: int
    login: Login | None = None


class Producer(Protocol):
    """acks=all, idempotent.

    `may_be_over`: one that failed once may always fail, so that another one goes on.
    """

    may_be_over: bool

    def send(self, batch: Iterable[tuple[int, bytes]]) -> list[int | None]:
        """Of each (partition, value) its offset; None: it may be there, -1: it is not."""
        ...


class Consumer(Protocol):
    """Every call raises RefusedError."""

    def assign(self, positions: Mapping[int, int]) -> None: ...

    def seek(self, partition: int, positions: Mapping[int, int]) -> None:
        """`positions`: of all that it is assigned."""
        ...

    def subscribe(self, assigned: Shares, revoked: Shares, lost: Shares) -> None:
        """As a member of its group."""
        ...

    def poll(self, wait_ms: int) -> dict[int, list[tuple[int, bytes | None]]]:
        """By partition, (offset, value)."""
        ...

    def known_end(self, partition: int) -> int:
        """As the last poll said; 0: it has said nothing."""
        ...

    def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        """The end offsets of now."""
        ...

    def generation(self) -> int | None:
        """In which it was last told its share; None: it is no member now, or its library does not tell."""
        ...

    def commit(self, ends: Mapping[int, int]) -> None: ...


class Watcher(Protocol):
    def committed(self, group: str) -> dict[int, int]:
        """By partition. Raises RefusedError."""
        ...


class Library(Protocol):
    """Each of these raises RefusedError where no node answers."""

    def producer(self) -> AbstractContextManager[Producer]: ...

    def consumer(self, auto_offset_reset: str, group: str = "") -> AbstractContextManager[Consumer]:
        """`group` "": it is assigned its partitions."""
        ...

    def watcher(self) -> AbstractContextManager[Watcher]: ...


def installed(door: str) -> str:
    """The library for a door: `native`, `kafka`, or the name of a library. Raises ConfigError."""
    if door == "native":
        return NATIVE
    names = list(KAFKA) if door == "kafka" else [door]
    for name in names:
        if importlib.util.find_spec(KAFKA[name]) is not None:
            return name
    raise ConfigError(f"--door {door} needs one of Kafka's clients: pip install {' or '.join(names)}")


def library(name: str, options: Options) -> Library:
    # Imported here: each needs a package of its own, and two of the three are not there.
    if name == NATIVE:
        from raftlog.faultlab.native_library import NativeLibrary

        return NativeLibrary(options)
    if name == "confluent-kafka":
        from raftlog.faultlab.confluent_library import ConfluentLibrary

        return ConfluentLibrary(options)
    from raftlog.faultlab.kafka_python_library import KafkaPythonLibrary

    return KafkaPythonLibrary(options)
