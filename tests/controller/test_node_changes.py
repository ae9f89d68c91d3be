"""Nodes that come and go, as the controller decides on them."""

from __future__ import annotations

import pytest

from raftlog.controller.image import apply, decode_image, encode_image
from raftlog.controller.records import NodeRemovedRecord
from raftlog.errors import CorruptLogError, ErrorCode
from raftlog.protocol.cluster import RemoveNodeRequest, RemoveNodeResponse
from raftlog.protocol.nodes import FEATURES, RegisterNodeRequest, RegisterNodeResponse
from raftlog.types import Endpoint
from tests.controller.test_controller import Log, create, mutation


@pytest.fixture
def log() -> Log:
    """Three voters and node 4, which holds nothing."""
    log = Log()
    log.live = {1, 2, 3, 4}
    log.run()
    assert register(log, "directory-4").error_code == 0
    return log


def register(log: Log, directory_id: str, node_id: int = 4) -> RegisterNodeResponse:
    endpoint = Endpoint("127.0.0.1", 7070 + node_id)
    body = RegisterNodeRequest(
        features=FEATURES,
        cluster_id=log.image.cluster_id,
        node_id=node_id,
        directory_id=directory_id,
        endpoint=endpoint,
    )
    log.request(body)
    log.run()
    response = log.answers.pop().response
    assert isinstance(response, RegisterNodeResponse)
    return response


def remove(log: Log, node_id: int, **same: object) -> RemoveNodeResponse:
    log.request(RemoveNodeRequest(**(same or mutation()), node_id=node_id))  # type: ignore[arg-type]
    log.run()
    response = log.answers.pop().response
    assert isinstance(response, RemoveNodeResponse)
    return response


def test_an_empty_node_goes_and_its_directory_never_comes_back(log: Log) -> None:
    assert remove(log, 4).error_code == 0
    assert (sorted(log.image.nodes), log.image.removed) == ([1, 2, 3], ("directory-4",))
    refused = register(log, "directory-4")
    assert refused.error_code == ErrorCode.INVALID_REQUEST and "was removed" in refused.error_text
    assert register(log, "directory-5").error_code == 0, "its id may come back"
    assert log.image.nodes[4].directory_id == "directory-5"
    assert decode_image(encode_image(log.image)) == log.image


def test_a_repetition_does_not_remove_the_node_that_has_its_id_since(log: Log) -> None:
    once = mutation()
    assert remove(log, 4, **once).error_code == 0
    register(log, "directory-5")
    assert remove(log, 4, **once).error_code == 0
    assert log.image.nodes[4].directory_id == "directory-5"
    assert remove(log, 4).error_code == 0


def test_who_votes_or_holds_something_stays(log: Log) -> None:
    log.ask(create("t", partitions=4, factor=4))
    for node_id, code, text in (
        (1, ErrorCode.INVALID_REQUEST, "node 1 votes for the metadata, and its voters are fixed"),
        (
            *(4, ErrorCode.INVALID_REQUEST),
            "node 4 holds 4 replicas (t-0, t-1, t-2, ...): only an empty one can go; "
            "`raftlog cluster drain 4` moves them to others",
        ),
        (9, ErrorCode.BROKER_ID_NOT_REGISTERED, "the cluster has no node 9"),
    ):
        refused = remove(log, node_id)
        assert (refused.error_code, refused.error_text) == (code, text)
    assert sorted(log.image.nodes) == [1, 2, 3, 4]


def test_nothing_is_placed_on_a_node_that_is_gone_though_it_lives(log: Log) -> None:
    remove(log, 4)
    (refused,) = log.ask(create("t", factor=4))
    assert refused.error_code == ErrorCode.INVALID_REPLICATION_FACTOR


def test_a_log_that_removes_who_is_not_there_is_corrupt(log: Log) -> None:
    record = NodeRemovedRecord(node_id=9, directory_id="directory-9")
    with pytest.raises(CorruptLogError, match="removes node 9, which is not there"):
        apply(log.image, log.image.end_offset, record)
