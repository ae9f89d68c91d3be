"""Links between supervisors: they follow a node that moves, also in the middle of what it says."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import pytest

from raftlog.network import Context, Poller, Server
from raftlog.node.links import NodeLinks
from raftlog.protocol import apis
from raftlog.protocol.cluster import HandshakeRequest
from raftlog.protocol.envelope import encode_request, encode_unread
from raftlog.protocol.nodes import NodeState
from raftlog.types import Endpoint
from tests.node.asking import until

HELLO = HandshakeRequest(min_version=2, max_version=2)

STATE = NodeState(
    node_id=1,
    boot_id=1,
    cluster_id="",
    directory_id="d",
    endpoint=Endpoint("127.0.0.1", 1),
    voters=[],
    founders=[],
    image_offset=0,
    workers=[],
)


@pytest.fixture
def context() -> Iterator[Context]:
    context = Context()
    yield context
    context.close()


def test_an_answer_may_move_the_link_that_it_came_over(context: Context) -> None:
    old, new = Server(context, "127.0.0.1"), Server(context, "127.0.0.1")
    links = NodeLinks(context, Poller())
    links.set_addresses({2: Endpoint("127.0.0.1", old.port)})
    until(lambda: links.send(2, apis.HANDSHAKE, HELLO))
    received = until(old.receive)
    for number in range(2):
        old.send(received[0], [encode_unread(str(number), 42)])
    old.send(received[0], [b"nonsense"])
    heard = []

    def hear() -> bool:
        for node_id, answer, _ in links.receive():
            heard.append((node_id, answer))
            links.set_addresses({2: Endpoint("127.0.0.1", new.port)})
        return bool(heard)

    until(hear)
    until(lambda: links.send(2, apis.HANDSHAKE, HELLO))
    assert until(new.receive)[1] == encode_request(apis.HANDSHAKE, 0, HELLO)


def test_a_node_that_is_gone_is_not_spoken_to(context: Context) -> None:
    links = NodeLinks(context, Poller())
    links.set_addresses({2: Endpoint("127.0.0.1", 9)})
    assert 2 in links
    links.set_addresses({})
    assert 2 not in links
    assert not links.send(2, apis.HANDSHAKE, HELLO)


def test_without_descriptors_a_node_is_connected_to_later(context: Context, caplog: pytest.LogCaptureFixture) -> None:
    server = Server(context, "127.0.0.1")
    links = NodeLinks(context, Poller())
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    fillers = [os.open(os.devnull, os.O_RDONLY)]
    while fillers[-1] <= highest:  # no number below is free
        fillers.append(os.dup(fillers[0]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[-1], limits[1]))  # what is open stays open
    try:
        links.set_addresses({2: Endpoint("127.0.0.1", server.port)})
        links.send_all(STATE)
        assert 2 not in links
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for filler in fillers:
            os.close(filler)
    assert [record.getMessage() for record in caplog.records] == [
        "no connection to node 2 can be opened: Too many open files; it is tried again"
    ]
    links.send_all(STATE)
    assert 2 in links
    until(lambda: links.send(2, apis.HANDSHAKE, HELLO))
    received = until(server.receive)[1]
    if received != encode_request(apis.HANDSHAKE, 0, HELLO):  # connected before the state was sent
        received = until(server.receive)[1]
    assert received == encode_request(apis.HANDSHAKE, 0, HELLO)
