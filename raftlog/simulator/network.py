"""Directed links between nodes: delay, loss, cuts, and what TCP's reconnects do to order.

Within one connection a link is a FIFO with a bandwidth, so a storm of messages backs up as it would in
life. A heal is a new connection: what the old one still had under way may arrive later than newer messages (reordering)
and a part of it may arrive twice (ZeroMQ hands what was queued to the next connection).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from raftlog.protocol.raft import AppendEntries, RaftMessage
from raftlog.record.batch import CRC_START, read_header
from raftlog.simulator.events import Events

_MESSAGE_OVERHEAD_S = 10e-6
_LATE_S = 2.0  # what an old connection still had under way may arrive this much later
_QUEUE_S = 5.0  # a link whose backlog is longer drops, as a socket at its high-water mark does

Deliver = Callable[[int, RaftMessage, bytes | None], None]


class _Link:
    def __init__(self) -> None:
        self.cut = False
        self.last_arrival_s = 0.0
        self.recent: deque[tuple[RaftMessage, bytes | None]] = deque(maxlen=8)


class Network:
    """The links between the simulated nodes: slow, lossy, cut.

    `deliver(node_id, message, payload)` is called when a message arrives.
    """

    def __init__(self, events: Events, rng: random.Random, nodes: list[int], deliver: Deliver) -> None:
        self._events = events
        self._rng = rng
        self._deliver = deliver
        self._links = {(a, b): _Link() for a in nodes for b in nodes if a != b}
        self.delay_s = 0.0003
        self.jitter_s = 0.0003
        self.loss = 0.0
        self.garbled = 0.0  # the part of all batches under way that change a bit
        self.bytes_per_s = 200e6
        self.swallows: Callable[[int, RaftMessage], bool] | None = None  # a message to a node, of a story's choice
        self.sent = 0

    def send(self, source: int, target: int, message: RaftMessage, payload: bytes | None) -> None:
        link = self._links[source, target]
        self.sent += 1
        if link.cut or (self.loss and self._rng.random() < self.loss):
            return
        if self.swallows is not None and self.swallows(target, message):
            return
        if payload and self.garbled and self._rng.random() < self.garbled:
            payload = self._garble(message, payload)
        link.recent.append((message, payload))
        self._transmit(link, target, message, payload)

    def _garble(self, message: RaftMessage, payload: bytes) -> bytes:
        """One bit of what a checksum covers: of the first batch, or of a snapshot of producers."""
        first, end = 0, len(payload)
        if isinstance(message, AppendEntries):
            first, end = CRC_START, min(end, read_header(payload).batch_bytes)
        changed = bytearray(payload)
        changed[self._rng.randrange(first, end)] ^= 1 << self._rng.randrange(8)
        return bytes(changed)

    def _transmit(self, link: _Link, target: int, message: RaftMessage, payload: bytes | None) -> None:
        size = 100 + (len(payload) if payload else 0)
        now_s = self._events.now_s
        if link.last_arrival_s > now_s + _QUEUE_S:
            return
        arrival_s = now_s + self.delay_s + self._rng.random() * self.jitter_s
        arrival_s = max(arrival_s, link.last_arrival_s) + size / self.bytes_per_s + _MESSAGE_OVERHEAD_S
        link.last_arrival_s = arrival_s
        self._events.at(arrival_s, lambda: self._deliver(target, message, payload))

    def is_cut(self, source: int, target: int) -> bool:
        return self._links[source, target].cut

    def cut(self, source: int, target: int) -> None:
        self._links[source, target].cut = True

    def heal(self, source: int, target: int) -> None:
        link = self._links[source, target]
        if not link.cut:
            return
        link.cut = False
        link.last_arrival_s = 0.0  # a new connection does not wait for the old one
        for message, payload in list(link.recent):
            if self._rng.random() < 0.3:
                late_s = self._rng.random() * _LATE_S

                def arrive(message: RaftMessage = message, payload: bytes | None = payload) -> None:
                    self._deliver(target, message, payload)

                self._events.after(late_s, arrive)

    def heal_all(self) -> None:
        self.loss, self.garbled, self.delay_s, self.jitter_s = 0.0, 0.0, 0.0003, 0.0003
        for source, target in self._links:
            self.heal(source, target)
