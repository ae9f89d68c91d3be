"""No bytes on a worker's or a supervisor's real sockets end it, and it goes on serving others.

One node runs for the whole file; each test compares process ids before and after, so that a process which
died and was started again does not pass for one that lived.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftlog.errors import ErrorCode
from raftlog.limits import FRAME_BYTES_MAX, FRAMES_PER_MESSAGE_MAX, HEADER_BYTES_MAX, NODE_FRAME_BYTES_MAX
from raftlog.network import stream
from raftlog.node.local import LocalCluster
from raftlog.protocol import apis, codec
from raftlog.protocol import nodes as n
from raftlog.protocol.body import Body
from raftlog.protocol.cluster import DescribeReplicasRequest, MetadataRequest
from raftlog.protocol.envelope import NO_TOPIC
from raftlog.protocol.records import FetchRequest, ListOffsetsRequest, ProduceRequest
from raftlog.protocol.topics import CreateTopicsRequest, NewTopic
from raftlog.record.batch import encode
from raftlog.types import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, METADATA_TOPIC, METADATA_TOPIC_ID, Endpoint
from tests.fuzz.garbage import BATCHES, CONTROLLER_REQUESTS, GOOD_BATCHES, HEADERS, NODE_REQUESTS, RAFT_MESSAGES, said
from tests.fuzz.talker import GREETING, READY, Talker, closed_by_other_side, greet, raw

pytestmark = pytest.mark.cluster

TOPIC = "fuzzed"
RECORDS = 10
TARGETS = ["supervisor", "worker", "controller"]
MANY = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


class Target(NamedTuple):
    endpoint: Endpoint
    pid: int
    topic_id: bytes
    cluster_id: str
    boot_ids: dict[int, int] = {}  # by port for Raft

    def greeting(self, port: int) -> bytes:
        return stream.GREETING.pack(stream.GREETING_MAGIC, self.boot_ids[port])

    @property
    def raft_ports(self) -> list[int]:
        """Of a worker: where else than at its endpoint its process listens."""
        ports = {
            each.laddr.port
            for each in psutil.Process(self.pid).net_connections("tcp4")
            if each.status == psutil.CONN_LISTEN
        }
        return sorted(ports - {self.endpoint.port})


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    with LocalCluster(nodes=1, directory=tmp_path_factory.mktemp("fuzzed")) as node:
        host, _, port = node.bootstrap.rpartition(":")
        supervisor = Endpoint(host, int(port))
        with contextlib.closing(Talker(supervisor)) as talker:
            metadata = talker.ask(MetadataRequest())
            controller, cluster_id = metadata.controller, metadata.cluster_id
            with contextlib.closing(Talker(controller)) as creator:
                created = creator.ask(
                    CreateTopicsRequest(mutation_id=bytes(16), since_offset=0, topics=[NewTopic(name=TOPIC)])
                )
            assert created.results[0].error_code == 0, created
            worker = _leader_of(talker)
            found = {
                "supervisor": Target(supervisor, node.pids[1], METADATA_TOPIC_ID, cluster_id),
                "worker": Target(worker, _process_of(talker, TOPIC), created.results[0].topic_id, cluster_id),
                "controller": Target(controller, _process_of(talker, METADATA_TOPIC), METADATA_TOPIC_ID, cluster_id),
            }
            with contextlib.closing(Talker(worker)) as producer:
                for number in range(RECORDS):
                    batch = encode([(number, None, b"record %d" % number)])
                    assert (
                        producer.ask(_produce(), [batch], topic_id=found["worker"].topic_id, partition=0).error_code
                        == 0
                    )
            assert [len(found[name].raft_ports) for name in TARGETS] == [0, 1, 1]
            boot_ids = _boot_ids(talker, cluster_id)
            yield {name: target._replace(boot_ids=boot_ids) for name, target in found.items()}
            assert node.pids[1] == found["supervisor"].pid
            assert _process_of(talker, TOPIC) == found["worker"].pid
            assert _process_of(talker, METADATA_TOPIC) == found["controller"].pid


def _leader_of(talker: Talker) -> Endpoint:
    for _ in range(400):
        (topic,) = talker.ask(MetadataRequest(topics=[TOPIC])).topics
        if topic.partitions and topic.partitions[0].endpoint is not None:
            return topic.partitions[0].endpoint
        time.sleep(0.05)
    raise AssertionError(f"{TOPIC} has no leader")


def _boot_ids(talker: Talker, cluster_id: str) -> dict[int, int]:
    """Of the workers by their ports for Raft, as any node that the supervisor does not know yet is told."""
    state = n.NodeState(
        node_id=77,
        boot_id=1,
        cluster_id=cluster_id,
        directory_id="fuzz",
        endpoint=Endpoint(talker.endpoint.host, 9),
        voters=[],
        founders=[],
        image_offset=0,
        workers=[],
    )
    told = talker.ask(state).state
    return {worker.raft_port: worker.boot_id for worker in told.workers}


def _process_of(talker: Talker, topic: str) -> int:
    for _ in range(400):
        replicas = talker.ask(DescribeReplicasRequest()).replicas
        for replica in replicas:
            if replica.topic == topic and replica.worker_pid:
                return replica.worker_pid
        time.sleep(0.05)
    raise AssertionError(f"nobody hosts {topic}")


def _produce(acks: int = -1) -> ProduceRequest:
    return ProduceRequest(acks=acks, timeout_ms=10_000)


def _fetch(offset: int = 0) -> FetchRequest:
    return FetchRequest(offset=offset, max_bytes=1 << 20, max_wait_ms=0)


def _said(body: Body, topic_id: bytes) -> bytes:
    """One that expects no answer."""
    return said(body, 0, topic_id, 0)


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest, targets: dict[str, Target]) -> Target:
    return targets[request.param]


@pytest.fixture
def talker(target: Target) -> Iterator[Talker]:
    with contextlib.closing(Talker(target.endpoint)) as talker:
        yield talker
        talker.shake_hands()


@pytest.fixture
def worker(targets: dict[str, Target]) -> Iterator[tuple[Talker, bytes]]:
    """A talker to the worker that leads the topic, and the topic's id. It must serve reads afterwards."""
    target = targets["worker"]
    with contextlib.closing(Talker(target.endpoint)) as talker:
        yield talker, target.topic_id
        assert talker.ask(ListOffsetsRequest(EARLIEST_TIMESTAMP), topic_id=target.topic_id, partition=0).offset == 0
        assert talker.ask(_fetch(), topic_id=target.topic_id, partition=0).high_watermark >= RECORDS


