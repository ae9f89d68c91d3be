"""A door without sockets: requests as bytes of any version, answers as dicts, and workers that the test plays."""

from __future__ import annotations

import dataclasses
import io
import struct
import typing
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader, entity_writer

from raftlog.kafka import apis, wire
from raftlog.kafka.calls import Call, DoorSettings, Target, Told, run
from raftlog.kafka.cluster import Cluster
from raftlog.protocol.apis import Api
from raftlog.protocol.body import Body
from raftlog.protocol.cluster import MetadataResponse, NodeMetadata, PartitionMetadata, TopicMetadata
from raftlog.protocol.session import Session
from raftlog.security.policy import OPEN
from raftlog.types import Buffer, Endpoint, TopicConfig

Worker = Callable[[Target, Any], Any]
CORRELATION_ID = 77


def topic_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def topic(name: str, number: int = 1, leaders: tuple[int, ...] = (1,), config: TopicConfig | None = None) -> Any:
    """`leaders`: of each partition, -1 for none; nodes 1 to 3 have the replicas."""
    return TopicMetadata(
        name=name,
        topic_id=topic_id(number),
        error_code=0,  # type: ignore[arg-type]  # as it travels
        partitions=[
            PartitionMetadata(
                partition=partition,
                leader_id=leader,
                leader_epoch=-1 if leader < 0 else 5,
                endpoint=None,
                replicas=[1, 2, 3],
                in_sync=[] if leader < 0 else [1, 2],
            )
            for partition, leader in enumerate(leaders)
        ],
        config=msgspec.structs.asdict(config or TopicConfig()),
    )


def cluster(*topics: TopicMetadata) -> Cluster:
    """Three nodes, of which node 3 is not alive; node 1 is asked, node 2 is the controller's."""
    nodes = [
        NodeMetadata(
            node_id=node_id,
            endpoint=Endpoint("127.0.0.1", 7070 + node_id),
            alive=node_id != 3,
            voter=True,
            kafka=Endpoint("127.0.0.1", 9091 + node_id),
        )
        for node_id in (1, 2, 3)
    ]
    return Cluster(MetadataResponse(cluster_id="one", controller_id=2, nodes=nodes, topics=list(topics)))


class Begun:
    """A request on its way; `answer` None: it is not answered yet."""

    def __init__(self, key: int, version: int) -> None:
        self._key = key
        self._version = version
        self.answer: dict[str, Any] | None = None

    def answered(self, fields: Any) -> None:
        """The answer travels as bytes too."""
        data = wire.write_answer(self._key, self._version, CORRELATION_ID, fields)
        self.answer = decode(self._key, self._version, data)


class Door:
    """`workers`: what answers each native API; an API without one fails the test. Time moves when all waits."""

    def __init__(self, known: Cluster) -> None:
        self.cluster = known
        self.settings = DoorSettings(1, data_directory="/var/lib/raftlog")
        self.backend = self
        self.policy = OPEN
        self.client_id = "test"
        self.workers: dict[Api[Any, Any], Worker] = {}
        self.asked: list[tuple[Target, Any]] = []
        self._changes: list[Callable[[bool], None]] = []
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._now_s = 100.0
        self._ids = 0

    # --- what a handler is run by --------------------------------------------------------------
    def ask(
        self, target: Target, api: Api[Any, Any], body: Body, payload: Buffer | None, timeout_s: float, told: Told
    ) -> None:
        assert payload is None and timeout_s >= 0
        self.asked.append((target, body))
        answer = self.workers[api](target, body)
        # As over a wire: what cannot be encoded fails here.
        told(api.decode_response(msgspec.msgpack.encode(answer)), None)

    def now_s(self) -> float:
        return self._now_s

    def now_ms(self) -> int:
        return 1_700_000_000_000

    def mint_id(self) -> bytes:
        self._ids += 1
        return self._ids.to_bytes(16, "big")

    def volume_bytes(self) -> tuple[int, int]:
        return 1000, 400

    def at(self, due_s: float, tell: Callable[[], None]) -> None:
        self._timers.append((due_s, tell))

    def on_change(self, deadline_s: float, tell: Callable[[bool], None]) -> None:
        told = False

        def once(changed: bool) -> None:
            nonlocal told
            if not told:
                told = True
                tell(changed)

        self._changes.append(once)
        self.at(deadline_s, lambda: once(False))

    # --- what a test does ----------------------------------------------------------------------
    def learn(self, known: Cluster) -> None:
        known.follow(self.cluster, self._now_s)
        self.cluster = known
        waiting, self._changes = self._changes, []
        for tell in waiting:
            tell(True)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        self.at(self._now_s + seconds, act)

    def begin(self, name: str, version: int, *, trailing: bytes = b"", **fields: Any) -> Begun:
        """A request of Kafka's, as bytes on its way. `trailing`: behind its end."""
        api = next(api for api in apis.APIS if api.name == name)
        assert api.first <= version <= api.last and api.handler is not None
        frame = encode(api.key, version, fields) + trailing
        header, at = wire.read_header(frame)
        assert (header.api_key, header.version, header.correlation_id) == (api.key, version, CORRELATION_ID)
        session = Session("test", "127.0.0.1:50000")
        session.client_id = self.client_id
        begun = Begun(api.key, version)
        call = Call(self, session, version, wire.read_request(api.key, version, frame, at))
        run(api.handler(call), self, begun.answered, _fail)
        return begun

    def request(self, name: str, version: int, **fields: Any) -> dict[str, Any]:
        """Its answer, however long it takes."""
        begun = self.begin(name, version, **fields)
        while begun.answer is None:
            assert self._timers, "the handler waits for what never comes"
            self._timers.sort(key=lambda timer: timer[0])
            self._now_s, act = self._timers.pop(0)
            act()
        return begun.answer


