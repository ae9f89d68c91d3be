"""Changes of quotas: what the log then says, and what it adds up to."""

from __future__ import annotations

from typing import Any

import msgspec

from raftlog.controller.image import Image, apply, decode_image, encode_image
from raftlog.controller.records import SnapshotRecord
from raftlog.errors import ErrorCode
from raftlog.limits import SECURITY_CHANGES_MAX
from raftlog.protocol.security import AlterQuotasRequest, DescribeQuotasRequest, QuotaChange
from raftlog.security.quotas import CONSUMER_BYTE_RATE, PRODUCER_BYTE_RATE, USER, EntityFilter, Quota, entity_of
from tests.controller.test_security_changes import Log, mutation

ALICE, ANY = entity_of(user="alice"), entity_of(user=None)


def change(entity: Any, **values: float | None) -> QuotaChange:
    return QuotaChange(list(entity), dict(values))


def alter(log: Log, *changes: QuotaChange, **others: Any) -> list[ErrorCode]:
    response = log.ask(AlterQuotasRequest(**mutation(), changes=list(changes), **others))
    return [ErrorCode(response.error_code)] if response.error_code else [each.error_code for each in response.results]


def quotas(log: Log) -> set[Quota]:
    found = log.ask(DescribeQuotasRequest(EntityFilter())).quotas
    assert list(log.image.security.quotas) == found
    return set(found)


def test_a_quota_is_set_changed_and_removed() -> None:
    log = Log()
    assert alter(log, change(ALICE, producer_byte_rate=100, consumer_byte_rate=200), change(ANY, producer_byte_rate=7))
    assert alter(log, change(ALICE, producer_byte_rate=101)) == [ErrorCode.NONE]
    wanted = {
        Quota(ALICE, PRODUCER_BYTE_RATE, 101),
        Quota(ALICE, CONSUMER_BYTE_RATE, 200),
        Quota(ANY, PRODUCER_BYTE_RATE, 7),
    }
    assert quotas(log) == wanted
    assert alter(log, change(ALICE, producer_byte_rate=None), change(ANY, producer_byte_rate=None)) == [0, 0]
    assert quotas(log) == {Quota(ALICE, CONSUMER_BYTE_RATE, 200)}
    found = log.ask(DescribeQuotasRequest(EntityFilter(names={USER: None}))).quotas
    assert found == []


def test_quotas_close_no_cluster_and_need_no_superuser() -> None:
    log = Log()
    alter(log, change(ALICE, producer_byte_rate=100))
    assert log.image.security.is_empty and not log.image.security.secret
    assert log.image.security.offset == log.image.end_offset - 1  # its mutation follows


def test_what_is_set_again_or_was_not_there_writes_nothing() -> None:
    log = Log()
    alter(log, change(ALICE, producer_byte_rate=100))
    before = log.image
    assert alter(log, change(ALICE, producer_byte_rate=100, consumer_byte_rate=None)) == [ErrorCode.NONE]
    assert log.image is before


def test_each_entity_stands_or_falls_alone_and_as_a_whole() -> None:
    log = Log()
    wrong = change(ALICE, producer_byte_rate=100, request_percentage=50)
    assert alter(log, wrong, change(ANY, producer_byte_rate=7)) == [ErrorCode.INVALID_REQUEST, ErrorCode.NONE]
    assert quotas(log) == {Quota(ANY, PRODUCER_BYTE_RATE, 7)}
    twice = change(ALICE, producer_byte_rate=1), change(ALICE, producer_byte_rate=2)
    assert alter(log, *twice) == [ErrorCode.INVALID_REQUEST] * 2


def test_what_is_validated_only_changes_nothing() -> None:
    log = Log()
    assert alter(log, change(ALICE, producer_byte_rate=100), validate_only=True) == [ErrorCode.NONE]
    assert alter(log, change(ALICE, producer_byte_rate=0.5), validate_only=True) == [ErrorCode.INVALID_REQUEST]
    assert quotas(log) == set()


def test_a_repetition_is_answered_as_before() -> None:
    log = Log()
    request = AlterQuotasRequest(**mutation(), changes=[change(ALICE, producer_byte_rate=100)])
    log.ask(request)
    alter(log, change(ALICE, producer_byte_rate=None))
    (result,) = log.ask(request).results
    assert (result.name, result.error_code) == ("user alice", ErrorCode.NONE)
    assert quotas(log) == set()


def test_a_request_is_bounded() -> None:
    log = Log()
    many = [change(entity_of(user=f"u{number}"), producer_byte_rate=1) for number in range(SECURITY_CHANGES_MAX + 1)]
    assert alter(log, *many) == [ErrorCode.INVALID_REQUEST]


def test_a_snapshot_has_them_and_one_of_before_has_none() -> None:
    log = Log()
    alter(log, change(ALICE, producer_byte_rate=100))
    snapshot = SnapshotRecord(image=encode_image(log.image))
    assert apply(log.image, log.image.end_offset, snapshot).security == log.image.security
    security = list(msgspec.structs.astuple(log.image.security))[:-1]  # as it was written before there were quotas
    image = [*msgspec.structs.astuple(log.image)[: Image.__struct_fields__.index("security")], security]
    assert decode_image(msgspec.msgpack.encode(image)).security.quotas == ()
