"""Kafka's messages: what kio writes is read, what is written is what kio writes, and no frame does harm."""

from __future__ import annotations

import dataclasses
import random
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kio.index import load_response_schema

from raftlog.kafka import wire
from tests.fuzz.hostile_clients import besiege
from tests.fuzz.kafka_frames import ANSWERS, REQUESTS, HostileClients, any_entity, any_request, written

_EPOCH = datetime.fromtimestamp(0, UTC)


def _plain(value: Any) -> Any:
    """As the door has values."""
    if dataclasses.is_dataclass(value):
        return {each.name: _field(value, each) for each in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, timedelta):
        return value // timedelta(milliseconds=1)
    if isinstance(value, datetime):
        return (value - _EPOCH) // timedelta(milliseconds=1)
    if isinstance(value, uuid.UUID):
        return value.bytes
    if isinstance(value, memoryview):
        return bytes(value)
    return getattr(value, "value", value)


def _field(entity: Any, field: Any) -> Any:
    value = getattr(entity, field.name)
    if value is None and field.metadata.get("kafka_type") == "uuid":
        return bytes(16)  # how kio shows it
    return _plain(value)


@pytest.mark.parametrize(("key", "version"), REQUESTS)
def test_a_request_is_read_as_kio_wrote_it(key: int, version: int) -> None:
    dice = random.Random(key * 100 + version)
    for _ in range(20):
        frame, entity = any_request(key, version, dice)
        header, at = wire.read_header(memoryview(frame))
        assert (header.api_key, header.version, header.client_id) == (key, version, "test")
        assert _plain(wire.read_request(key, version, memoryview(frame), at)) == _plain(entity)


@pytest.mark.parametrize(("key", "version"), ANSWERS)
def test_an_answer_is_written_as_kio_writes_it(key: int, version: int) -> None:
    dice = random.Random(key * 100 + version)
    flexible_header = load_response_schema(key, version).__header_schema__.__flexible__
    for _ in range(20):
        entity = any_entity(load_response_schema(key, version), dice)
        answer = wire.write_answer(key, version, 7, _plain(entity))
        assert answer[:8] == (len(answer) - 4).to_bytes(4, "big") + (7).to_bytes(4, "big")
        assert answer[8:] == (b"\0" if flexible_header else b"") + written(entity)


@pytest.mark.parametrize("seed", range(4))
def test_no_damaged_frame_does_more_than_end_its_connection(seed: int) -> None:
    clients = HostileClients(seed)
    while clients.sent < 2_500:
        clients.send()
    assert 0 < clients.ended < clients.sent


@pytest.mark.cluster
def test_a_healthy_client_is_served_beside_hostile_ones() -> None:
    without, half, under = besiege(6.0, seed=1)
    assert half.sent >= 20 and under.sent >= 20, under
    assert without.seen.answers and half.seen.answers and under.seen.answers
    assert under.seen.longest_ms < 10_000, under  # how long it is on a machine at rest is no test's to say
    assert under.seen.door_mib < without.seen.door_mib + 300, under
