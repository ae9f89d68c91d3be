"""Connections to the HTTP address under TLS: each handshake is done with the certificate as it is at that time.

    accept -> TLS handshake, HANDSHAKE_S at most -> a stranger, LOGIN_S at most -> known, by its first request

Strangers make room only for each other: one more than STRANGERS_MAX ends the oldest.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable

from raftlog.clock import monotonic_s
from raftlog.limits import HANDSHAKE_S, LOGIN_S, STRANGERS_MAX
from raftlog.security.credentials import Credentials

log = logging.getLogger(__name__)

_LOG_S = 10.0
_LOOK_S = 1.0  # whether it has gone
_ACCEPT_AGAIN_S = 0.1  # without a descriptor


class TlsConnections:
    """The connections to the HTTP address of a node with certificates.

    `protocol` makes what speaks HTTP over one of them.
    """

    def __init__(self, listener: socket.socket, credentials: Credentials, protocol: Callable[[], asyncio.Protocol]):
        self._listener = listener
        self._credentials = credentials
        self._protocol = protocol
        self._strangers: dict[asyncio.Task[None], None] = {}  # in the order in which they came
        self._known: dict[asyncio.BaseTransport, asyncio.Event] = {}
        self._accepting: asyncio.Task[None] | None = None
        self._refused = 0
        self._log_due_s = 0.0

    def open(self) -> None:
        self._accepting = asyncio.create_task(self._accept())

    async def close(self) -> None:
        tasks = [*self._strangers, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def know(self, transport: asyncio.BaseTransport | None) -> None:
        """Its other end has said who it is: it may stay."""
        waiting = self._known.get(transport) if transport is not None else None
        if waiting is not None:
            waiting.set()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connected, address = await loop.sock_accept(self._listener)
            except OSError:
                await asyncio.sleep(_ACCEPT_AGAIN_S)
                continue
            if len(self._strangers) >= STRANGERS_MAX:
                oldest = next(iter(self._strangers))
                del self._strangers[oldest]
                oldest.cancel()
                self._count("too many connections of those who have not said who they are")
            task = asyncio.create_task(self._meet(connected, address[0]))
            self._strangers[task] = None
            task.add_done_callback(lambda done: self._strangers.pop(done, None))

    async def _meet(self, connected: socket.socket, host: str) -> None:
        """Until it is known, or has gone."""
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.connect_accepted_socket(
                self._protocol, connected, ssl=self._credentials.for_logins(), ssl_handshake_timeout=HANDSHAKE_S
            )
        except OSError as error:
            connected.close()
            if not isinstance(error, ConnectionResetError):  # that one has only looked whether somebody is here
                self._count(f"{host}: {_why(error)}")
            return
        except asyncio.CancelledError:
            connected.close()
            raise
        known = self._known[transport] = asyncio.Event()
        deadline_s = monotonic_s() + LOGIN_S
        try:
            while not known.is_set() and not transport.is_closing():
                if monotonic_s() >= deadline_s:
                    transport.close()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(known.wait(), _LOOK_S)
        except asyncio.CancelledError:
            transport.abort()
            raise
        finally:
            del self._known[transport]

    def _count(self, why: str) -> None:
        """In one line of the log in a while."""
        self._refused += 1
        now_s = monotonic_s()
        if now_s >= self._log_due_s:
            log.warning("refused %d connections, the last one: %s", self._refused, why)
            self._refused = 0
            self._log_due_s = now_s + _LOG_S


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no reason given").lower().replace("_", " ")
    return f"{error}"