# --- what hypothesis thinks of -----------------------------------------------------------------
@MANY
@given(frames=st.lists(HEADERS, min_size=1, max_size=4))
def test_no_frames_end_a_process(talker: Talker, frames: list[bytes]) -> None:
    talker.say(frames)
    talker.shake_hands()


@MANY
@given(
    request=CONTROLLER_REQUESTS,
    payload=st.lists(BATCHES, max_size=2),
    topic_id=st.none() | st.binary(min_size=16, max_size=16),
    partition=st.sampled_from([0, 0, -1, 2**31 - 1]),
)
def test_no_request_ends_a_process(
    target: Target, talker: Talker, request: Body, payload: list[bytes], topic_id: bytes | None, partition: int
) -> None:
    if topic_id is None and isinstance(request, ProduceRequest) and target.topic_id == METADATA_TOPIC_ID:
        payload = []  # a client that writes to the metadata itself is the subject of another test
    talker.say([said(request, 5, topic_id or target.topic_id, partition), *payload])
    talker.shake_hands()


@MANY
@given(message=RAFT_MESSAGES, payload=st.lists(BATCHES, max_size=1), ours=st.booleans())
def test_no_raft_message_of_a_stranger_ends_a_process(
    target: Target, talker: Talker, message: msgspec.Struct, payload: list[bytes], ours: bool
) -> None:
    """Through the port for Raft, where there is one; the other refuses all of them."""
    if ours:
        message = msgspec.structs.replace(message, topic_id=target.topic_id, partition=0)
    header, body = codec.encode(message), b"".join(payload)
    talker.say([header, *payload])
    for port in target.raft_ports:
        with raw(Endpoint(target.endpoint.host, port)) as connection, contextlib.suppress(OSError):
            connection.sendall(target.greeting(port) + stream.LENGTHS.pack(len(header), len(body)) + header + body)
            connection.shutdown(socket.SHUT_WR)
            assert closed_by_other_side(connection)
    talker.shake_hands()


@settings(MANY, max_examples=60)
@given(headers=st.lists(HEADERS, max_size=3), rest=st.binary(max_size=300), greeted=st.booleans())
def test_no_bytes_on_the_port_for_raft_end_a_process(
    target: Target, talker: Talker, headers: list[bytes], rest: bytes, greeted: bool
) -> None:
    data = b"".join(stream.LENGTHS.pack(len(header), 0) + header for header in headers)
    for port in target.raft_ports:
        with raw(Endpoint(target.endpoint.host, port)) as connection, contextlib.suppress(OSError):
            connection.sendall((target.greeting(port) if greeted else b"") + data + rest)
            connection.shutdown(socket.SHUT_WR)
            assert closed_by_other_side(connection)
    talker.shake_hands()


