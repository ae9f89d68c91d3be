"""Requests and answers of Kafka's protocol with any values, written by kio; and frames with damage.

    scripts/kafka-fuzz --frames 10000000 --seed 1

sends damaged frames through the core of the door, and prints a line now and then. A frame that does more than end its
connection ends the run, with the frame as hexadecimal digits. With `--door SECONDS` a real node gets them, and the
waits of a healthy client beside them are told (hostile_clients.py).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import random
import resource
import struct
import time
import typing
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from kio.index import KioIndexError, load_request_schema, load_response_schema
from kio.schema.errors import ErrorCode
from kio.serial import entity_writer

from raftlog.kafka import apis
from raftlog.kafka.connection import Connection
from raftlog.protocol.session import Session
from tests.kafka.door import CORRELATION_ID, cluster, topic
from tests.kafka.workbench import Workbench

LISTED = [(api.key, version) for api in apis.APIS for version in range(api.first, api.last + 1)]
_BITS = {"int8": 7, "int16": 15, "int32": 31, "int64": 63}
_UNITS_MS = {"timedelta_i32": 2**31 - 1, "timedelta_i64": 2**40}


def known_to_kio(load: Any) -> list[tuple[int, int]]:
    """The listed versions that kio has: the oldest of Produce and the newest of ApiVersions it has not."""
    found = []
    for key, version in LISTED:
        with contextlib.suppress(KioIndexError):
            load(key, version)
            found.append((key, version))
    return found


REQUESTS = known_to_kio(load_request_schema)
ANSWERS = known_to_kio(load_response_schema)


# --- whole messages --------------------------------------------------------------------------------
def any_entity(schema: Any, dice: random.Random) -> Any:
    hints = typing.get_type_hints(schema)
    fields = dataclasses.fields(schema)
    return schema(**{each.name: _any(hints[each.name], each.metadata.get("kafka_type"), dice) for each in fields})


def _any(hint: Any, kind: str | None, dice: random.Random) -> Any:
    options = typing.get_args(hint)
    if type(None) in options:
        if dice.random() < 0.3:
            return None
        rest = [each for each in options if each is not type(None)]
        if len(rest) == 1:
            hint = rest[0]
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        return tuple(_any(item, kind, dice) for _ in range(dice.choice((0, 1, 1, 2, 3))))
    return any_entity(hint, dice) if kind is None else _any_of_kind(kind, dice)


def _any_of_kind(kind: str, dice: random.Random) -> Any:
    if kind in _BITS:
        end = 2 ** dice.choice((1, 4, _BITS[kind]))
        return dice.randrange(-end, end)
    if kind in _UNITS_MS:
        return timedelta(milliseconds=dice.choice((0, 1, 1500, _UNITS_MS[kind])))
    if kind == "string":
        return "".join(dice.choice(("a", "Z", ".", "é", "本", "\0")) for _ in range(dice.choice((0, 1, 5, 200))))
    if kind in ("bytes", "records"):
        return dice.randbytes(dice.choice((0, 1, 61, 300)))
    return {
        "bool": lambda: dice.random() < 0.5,
        "uint16": lambda: dice.randrange(2**16),
        "float64": dice.random,
        "uuid": lambda: uuid.UUID(int=dice.randrange(1, 2**128)),
        "error_code": lambda: dice.choice(list(ErrorCode)),
        "datetime_i64": lambda: datetime.fromtimestamp(dice.randrange(2**31), UTC),
    }[kind]()


def written(entity: Any) -> bytes:
    out = io.BytesIO()
    entity_writer(type(entity))(out, entity)
    return out.getvalue()


def any_request(key: int, version: int, dice: random.Random) -> tuple[bytes, Any]:
    """Of the request: the frame without its length, and what is in its body."""
    schema = load_request_schema(key, version)
    entity = any_entity(schema, dice)
    header = struct.pack(">hhih", key, version, CORRELATION_ID, 4) + b"test"
    return header + (b"\0" if schema.__flexible__ else b"") + written(entity), entity


# --- frames with damage ----------------------------------------------------------------------------
# Counts and lengths that say much more than there is, or less than nothing: as int32, as int16 and as varints.
_CLAIMS = [struct.pack(">i", size) for size in (-(2**31), -2, -1, 2**16, 2**28, 2**31 - 1)]
_CLAIMS += [
    b"\xff\xff",
    b"\x80\x00",
    b"\x7f\xff",
    b"\xff\xff\xff\xff\x07",
    b"\xff\xff\xff\xff\xff\x7f",
    b"\x80\x80\x80",
]


def damaged(frames: list[bytes], dice: random.Random) -> bytes:
    """One of them: cut, flipped, spliced with another, or with a claim written into it; sometimes all of these."""
    frame = bytearray(dice.choice(frames))
    while True:
        at = dice.randrange(len(frame)) if frame else 0
        match dice.randrange(5):
            case 0:
                del frame[at:]
            case 1 if frame:
                frame[at] ^= 1 << dice.randrange(8)
            case 2:
                other = dice.choice(frames)
                frame[at:] = other[dice.randrange(len(other)) :]
            case 3:
                claim = dice.choice(_CLAIMS)
                frame[at : at + len(claim)] = claim
            case _:
                frame[at:at] = dice.randbytes(dice.choice((1, 2, 16)))
        if dice.random() < 0.6:
            return bytes(frame)


def undamaged(dice: random.Random) -> list[bytes]:
    """Requests of every API and version, some of each."""
    return [any_request(key, version, dice)[0] for key, version in REQUESTS for _ in range(5)]


class HostileClients:
    """Each sends one frame to the same door, and is looked at."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._frames = undamaged(self._dice)
        self._bench = _bench()
        self.sent = self.ended = 0
        self.slowest_ms = 0.0  # of the processor, for one frame

    def send(self) -> None:
        """Raises AssertionError with the frame, if it met a mistake of the door."""
        frame = damaged(self._frames, self._dice)
        self.sent += 1
        if not self.sent % 1000:
            self._bench = _bench()  # what waits for the cluster's answers is not what is measured
        connection = Connection(Session("hostile"))
        begun_s = time.thread_time()
        try:
            self._bench.broker.receive(connection, struct.pack(">i", len(frame)) + frame)
        except Exception as error:
            raise AssertionError(f"{error!r} after the frame {frame.hex()}") from error
        self.slowest_ms = max(self.slowest_ms, (time.thread_time() - begun_s) * 1000)
        assert not connection.closing.startswith("an error within"), f"{connection.closing}: {frame.hex()}"
        self.ended += bool(connection.closing)
        self._bench.broker.forget(connection)
        self._bench.asked.clear()


def _bench() -> Workbench:
    return Workbench(cluster(topic("a", 1, (1, 2)), topic("Z", 2)))


def _memory_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description="Damaged frames for the core of Kafka's door.")
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--door", type=float, metavar="SECONDS", help="to a real node's door instead, for this long")
    options = parser.parse_args()
    if options.door:
        from tests.fuzz.hostile_clients import besiege

        print(f"seed {options.seed}", flush=True)
        for line in besiege(options.door, options.seed):
            print(line, flush=True)
        return
    clients, begun_s = HostileClients(options.seed), time.monotonic()
    print(f"seed {options.seed}, {_memory_mib()} MiB at the beginning", flush=True)
    while clients.sent < options.frames:
        clients.send()
        if not clients.sent % 100_000 or clients.sent == options.frames:
            rate = clients.sent / (time.monotonic() - begun_s)
            ended = 100 * clients.ended // clients.sent
            print(
                f"{clients.sent} frames, {ended} % ended, {rate:.0f}/s, the slowest took {clients.slowest_ms:.1f} ms, "
                f"at most {_memory_mib()} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
