"""A Kafka client as small as can be: one socket, requests and answers by kio."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Any

from raftlog.types import Endpoint
from tests.kafka.door import decode, encode
from tests.patience import WAIT_S

PRODUCE, FETCH, METADATA, API_VERSIONS = 0, 1, 3, 18


class KafkaSocket:
    def __init__(self, endpoint: Endpoint, source: str = "") -> None:
        """`source`: the own address; "": any."""
        own = (source, 0) if source else None
        self.socket = socket.create_connection(tuple(endpoint), timeout=WAIT_S, source_address=own)

    def say(self, key: int, version: int, **fields: Any) -> None:
        frame = encode(key, version, fields)
        self.socket.sendall(len(frame).to_bytes(4, "big") + frame)

    def hear(self, key: int, version: int) -> dict[str, Any]:
        """Raises ConnectionError where the door ends the connection instead."""
        head = self._receive(4)
        return decode(key, version, head + self._receive(int.from_bytes(head, "big")))

    def ask(self, key: int, version: int, **fields: Any) -> dict[str, Any]:
        self.say(key, version, **fields)
        return self.hear(key, version)

    def is_ended(self) -> bool:
        """By the door, within WAIT_S."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise ConnectionError("the door has ended the connection")
            data += more
        return data

    def __enter__(self) -> KafkaSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()
