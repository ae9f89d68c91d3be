"""Links between supervisors: they follow a node that moves, also in the middle of what it says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raftlog.network import Context, Poller, Server
from raftlog.node.links import NodeLinks
from raftlog.protocol.codec import encode
from raftlog.protocol.messages import ErrorResponse, HandshakeRequest
from raftlog.types import Endpoint
from tests.node.asking import until

HELLO = HandshakeRequest(correlation_id=1, min_version=1, max_version=1)


@pytest.fixture
def context() -> Iterator[Context]:
    context = Context()
    yield context
    context.close()


def test_an_answer_may_move_the_link_that_it_came_over(context: Context) -> None:
    old, new = Server(context, "127.0.0.1"), Server(context, "127.0.0.1")
    links = NodeLinks(context, Poller())
    links.set_addresses({2: Endpoint("127.0.0.1", old.port)})
    until(lambda: links.send(2, HELLO))
    received = until(old.receive)
    for number in range(2):
        old.send(received[0], [encode(ErrorResponse(correlation_id=number))])
    old.send(received[0], [b"nonsense"])
    heard = []

    def hear() -> bool:
        for node_id, answer, _ in links.receive():
            heard.append((node_id, answer))
            links.set_addresses({2: Endpoint("127.0.0.1", new.port)})
        return bool(heard)

    until(hear)
    until(lambda: links.send(2, HELLO))
    assert until(new.receive)[1] == encode(HELLO)


def test_a_node_that_is_gone_is_not_spoken_to(context: Context) -> None:
    links = NodeLinks(context, Poller())
    links.set_addresses({2: Endpoint("127.0.0.1", 9)})
    assert 2 in links
    links.set_addresses({})
    assert 2 not in links
    assert not links.send(2, HELLO)