@settings(MANY, max_examples=60)
@given(batch=BATCHES, acks=st.sampled_from([-1, 0, 1]))
def test_any_batch_is_stored_or_refused_by_name(worker: tuple[Talker, bytes], batch: bytes, acks: int) -> None:
    talker, topic_id = worker
    if acks == 0:
        talker.say([_said(_produce(acks=0), topic_id), batch])
        talker.shake_hands()
        return
    answer = talker.ask(_produce(acks), [batch], topic_id=topic_id, partition=0)
    assert answer.error_code in (
        ErrorCode.NONE,
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.INVALID_RECORD,
        ErrorCode.INVALID_TIMESTAMP,
        ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    )


@settings(MANY, max_examples=40)
@given(data=st.binary(max_size=300), greeted=st.booleans())
def test_no_bytes_on_a_plain_connection_end_a_process(
    target: Target, talker: Talker, data: bytes, greeted: bool
) -> None:
    with raw(target.endpoint) as connection:
        # The other side may hang up in the middle of it.
        with contextlib.suppress(ConnectionError):
            if greeted:
                greet(connection)
            connection.sendall((READY if greeted else b"") + data)
        talker.shake_hands()


# --- each named case ---------------------------------------------------------------------------
ENVELOPE = struct.Struct(">BHq16si")
GOOD = encode([(1, b"key", b"value")])


def _wrong_crc() -> bytes:
    return GOOD[:-1] + bytes([GOOD[-1] ^ 1])


def _wrong_magic() -> bytes:
    return GOOD[:16] + b"\x01" + GOOD[17:]


@pytest.mark.parametrize(
    ("batch", "code"),
    [
        (_wrong_crc(), ErrorCode.CORRUPT_MESSAGE),
        (_wrong_magic(), ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT),
        (b"", ErrorCode.CORRUPT_MESSAGE),
        (GOOD[:-3], ErrorCode.CORRUPT_MESSAGE),
        (GOOD + GOOD, ErrorCode.CORRUPT_MESSAGE),
        (encode([(1, None, bytes(2 * 1024 * 1024))]), ErrorCode.MESSAGE_TOO_LARGE),
    ],
    ids=["wrong CRC", "wrong magic", "empty", "cut short", "two in one", "too large"],
)
def test_a_bad_batch_gets_the_standard_error(worker: tuple[Talker, bytes], batch: bytes, code: ErrorCode) -> None:
    talker, topic_id = worker
    answer = talker.ask(_produce(), [batch], topic_id=topic_id, partition=0)
    assert (answer.error_code, answer.base_offset) == (code, -1)


@pytest.mark.parametrize("payload", [[], [GOOD, GOOD]], ids=["none", "two"])
def test_a_produce_with_another_number_of_batches_is_an_invalid_request(
    worker: tuple[Talker, bytes], payload: list[bytes]
) -> None:
    talker, topic_id = worker
    assert talker.ask(_produce(), payload, topic_id=topic_id, partition=0).error_code == ErrorCode.INVALID_REQUEST


def test_another_acks_is_invalid(worker: tuple[Talker, bytes]) -> None:
    talker, topic_id = worker
    assert talker.ask(_produce(7), [GOOD], topic_id=topic_id, partition=0).error_code == ErrorCode.INVALID_REQUIRED_ACKS


def test_a_wrong_topic_id_is_refused(worker: tuple[Talker, bytes]) -> None:
    talker, _ = worker
    for request, payload in ((_produce(), [GOOD]), (_fetch(), []), (ListOffsetsRequest(-1), [])):
        for topic_id in (b"x" * 16, bytes(16)):
            answer = talker.ask(request, payload, topic_id=topic_id, partition=0)
            assert answer.error_code == ErrorCode.INCONSISTENT_TOPIC_ID


def test_an_unknown_partition_is_refused(worker: tuple[Talker, bytes]) -> None:
    talker, topic_id = worker
    for request, payload, partition in ((_produce(), [GOOD], 9), (_fetch(), [], -1)):
        answer = talker.ask(request, payload, topic_id=topic_id, partition=partition)
        assert answer.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


@pytest.mark.parametrize("offset", [-1, 10**9, 2**63 - 1, 2**64 - 1])
def test_an_offset_out_of_range_is_refused(worker: tuple[Talker, bytes], offset: int) -> None:
    talker, topic_id = worker
    assert talker.ask(_fetch(offset), topic_id=topic_id, partition=0).error_code == ErrorCode.OFFSET_OUT_OF_RANGE


