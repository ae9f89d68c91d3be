"""A change of topics that comes again is carried out once, whoever leads and whatever happened in between."""

from __future__ import annotations

import msgspec
import pytest

from raftlog.controller import image as image_module
from raftlog.controller import mutations as mutations_module
from raftlog.controller.decisions import ControllerRequest
from raftlog.controller.image import decode_image, encode_image
from raftlog.controller.mutations import MutationRequest
from raftlog.errors import ErrorCode
from raftlog.protocol.topics import TopicIdsRequest, TopicIdsResponse, TopicsResponse
from tests.controller.test_controller import Log, add_partitions, alter, create, delete


@pytest.fixture
def log() -> Log:
    log = Log()
    log.run()
    return log


def fail_over(log: Log) -> None:
    """Another node leads: it has the image, as bytes, and nothing else of the old controller."""
    log.take_over(decode_image(encode_image(log.image)))


def error_of(log: Log, request: ControllerRequest) -> ErrorCode:
    log.request(request)
    log.run()
    return ErrorCode(log.answers.pop().response.error_code)


def test_a_deletion_that_comes_again_leaves_the_topic_made_since(log: Log) -> None:
    log.ask(create("t"))
    request = delete(log, "t")
    (first,) = log.ask(request)
    (made,) = log.ask(create("t"))
    fail_over(log)
    assert log.ask(request) == [first]
    assert log.image.topics["t"].topic_id == made.topic_id


def test_a_deletion_that_was_late_means_the_topic_that_was_looked_up(log: Log) -> None:
    log.ask(create("t"))
    late = delete(log, "t")
    log.ask(delete(log, "t"))
    (made,) = log.ask(create("t"))
    (refused,) = log.ask(late)
    assert refused.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert "made anew" in refused.error_text
    assert log.image.topics["t"].topic_id == made.topic_id


def test_a_creation_that_comes_again_is_answered_as_it_was(log: Log) -> None:
    request = create("t", partitions=2)
    first = log.ask(request)
    fail_over(log)
    assert log.ask(request) == first


def test_another_s_topic_is_not_taken_for_one_s_own(log: Log) -> None:
    log.ask(create("t"))
    (refused,) = log.ask(create("t"))
    assert refused.error_code == ErrorCode.TOPIC_ALREADY_EXISTS


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_creation_that_comes_again_after_a_deletion_makes_nothing_and_says_so(log: Log, made_anew: bool) -> None:
    request = create("t")
    log.ask(request)
    log.ask(delete(log, "t"))
    if made_anew:
        log.ask(create("t"))
    before = log.image
    (refused,) = log.ask(request)
    assert refused.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert "has been deleted since" in refused.error_text
    assert log.image == before


def test_settings_that_others_have_set_since_stay(log: Log) -> None:
    log.ask(create("t"))
    request = alter(log, "t", retention_ms="1000")
    (first,) = log.ask(request)
    log.ask(alter(log, "t", retention_ms="2000"))
    assert log.ask(request) == [first]
    assert log.image.topics["t"].config.retention_ms == 2000


def test_more_partitions_asked_for_again_are_there(log: Log) -> None:
    log.ask(create("t"))
    request = add_partitions(log, "t", 2)
    log.ask(request)
    log.ask(add_partitions(log, "t", 3))
    (again,) = log.ask(request)
    assert (again.error_code, again.partitions) == (ErrorCode.NONE, 3)


def test_a_change_means_the_topic_that_was_looked_up(log: Log) -> None:
    log.ask(create("t"))
    requests: list[MutationRequest] = [alter(log, "t", retention_ms="1000"), add_partitions(log, "t", 2)]
    log.ask(delete(log, "t"))
    log.ask(create("t"))
    before = log.image
    for request in requests:
        (refused,) = log.ask(request)
        assert refused.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert log.image == before


def test_each_topic_of_a_repetition_is_answered_as_it_was(log: Log) -> None:
    log.ask(create("taken"))
    request = create("a", "taken", "b", "b a d")
    first = log.ask(request)
    log.ask(delete(log, "taken"))
    log.ask(create("other"))
    again = log.ask(request)
    assert [result.error_code for result in again] == [result.error_code for result in first]
    assert [result.topic_id for result in again] == [result.topic_id for result in first]
    assert "taken" not in log.image.topics


def test_what_was_refused_as_a_whole_is_decided_anew(log: Log) -> None:
    log.ask(create("t"))
    request = create("t")
    log.ask(request)
    log.ask(delete(log, "t"))
    (made,) = log.ask(request)
    assert made.error_code == ErrorCode.NONE


def test_a_change_of_open_outcome_is_done_once(log: Log) -> None:
    """The log took it, the leader that proposed it was gone before it could say so."""
    request = create("t")
    log.request(request)
    log.step()
    log.commit()
    log.answers.clear()
    fail_over(log)
    (again,) = log.ask(request)
    assert (again.error_code, again.topic_id) == (ErrorCode.NONE, log.image.topics["t"].topic_id)


def test_what_may_have_been_forgotten_is_refused_and_what_is_younger_is_taken(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (image_module, mutations_module):
        monkeypatch.setattr(module, "MUTATIONS_REMEMBERED_MAX", 3)
    request = create("t")
    log.ask(request)
    log.ask(delete(log, "t"))
    for name in ("a", "b"):
        log.ask(msgspec.structs.replace(create(name), since_offset=log.image.end_offset))
    assert len(log.image.mutations) == 3
    before = log.image
    assert error_of(log, request) == ErrorCode.INVALID_UPDATE_VERSION
    assert log.image == before
    (made,) = log.ask(msgspec.structs.replace(create("t"), since_offset=log.image.end_offset))
    assert made.error_code == ErrorCode.NONE


def test_an_id_of_another_size_is_refused(log: Log) -> None:
    before = log.image
    assert error_of(log, msgspec.structs.replace(create("t"), mutation_id=b"")) == ErrorCode.INVALID_REQUEST
    assert log.image == before


def test_topics_are_looked_up_by_name(log: Log) -> None:
    (made,) = log.ask(create("t"))
    log.request(TopicIdsRequest(names=["t", "absent"]))
    log.run()
    response = log.answers.pop().response
    assert isinstance(response, TopicIdsResponse) and not isinstance(response, TopicsResponse)
    assert (response.topic_ids, response.end_offset) == ([made.topic_id, b""], log.image.end_offset)


def test_an_image_of_before_there_were_mutations_is_read(log: Log) -> None:
    (made,) = log.ask(create("t"))
    older = msgspec.msgpack.decode(encode_image(log.image))[:7]
    image = decode_image(msgspec.msgpack.encode(older))
    assert (image.topics["t"].topic_id, image.mutations) == (made.topic_id, ())
