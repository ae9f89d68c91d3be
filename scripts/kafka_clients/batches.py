"""What a partition holds, as a server hands it out: each batch's codec and producer, read without any client.

A client that quietly compresses nothing, or leaves its producer id out, is not found out by reading records.

Fetch v4, all integers big-endian:

    length i32 | key i16 = 1 | version i16 = 4 | correlation i32 | client id: i16, bytes
    replica i32 = -1 | max wait ms i32 | min bytes i32 | max bytes i32 | isolation i8
    count i32 = 1 | topic: i16, bytes | count i32 = 1 | partition i32 | offset i64 | max bytes i32
  answer
    length i32 | correlation i32 | throttle ms i32
    count i32 = 1 | topic: i16, bytes | count i32 = 1 | partition i32 | error i16 | high watermark i64 | stable i64
    aborted: count i32 (-1: none), 16 bytes each | batches: i32 length, bytes
  batch (the head of the record format, version 2)
    base offset i64 | length i32 | epoch i32 | magic i8 | crc u32 | attributes i16 | last delta i32 | times i64 i64
    producer id i64 | producer epoch i16 | sequence i32 | count i32 | records
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Mapping
from typing import NamedTuple

from .program import FailedError

_CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
_WAIT_S = 20.0
_BYTES_MAX = 1 << 24
_HEAD = struct.Struct(">qiibIhiqqqhii")


class Batch(NamedTuple):
    codec: str
    producer_id: int
    records: int


def batches(broker: str, topic: str, partition: int, security: Mapping[str, str] | None = None) -> list[Batch]:
    """All of them from offset 0. `security`: its certificate is shown. Raises FailedError, OSError."""
    name = topic.encode()
    body = struct.pack(">hhi", 1, 4, 1) + struct.pack(">h", 6) + b"matrix"
    body += struct.pack(">iiiib", -1, 500, 1, _BYTES_MAX, 0)
    body += struct.pack(">ih", 1, len(name)) + name + struct.pack(">iiqi", 1, partition, 0, _BYTES_MAX)
    host, _, port = broker.rpartition(":")
    with _connected(host, int(port), security) as connection:
        connection.sendall(struct.pack(">i", len(body)) + body)
        (length,) = struct.unpack(">i", _read(connection, 4))
        answer = _read(connection, length)
    at = 4 + 4 + 4 + 2 + len(name) + 4
    _, error, _, _, aborted = struct.unpack_from(">ihqqi", answer, at)
    if error:
        raise FailedError(f"a fetch of {topic}-{partition} is answered with error {error}")
    at += 4 + 2 + 8 + 8 + 4 + max(aborted, 0) * 16
    return _heads(answer[at + 4 :])


def _connected(host: str, port: int, security: Mapping[str, str] | None) -> socket.socket:
    connection = socket.create_connection((host, port), _WAIT_S)
    if security is None:
        return connection
    context = ssl.create_default_context(cafile=security["ca"])
    context.load_cert_chain(security["certificate"], security["key"])
    return context.wrap_socket(connection, server_hostname=host)


def _heads(data: bytes) -> list[Batch]:
    found = []
    at = 0
    while at + _HEAD.size <= len(data):
        _, length, _, _, _, attributes, _, _, _, producer_id, _, _, count = _HEAD.unpack_from(data, at)
        found.append(Batch(_CODECS[attributes & 7], producer_id, count))
        at += 12 + length
    return found


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise FailedError("the server has closed the connection on a fetch, version 4")
        data += part
    return data