@pytest.mark.parametrize("timestamp_ms", [2**63 - 1, 2**64 - 1, -5, -(2**63)])
def test_a_time_beyond_all_times_is_answered(worker: tuple[Talker, bytes], timestamp_ms: int) -> None:
    talker, topic_id = worker
    answer = talker.ask(ListOffsetsRequest(timestamp_ms), topic_id=topic_id, partition=0)
    assert answer.offset == -1
    assert answer.error_code in (ErrorCode.NONE, ErrorCode.INVALID_REQUEST)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\x02",
        ENVELOPE.pack(2, 999, 7, b"", 0),
        b"\x02" * (HEADER_BYTES_MAX + 1),
    ],
    ids=["empty", "cut short", "unknown API", "too large"],
)
def test_a_header_that_is_none_is_an_invalid_request(talker: Talker, header: bytes) -> None:
    talker.say([header])
    assert talker.hear(-1).error_code == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    "body",
    [b"", b"\xc1", b"\x90", msgspec.msgpack.encode({"acks": 7}), b"\x91" * 100_000],
    ids=["none", "no msgpack", "no fields", "a map", "deep"],
)
def test_a_body_that_is_none_is_answered_to_whoever_waits(talker: Talker, body: bytes) -> None:
    talker.say([ENVELOPE.pack(2, apis.FETCH.key, 7, b"", 0) + body])
    assert talker.hear(7).error_code == ErrorCode.INVALID_REQUEST


def test_a_client_cannot_write_to_the_metadata(targets: dict[str, Target]) -> None:
    with contextlib.closing(Talker(targets["controller"].endpoint)) as talker:
        place: dict[str, Any] = {"topic_id": METADATA_TOPIC_ID, "partition": 0}
        before = talker.ask(ListOffsetsRequest(LATEST_TIMESTAMP), **place)
        assert talker.ask(_produce(), [GOOD], **place).error_code != ErrorCode.NONE
        talker.say([_said(_produce(acks=0), METADATA_TOPIC_ID), GOOD])
        assert talker.ask(ListOffsetsRequest(LATEST_TIMESTAMP), **place).offset == before.offset


def test_too_many_frames_are_dropped_and_the_connection_lives(talker: Talker) -> None:
    talker.say([b"frame"] * (FRAMES_PER_MESSAGE_MAX * 4))
    talker.shake_hands()


def test_a_frame_beyond_the_limit_is_refused_before_it_is_read(
    targets: dict[str, Target], target: Target, talker: Talker
) -> None:
    most = NODE_FRAME_BYTES_MAX if target is targets["supervisor"] else FRAME_BYTES_MAX
    for length in (most + 1, 2**40, 2**63 - 1):
        with raw(target.endpoint) as connection:
            greet(connection)
            connection.sendall(READY + b"\x02" + struct.pack(">Q", length))
            assert closed_by_other_side(connection)
        talker.shake_hands()


def test_half_a_message_and_then_silence_holds_nobody_up(target: Target, talker: Talker) -> None:
    greeted = [
        b"",
        READY[:5],
        READY,
        READY + b"\x01\x05head",  # a frame that is cut short
        READY + b"\x01\x04head",  # a whole frame of a message whose rest does not come
        READY + b"\x02" + struct.pack(">Q", FRAME_BYTES_MAX) + bytes(100),
    ]
    with contextlib.ExitStack() as stack:
        for half in (b"", GREETING[:10]):
            stack.enter_context(raw(target.endpoint)).sendall(half)
        for half in greeted:
            connection = stack.enter_context(raw(target.endpoint))
            greet(connection)
            connection.sendall(half)
        started = time.monotonic()
        for _ in range(20):
            talker.shake_hands()
        assert time.monotonic() - started < 10


@settings(MANY, max_examples=5)
@given(batches=st.lists(GOOD_BATCHES, min_size=1, max_size=20))
def test_a_client_that_leaves_with_requests_unanswered_is_forgotten(
    targets: dict[str, Target], batches: list[bytes]
) -> None:
    target = targets["worker"]
    with contextlib.closing(Talker(target.endpoint)) as leaving:
        for batch in batches:
            leaving.say([_said(_produce(), target.topic_id), batch])
    with contextlib.closing(Talker(target.endpoint)) as staying:
        staying.shake_hands()


# Last, since what is told here about other nodes stays known.
@MANY
@given(message=NODE_REQUESTS, ours=st.booleans())
def test_no_word_of_another_node_ends_a_process(target: Target, talker: Talker, message: Body, ours: bool) -> None:
    if ours:
        message = msgspec.structs.replace(message, cluster_id=target.cluster_id)
    talker.say([_said(message, NO_TOPIC)])
    talker.shake_hands()
