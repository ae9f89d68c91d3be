"""The process of the HTTP address: its entry and its end. It alone imports raftlog/http, and so aiohttp."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket

from raftlog.client.arguments import SECURITY_VARIABLE
from raftlog.http.address import HttpAddress
from raftlog.http.logins import HttpLogins
from raftlog.node import channel as ch
from raftlog.node.audit import AuditLog
from raftlog.node.log_lines import configure_log_lines, set_log_level
from raftlog.protocol.report import NodeReport

log = logging.getLogger(__name__)


def run_http(config_bytes: bytes, end: socket.socket, listener: socket.socket) -> None:
    config = ch.decode_http_config(config_bytes)
    configure_log_lines(f"node {config.node_id} http", config.log_style)
    # Ctrl-C reaches every process of the terminal; the supervisor says when it is time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # It asks as this node, by clients that look there.
    os.environ[SECURITY_VARIABLE] = config.secured.directory if config.secured else ""
    asyncio.run(_serve(config, end, listener))
    log.info("stopped")


async def _serve(config: ch.HttpConfig, end: socket.socket, listener: socket.socket) -> None:
    stopping = asyncio.Event()
    logins = None
    if config.secured is not None:
        audit = AuditLog(config.access.audit_log, config.node_id, "http")
        logins = HttpLogins(config.access, config.secured.credentials(config.node_id), audit.write)
    supervisor = _Supervisor(end, stopping, logins)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_reader(supervisor.descriptor, supervisor.receive)
    address = HttpAddress(config.node, config.data, supervisor.ask, read_only=config.read_only, logins=logins)
    await address.open(listener)
    log.info("started, process %d", os.getpid())
    await stopping.wait()
    loop.remove_reader(supervisor.descriptor)
    await address.close()


class _Supervisor:
    """The own supervisor, as it is asked. `stopping` is set when it says so, or is gone."""

    def __init__(self, end: socket.socket, stopping: asyncio.Event, logins: HttpLogins | None) -> None:
        """`logins` hear of users and rules."""
        self._channel: ch.Channel[ch.ToDoor] = ch.Channel(end, ch.ToDoor)
        self._stopping = stopping
        self._logins = logins
        self._asked: dict[int, asyncio.Future[NodeReport]] = {}
        self._last_number = 0

    @property
    def descriptor(self) -> int:
        return self._channel.fileno()

    async def ask(self) -> NodeReport:
        """What the node says of itself now. For as long as whoever asks will wait."""
        self._last_number = number = self._last_number + 1
        waiting: asyncio.Future[NodeReport] = asyncio.get_running_loop().create_future()
        self._asked[number] = waiting
        self._channel.send(ch.Asked(number=number))
        try:
            return await waiting
        finally:
            del self._asked[number]

    def receive(self) -> None:
        for message in self._channel.receive():
            match message:
                case ch.Told():
                    waiting = self._asked.get(message.number)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(message.report)
                case ch.SecurityNews():
                    if self._logins is not None:
                        self._logins.secure(message.security)
                case ch.SetLogLevel():
                    set_log_level(message.level)
                case ch.Stop():
                    self._stopping.set()
        if self._channel.closed:
            self._stopping.set()
