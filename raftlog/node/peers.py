"""The other replicas of a worker's partition: one connection to each, and the port where they connect."""

from __future__ import annotations

import logging
from collections.abc import Callable

from raftlog.clock import NEVER_S
from raftlog.errors import InvalidRequestError
from raftlog.network import Poller, StreamConnection, StreamLink, StreamServer
from raftlog.protocol.codec import decode_raft, encode
from raftlog.protocol.raft import RaftMessage
from raftlog.security.credentials import Credentials
from raftlog.types import Buffer, Endpoint

log = logging.getLogger(__name__)

_LOG_S = 10.0


class Peers:
    """Raft messages out and in. `refused` counts those that made no sense; nobody is told of them."""

    def __init__(
        self, poller: Poller, host: str, boot_id: int, ports: range | None, credentials: Credentials | None
    ) -> None:
        """With `credentials` nobody is heard but nodes of this cluster, and nothing is sent in the open."""
        self._poller = poller
        self._credentials = credentials
        self._server = StreamServer(poller, host, boot_id, ports, credentials)
        self._log_due_s = 0.0
        self._logged: dict[int, str] = {}
        self._links: dict[int, StreamLink] = {}
        self.port = self._server.port
        self.refused = 0

    def send(self, node_id: int, message: RaftMessage, payload: Buffer | None) -> None:
        link = self._links.get(node_id)
        if link is not None:
            link.send(encode(message), payload)

    def receive(
        self, peer: StreamConnection | StreamLink | StreamServer, take: Callable[[RaftMessage, Buffer | None], None]
    ) -> None:
        """Of one that is ready."""
        for header, payload in peer.on_ready():
            try:
                message = decode_raft(header)
            except InvalidRequestError:
                self.refused += 1
            else:
                take(message, payload)

    def set(self, node_id: int, endpoint: Endpoint | None, boot_id: int) -> None:
        """Where the worker of another replica listens now. None: nowhere."""
        link = self._links.get(node_id)
        if link is not None and (link.endpoint, link.boot_id) != (endpoint, boot_id):
            del self._links[node_id]
            link.close()
            link = None
        if link is None and endpoint is not None:
            self._links[node_id] = StreamLink(self._poller, endpoint, boot_id, node_id, self._credentials)

    def log_refused(self, now_s: float) -> None:
        """At most two lines in ten seconds, whatever strangers do."""
        if self._credentials is None or now_s < self._log_due_s:
            return
        self._log_due_s = now_s + _LOG_S
        if self._server.refused:
            log.warning("refused %d connections, the last one of %s", self._server.refused, self._server.why)
            self._server.refused = 0
        whys = {node_id: link.why for node_id, link in self._links.items() if link.why}
        if whys != self._logged:
            self._logged = whys
            log.warning("no connection to %s", ", ".join(f"node {node_id}: {why}" for node_id, why in whys.items()))

    def tick(self, now_s: float) -> float:
        """Call it when what it returned last has come."""
        due_s = NEVER_S
        for link in self._links.values():
            if link.due_s <= now_s:
                link.tick()
            due_s = min(due_s, link.due_s)
        if self._server.due_s <= now_s:
            self._server.tick()
        return min(due_s, self._server.due_s)
