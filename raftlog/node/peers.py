"""The other replicas of a worker's partition: one connection to each, and the port where they connect."""

from __future__ import annotations

from collections.abc import Callable

from raftlog.clock import NEVER_S
from raftlog.errors import InvalidRequestError
from raftlog.network import Poller, StreamConnection, StreamLink, StreamServer
from raftlog.protocol.codec import decode_raft, encode
from raftlog.protocol.raft import RaftMessage
from raftlog.types import Buffer, Endpoint


class Peers:
    """Raft messages out and in. `refused` counts those that made no sense; nobody is told of them."""

    def __init__(self, poller: Poller, host: str, boot_id: int, ports: range | None) -> None:
        self._poller = poller
        self._server = StreamServer(poller, host, boot_id, ports)
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
            self._links[node_id] = StreamLink(self._poller, endpoint, boot_id)

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
