"""Keeps the metadata fresh: whom to ask, and when. No sockets.

`want` says that something seems to be wrong; the back-off between answers is small while an election
may be under way and grows when the cluster stays as it is. Such a question goes to another node than the one before,
since a node that is cut off goes on answering from what it last heard. While nothing seems to be wrong, the node that
answered last is asked again, so that a client holds one such connection. It stays as long as its answers count and are
confirmed: once it is cut off from a majority of the voters, or knows that its image is old, it says so.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Sequence

from raftlog.client import arguments
from raftlog.client.core.exchange import Exchange
from raftlog.client.core.metadata import MetadataCache
from raftlog.clock import LONG_AGO_S, NEVER_S
from raftlog.limits import (
    CONNECT_PATIENCE_S,
    METADATA_ANSWER_S,
    METADATA_BACKOFF_MAX_S,
    METADATA_BACKOFF_MIN_S,
    METADATA_EAGER_BACKOFF_S,
    METADATA_EAGER_S,
    METADATA_ELECTION_S,
    METADATA_MAX_AGE_S,
    METADATA_NODES_TRIED,
    METADATA_STREAK_ENDS_S,
    SILENT_LEADERS_MAX,
)
from raftlog.protocol import apis
from raftlog.protocol.cluster import MetadataRequest, MetadataResponse
from raftlog.types import Endpoint

_BACKOFF_GROWTH = 1.6


class Refresher:
    """The part of a client that keeps its metadata fresh.

    `topics` None asks for all topics. `max_age_s`: when to ask anyway.

    `answered_s` is when the question was asked that a confirmed node answered last, and not from an old image.
    """

    def __init__(
        self,
        exchange: Exchange,
        cache: MetadataCache,
        bootstrap: Sequence[Endpoint],
        topics: frozenset[str] | None,
        rng: random.Random,
    ) -> None:
        self._exchange = exchange
        self._cache = cache
        self._bootstrap = bootstrap
        self._topics = topics
        self._topics_lock = threading.Lock()
        self._turn = rng.randrange(1 << 16)
        self._wanted = True
        self._urgent = True
        self._asking = False
        self._silent = set[tuple[bytes, int]]()
        self._asked_s = LONG_AGO_S
        self._streak_s = LONG_AGO_S  # since when it has been wanted again and again
        self._backoff_s = METADATA_BACKOFF_MIN_S
        self._connecting_s: float | None = None
        self._node: Endpoint | None = None  # asked last
        self._stays = False  # with that node: its answer counted
        self.answered_s = LONG_AGO_S
        self.max_age_s = METADATA_MAX_AGE_S
        self.all_answered = False  # an answer has named every topic there is, as `want_all` asks for
        self._all = topics is None
        self._asked_all = False

    def want(self, silent: Iterable[tuple[bytes, int]] = ()) -> None:
        """`silent`: (topic id, partition) of leaders that do not answer; whoever is asked next is told so."""
        self._wanted = True
        self._silent.update(silent)

    def want_all(self) -> None:
        """From now on every topic there is, at once for the first time. From any thread; wake the client AFTER it."""
        if not self._all:
            self._all = self._urgent = True

    def want_topic(self, name: str) -> None:
        """Asks at once for a topic that no earlier question named. From any thread; wake the client AFTER it.

        Raises TypeError and ValueError for what is no text, which no question could name.
        """
        if self._topics is None or name in self._topics:
            return
        arguments.text(name)
        with self._topics_lock:
            # A new set, since the client's thread may be reading the old one.
            self._topics = self._topics | {name}
        self._urgent = True

    def unknown_since_s(self, name: str, asked_s: float) -> float:
        """Since when, at the earliest `asked_s`, nobody has known the topic; infinite before an answer has said so.

        Answers to what was asked before `asked_s` do not count: the topic may have been made since. From any thread.
        """
        if self.answered_s < asked_s:
            return NEVER_S
        return max(asked_s, self._cache.unknown_since_s.get(name, NEVER_S))

    def endpoints(self) -> list[Endpoint]:
        """Nodes in the order in which they are tried: living ones, the bootstrap addresses, the rest."""
        nodes = sorted(self._cache.nodes, key=lambda node: not node.alive)
        living = [Endpoint(*node.endpoint) for node in nodes if node.alive]
        return list(dict.fromkeys([*living, *self._bootstrap, *(Endpoint(*node.endpoint) for node in nodes)]))

    def step(self, now_s: float) -> float:
        """Asks if it is time; returns when to be called again at the latest."""
        if self._asking:
            return NEVER_S
        if not self._urgent:
            due_s = self._asked_s + self._backoff_s if self._wanted else self.answered_s + self.max_age_s
            if now_s < due_s:
                return due_s
        endpoint = self._node if self._is_steady() else self.connected_node(now_s)
        if endpoint is None:
            return now_s + CONNECT_PATIENCE_S
        topics = None if self._all or self._topics is None else sorted(self._topics)
        deadline_s = now_s + METADATA_ANSWER_S
        question = MetadataRequest(topics, sorted(self._silent)[:SILENT_LEADERS_MAX])
        if not self._exchange.ask(endpoint, apis.METADATA, question, self._answered, deadline_s=deadline_s):
            return now_s + METADATA_BACKOFF_MIN_S
        self._silent.clear()
        self._asking = True
        self._node, self._stays = endpoint, False
        self._asked_all = topics is None
        self._wanted = self._urgent = False
        self._set_backoff(now_s)
        return NEVER_S

    def _set_backoff(self, now_s: float) -> None:
        if now_s - self._asked_s > self._backoff_s + METADATA_STREAK_ENDS_S:
            self._streak_s = now_s  # for a while nobody wanted anything: this is another trouble
            self._backoff_s = METADATA_BACKOFF_MIN_S
        elif now_s - self._streak_s >= METADATA_ELECTION_S:
            eager = now_s - self._streak_s < METADATA_EAGER_S
            limit = METADATA_EAGER_BACKOFF_S if eager else METADATA_BACKOFF_MAX_S
            self._backoff_s = min(self._backoff_s * _BACKOFF_GROWTH, limit)
        self._asked_s = now_s

    def _is_steady(self) -> bool:
        """Whether the node that was asked last is asked again."""
        if self._wanted or not self._stays or self._node not in self.endpoints():
            return False
        return self._exchange.connect(self._node)

    def connected_node(self, now_s: float) -> Endpoint | None:
        """Some connected node, another one each time; begins to connect to the next few."""
        nodes = self.endpoints()
        start = self._turn % len(nodes)
        window = (nodes[start:] + nodes[:start])[:METADATA_NODES_TRIED]
        connected = [endpoint for endpoint in window if self._exchange.connect(endpoint)]
        if connected:
            self._connecting_s = None
            self._turn += 1
            return connected[0]
        if self._connecting_s is None:
            self._connecting_s = now_s
        elif now_s - self._connecting_s >= CONNECT_PATIENCE_S:
            self._connecting_s = now_s
            self._turn += METADATA_NODES_TRIED
        return None

    def _answered(self, answer: MetadataResponse | None, _payload: bytes) -> None:
        self._asking = False
        if answer is not None and not answer.error_code:
            # Where all topics were asked for, what is not named is not there.
            expected = {*(self._topics or ()), *self._cache.topics} if self._asked_all else ()
            believed = self._cache.update(answer, self._asked_s, expected)
            self.all_answered = self.all_answered or (believed and self._asked_all)
            if believed and answer.confirmed:
                self.answered_s = self._asked_s  # AFTER the update: who sees it finds there what was answered
                self._stays = True
                return
        # Nobody there, or a node that does not know the cluster (yet, or as it is now): the next one is asked.
        self._wanted = True

    def abort(self) -> None:
        """Nobody waits for the refresher itself."""
