"""How a handler runs: a coroutine that asks workers, and is gone on with when their answers are there.

No event loop is behind it. A handler awaits only what this module offers; whoever runs it (`Broker`, a test, the
simulator) says when an answer has come. So a handler reads from top to bottom and owns no thread, socket or clock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from raftlog.errors import ErrorCode
from raftlog.protocol.apis import Api, Served
from raftlog.protocol.body import Body
from raftlog.protocol.envelope import NO_TOPIC
from raftlog.protocol.records import LocateResponse, Place
from raftlog.protocol.session import Session
from raftlog.security.acls import CLUSTER_NAME, Operation, ResourceType
from raftlog.security.policy import Policy
from raftlog.types import Buffer, Endpoint

if TYPE_CHECKING:
    from raftlog.kafka.cluster import Cluster
    from raftlog.kafka.connection import Piece

Fields = Mapping[str, Any]
"""An answer by the field names of its newest version; None: this request has no answer."""


class Leader(NamedTuple):
    """The worker of this node that leads the partition."""

    topic_id: bytes
    partition: int


class AnyLeader(NamedTuple):
    """The worker that leads the partition, on whatever node: for what is rare, and asked of any broker."""

    topic: str
    topic_id: bytes
    partition: int


class Controller(NamedTuple):
    """The worker that leads the metadata, on whatever node."""


class Node(NamedTuple):
    """The supervisor of the node with this address; None: of this node."""

    endpoint: Endpoint | None = None


Target = Leader | AnyLeader | Controller | Node
Told = Callable[[Any, Buffer | None], None]
"""told(answer, payload): once; the answer is one of the row, with an error code where nobody could be asked."""


class Backend(Protocol):
    """Who carries questions to the workers and tells the time. Real sockets, or the simulator's."""

    def ask(
        self, target: Target, api: Api[Any, Any], body: Body, payload: Buffer | None, timeout_s: float, told: Told
    ) -> None:
        """Never raises. `told` may be called before this returns: when there is nobody to ask."""
        ...

    def piece(self, target: Leader, place: LocateResponse | Place) -> Piece | None:
        """Of the records of `target`, to send from; None: its worker is to be asked once more, see LocateRequest."""
        ...

    def now_s(self) -> float: ...

    def now_ms(self) -> int:
        """Of the wall clock."""
        ...

    def mint_id(self) -> bytes:
        """16 random bytes."""
        ...

    def volume_bytes(self) -> tuple[int, int]:
        """The size of the volume that the data directory is on, and what is free there; -1: not known."""
        ...


def nobody(api: Api[Any, Any]) -> Any:
    """The refusal where this node has no worker to ask."""
    if api.served is Served.COORDINATOR:
        return api.refusal(ErrorCode.NOT_COORDINATOR, "this node does not coordinate the group")
    return api.refusal(ErrorCode.NOT_LEADER_OR_FOLLOWER, "this node does not lead the partition")


class Scheduler(Protocol):
    """What a waiting call is told by."""

    backend: Backend

    def at(self, due_s: float, tell: Callable[[], None]) -> None: ...

    def on_change(self, deadline_s: float, tell: Callable[[bool], None]) -> None:
        """`tell(True)` when the cluster's view has changed, `tell(False)` at the deadline."""
        ...


class Wait(Protocol):
    """What a handler may await."""

    def begin(self, scheduler: Scheduler, tell: Callable[[Any], None]) -> None: ...


class _Awaited:
    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self)


class Ask(_Awaited):
    """One question; its value is (answer, payload)."""

    __slots__ = ("api", "body", "payload", "target", "timeout_s")

    def __init__(
        self, target: Target, api: Api[Any, Any], body: Body, payload: Buffer | None, timeout_s: float
    ) -> None:
        self.target = target
        self.api = api
        self.body = body
        self.payload = payload
        self.timeout_s = timeout_s

    def begin(self, scheduler: Scheduler, tell: Callable[[Any], None]) -> None:
        def told(answer: Any, payload: Buffer | None) -> None:
            tell((answer, payload))

        scheduler.backend.ask(self.target, self.api, self.body, self.payload, self.timeout_s, told)


class _Together(_Awaited):
    def __init__(self, waits: Sequence[Any]) -> None:
        self._waits = waits

    def begin(self, scheduler: Scheduler, tell: Callable[[Any], None]) -> None:
        values: list[Any] = [None] * len(self._waits)
        missing = len(values)
        if not missing:
            tell(values)
            return

        def teller(place: int) -> Callable[[Any], None]:
            def told(value: Any) -> None:
                nonlocal missing
                values[place] = value
                missing -= 1
                if not missing:
                    tell(values)

            return told

        for place, wait in enumerate(self._waits):
            wait.begin(scheduler, teller(place))


