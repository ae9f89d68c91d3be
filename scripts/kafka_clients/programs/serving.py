"""What the Python programs have in common: one JSON request a line on stdin, one JSON answer a line on stdout.

`ProgramClient` is the base: an operation `create-topic` is its method `create_topic`. An answer is {"ok": …},
{"error": TEXT} or, for what the client does not have, {"lacks": REASON}.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

WAIT_S = 30.0


def librdkafka(bootstrap: str, security: dict[str, str] | None) -> dict[str, Any]:
    """Its settings: over TLS, as a user by SCRAM, or whom the certificate names. None: in the open."""
    settings: dict[str, Any] = {"bootstrap.servers": bootstrap}
    if security is None:
        return settings
    settings["ssl.ca.location"] = security["ca"]
    if "user" in security:
        settings |= {"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512"}
        return settings | {"sasl.username": security["user"], "sasl.password": security["password"]}
    settings |= {"security.protocol": "SSL", "ssl.certificate.location": security["certificate"]}
    return settings | {"ssl.key.location": security["key"]}


Record = dict[str, Any]


class Lacking(Exception):
    """This client does not have that."""


def serve(program: object) -> None:
    """Until stdin ends. Whatever a client raises is an answer, since any of it may be the finding."""
    for line in sys.stdin:
        request = json.loads(line)
        method = getattr(program, request.pop("do").replace("-", "_"), None)
        try:
            if method is None:
                raise Lacking("no such operation in this client")
            answer = {"ok": method(**request) or {}}
        except Lacking as lacking:
            answer = {"lacks": str(lacking)}
        except Exception as error:  # noqa: BLE001
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def packed(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def unpacked(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def unpacked_headers(headers: Iterable[tuple[str, str | None]]) -> list[tuple[str, bytes | None]]:
    return [(name, unpacked(value)) for name, value in headers]


def record(
    partition: int,
    offset: int,
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[str, bytes | None]] | None,
    timestamp: int,
) -> Record:
    return {
        "partition": partition,
        "offset": offset,
        "key": packed(key),
        "value": packed(value),
        "headers": [[name, packed(content)] for name, content in headers or ()],
        "timestamp": timestamp,
    }


def until(done: Callable[[], bool], step: Callable[[], object]) -> None:
    """Steps until it is done or time is up; what is missing then is for the caller to see."""
    end_s = time.monotonic() + WAIT_S
    while not done() and time.monotonic() < end_s:
        step()


class PollingMember:
    """A member of a group that a thread of its own polls; commits and the end are done by that thread as well."""

    def __init__(self, poll: Callable[[], list[Record]]) -> None:
        self.assigned: set[int] = set()
        self.revoked: list[int] = []
        self.records: list[Record] = []
        self.failure: str | None = None
        self._poll = poll
        self._order: tuple[Callable[[], object], threading.Event] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Once the client has subscribed."""
        self._thread.start()

    def state(self) -> dict[str, Any]:
        return {
            "assigned": sorted(self.assigned),
            "revoked": list(self.revoked),
            "records": list(self.records),
            "failure": self.failure,
        }

    def between_polls(self, order: Callable[[], object]) -> None:
        done = threading.Event()
        self._order = (order, done)
        if not done.wait(WAIT_S):
            raise TimeoutError(f"the member is stuck; {self.failure}")
        if self.failure:
            raise RuntimeError(self.failure)

    def end(self, close: Callable[[], object]) -> None:
        def last() -> None:
            close()
            self._ended.set()

        self.between_polls(last)
        self._thread.join(WAIT_S)

    def gained(self, partitions: Iterable[int]) -> None:
        self.assigned |= set(partitions)

    def lost(self, partitions: Iterable[int]) -> None:
        gone = list(partitions)
        self.assigned -= set(gone)
        self.revoked += gone

    def _run(self) -> None:
        while not self._ended.is_set():
            order, self._order = self._order, None
            try:
                if order:
                    order[0]()
                else:
                    self.records += self._poll()
            except Exception as error:  # noqa: BLE001
                self.failure = f"{type(error).__name__}: {error}"
                time.sleep(0.2)  # not a busy loop over an error that stays
            finally:
                if order:
                    order[1].set()