def versions(name: str) -> range:
    api = next(api for api in apis.APIS if api.name == name)
    return range(api.first, api.last + 1)


def _fail(error: Exception) -> None:
    raise error


# --- bytes -----------------------------------------------------------------------------------------
def encode(key: int, version: int, fields: dict[str, Any]) -> bytes:
    schema = load_request_schema(key, version)
    out = io.BytesIO()
    header = schema.__header_schema__
    named = {
        "request_api_key": key,
        "request_api_version": version,
        "correlation_id": CORRELATION_ID,
        "client_id": "test",
    }
    names = {each.name for each in dataclasses.fields(header)}
    entity_writer(header)(out, header(**{name: value for name, value in named.items() if name in names}))
    entity_writer(schema)(out, _entity(schema, fields))
    return out.getvalue()


def decode(key: int, version: int, frame: bytes) -> dict[str, Any]:
    schema = load_response_schema(key, version)
    length, correlation_id = struct.unpack_from(">ii", frame)
    assert (length, correlation_id) == (len(frame) - 4, CORRELATION_ID)
    _, size = entity_reader(schema.__header_schema__)(frame, 4)
    entity, body_size = entity_reader(schema)(frame, 4 + size)
    assert 4 + size + body_size == len(frame), "bytes are left over"
    return typing.cast(dict[str, Any], _plain(entity))


def _entity(schema: Any, fields: dict[str, Any]) -> Any:
    """With those of the fields that the version has, and the schema's defaults for the others."""
    hints = typing.get_type_hints(schema)
    values = {}
    for each in dataclasses.fields(schema):
        if each.name in fields:
            values[each.name] = _value(hints[each.name], fields[each.name], each.metadata.get("kafka_type"))
        elif each.default is dataclasses.MISSING:
            values[each.name] = _nothing(hints[each.name])
    return schema(**values)


def _value(hint: Any, value: Any, kind: str | None) -> Any:
    if value is None or kind == "uuid":
        return uuid.UUID(bytes=value) if value else None
    if kind in ("timedelta_i32", "timedelta_i64"):
        return timedelta(milliseconds=value)
    inner = next((each for each in typing.get_args(hint) if each is not type(None)), hint)
    if typing.get_origin(hint) is tuple:
        return tuple(_value(inner, each, kind) for each in value)
    if inner is not hint:
        return _value(inner, value, kind)
    return _entity(hint, value) if dataclasses.is_dataclass(hint) else value


def _nothing(hint: Any) -> Any:
    if type(None) in typing.get_args(hint):
        return None
    if typing.get_origin(hint) is tuple:
        return ()
    return timedelta() if "Timedelta" in str(hint) else False if hint is bool else "" if issubclass(hint, str) else 0


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, timedelta):
        return value // timedelta(milliseconds=1)
    if isinstance(value, uuid.UUID):
        return value.bytes
    return getattr(value, "value", value)