class _Changed(_Awaited):
    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s

    def begin(self, scheduler: Scheduler, tell: Callable[[Any], None]) -> None:
        scheduler.on_change(self._deadline_s, tell)


class _Slept(_Awaited):
    def __init__(self, due_s: float) -> None:
        self._due_s = due_s

    def begin(self, scheduler: Scheduler, tell: Callable[[Any], None]) -> None:
        scheduler.at(self._due_s, lambda: tell(None))


def together(waits: Sequence[Any]) -> Awaitable[list[Any]]:
    """The values of all of them, in their order; they run at the same time."""
    return _Together(waits)


class Call:
    """One request in its handler."""

    __slots__ = ("_core", "denied", "request", "session", "version")

    def __init__(self, core: Core, session: Session, version: int, request: Any) -> None:
        """`request`: the entity of its version."""
        self._core = core
        self.session = session
        self.version = version
        self.request = request
        self.denied: list[tuple[Operation, ResourceType, str]] = []

    @property
    def cluster(self) -> Cluster:
        """As it is known now: look again after each await."""
        return self._core.cluster

    @property
    def settings(self) -> DoorSettings:
        return self._core.settings

    # --- what its sender may do ------------------------------------------------------------------
    def may(self, operation: Operation, kind: ResourceType, name: str) -> bool:
        """One that is not allowed is remembered in `denied`."""
        allowed = self.sees(operation, kind, name)
        if not allowed:
            self.denied.append((operation, kind, name))
        return allowed

    def sees(self, operation: Operation, kind: ResourceType, name: str) -> bool:
        """Where it is told less otherwise, and refused nothing."""
        session = self.session
        return self._core.policy.allows(session.principal, session.host, operation, kind, name)

    def may_cluster(self, operation: Operation) -> bool:
        return self.may(operation, ResourceType.CLUSTER, CLUSTER_NAME)

    def may_any(self, operation: Operation, kind: ResourceType) -> bool:
        session = self.session
        return self._core.policy.allows_any(session.principal, session.host, operation, kind)

    def operations(self, kind: ResourceType, name: str) -> int:
        """All that it may do with one resource: KIP-430's bit field."""
        session = self.session
        return self._core.policy.allowed(session.principal, session.host, kind, name)

    @property
    def now_s(self) -> float:
        return self._core.backend.now_s()

    def mint_id(self) -> bytes:
        return self._core.backend.mint_id()

    def volume_bytes(self) -> tuple[int, int]:
        return self._core.backend.volume_bytes()

    def ask(
        self, target: Target, api: Api[Any, Any], body: Body, payload: Buffer | None = None, *, timeout_s: float = 30.0
    ) -> Ask:
        return Ask(target, api, body, payload, timeout_s)

    def sleep(self, seconds: float) -> Awaitable[None]:
        return _Slept(self.now_s + seconds)

    def changed(self, deadline_s: float) -> Awaitable[bool]:
        """True once the cluster's view has changed; False when the time is over."""
        return _Changed(deadline_s)


class DoorSettings(NamedTuple):
    """What the operator has said of this door. `max_reauth_ms`: how long a login counts; 0: as long as its session."""

    node_id: int
    auto_create_topics: bool = True
    data_directory: str = ""
    max_reauth_ms: int = 0


class Core(Scheduler, Protocol):
    cluster: Cluster
    policy: Policy
    settings: DoorSettings


Handler = Callable[[Call], Coroutine[Any, Any, Fields | None]]


def run(
    handler: Coroutine[Any, Any, Fields | None],
    scheduler: Scheduler,
    done: Callable[[Fields | None], None],
    failed: Callable[[Exception], None],
) -> None:
    """Runs it to its end. `failed`: it raised, which is a mistake of this program."""

    def go_on(value: Any) -> None:
        try:
            wait = handler.send(value)
        except StopIteration as end:
            done(end.value)
            return
        except Exception as error:  # noqa: BLE001 - a mistake in one handler ends one connection, not the door
            failed(error)
            return
        wait.begin(scheduler, go_on)

    go_on(None)


__all__ = [
    "NO_TOPIC",
    "AnyLeader",
    "Ask",
    "Backend",
    "Call",
    "Controller",
    "Core",
    "DoorSettings",
    "Fields",
    "Handler",
    "Leader",
    "Node",
    "Scheduler",
    "Target",
    "Told",
    "nobody",
    "run",
    "together",
]
