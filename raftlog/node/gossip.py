"""What the other supervisors last said of themselves, and what follows from it. Pure soft state.

Nothing here is durable or agreed upon: a leader is whoever claims the highest epoch, a node is alive
when it was heard from within NODE_SILENT_S.
"""

from __future__ import annotations

from typing import NamedTuple

from raftlog.limits import NODE_SILENT_S, VOTERS_HEARD_S
from raftlog.protocol.nodes import FEATURES, NodeState, WorkerState
from raftlog.types import ReplicaStatus, Role

ReplicaKey = tuple[bytes, int]
"""Topic id and partition."""


class Leader(NamedTuple):
    node_id: int
    worker: WorkerState


class _Heard(NamedTuple):
    state: NodeState
    heard_s: float
    workers: dict[ReplicaKey, WorkerState]
    lost: bool = False  # its connection broke, and it was not heard since


class Gossip:
    """Own state enters like that of the others, through `hear`, and never grows silent."""

    def __init__(self, node_id: int) -> None:
        self._node_id = node_id
        self._heard: dict[int, _Heard] = {}
        self.news = 0  # how often something changed but figures

    def hear(self, state: NodeState, now_s: float) -> bool:
        """True when something else than figures changed: boot, endpoints, leaders, image, leaving.

        What the node said before its last word is old news and changes nothing: a state comes over one of two
        connections, and those of a process that has ended are read beside those of the next.
        """
        previous = self._heard.get(state.node_id)
        if previous is not None and self._is_old_news(state, previous, now_s):
            return False
        workers = {key_of(worker): worker for worker in state.workers}
        self._heard[state.node_id] = _Heard(state, now_s, workers)
        news = previous is None or previous.lost or _outline(previous.state) != _outline(state)
        self.news += news
        return news

    def _is_old_news(self, state: NodeState, known: _Heard, now_s: float) -> bool:
        if state.boot_id == known.state.boot_id:
            return state.sequence < known.state.sequence
        # A directory that was put back from a backup counts fewer starts: it is heard once the other is silent.
        same_directory = state.directory_id == known.state.directory_id
        return same_directory and state.boot < known.state.boot and now_s - known.heard_s < NODE_SILENT_S

    def lose(self, node_id: int) -> None:
        """The connection to a node broke: its process is gone, or will be heard again at its next word.

        Its replicas' followers need not wait for a time-out to stand for election.
        """
        heard = self._heard.get(node_id)
        if heard is not None and not heard.lost:
            self._heard[node_id] = heard._replace(lost=True)
            self.news += 1

    def conflict(self, state: NodeState, now_s: float) -> str:
        """Why another living process already has this node id; empty when none has."""
        heard = self._heard.get(state.node_id)
        if (
            heard is None
            or (heard.state.boot_id, heard.state.directory_id) == (state.boot_id, state.directory_id)
            or heard.state.endpoint == state.endpoint
            or not self.is_live(state.node_id, now_s)
        ):
            return ""
        return f"node id {state.node_id} is in use by the node at {heard.state.endpoint}"

    def states(self) -> dict[int, NodeState]:
        """The last word of every node but this one, living or not."""
        return {node_id: heard.state for node_id, heard in self._heard.items() if node_id != self._node_id}

    def state_of(self, node_id: int) -> NodeState | None:
        heard = self._heard.get(node_id)
        return heard.state if heard else None

    def is_live(self, node_id: int, now_s: float) -> bool:
        if node_id == self._node_id:
            return True
        heard = self._heard.get(node_id)
        if heard is None or heard.lost or heard.state.leaving:
            return False
        return now_s - heard.heard_s < NODE_SILENT_S

    def live(self, now_s: float) -> set[int]:
        return {node_id for node_id in {*self._heard, self._node_id} if self.is_live(node_id, now_s)}

    def able(self) -> set[int]:
        """The nodes that have said that their version reads all of FEATURES, living or not."""
        return {node_id for node_id, heard in self._heard.items() if heard.state.features >= FEATURES}

    def hosts_of(self, key: ReplicaKey) -> list[int]:
        """The nodes that have said that they host the partition."""
        return [node_id for node_id, heard in self._heard.items() if key in heard.workers]

    def has_all(self, end_offset: int, key: ReplicaKey, voters: tuple[int, ...], now_s: float) -> bool:
        """Whether an image that ends there holds all that the metadata had committed when its leader said its last.

        `key`, `voters`: of the metadata. The leader holds all that is committed, if no voter of a majority that was
        heard is in a later term.
        """
        leader = self.leader_of(key, voters, now_s)
        workers = [self.worker_of(node_id, key) for node_id in voters if self.is_live(node_id, now_s)]
        terms = [worker.status.leader_epoch for worker in workers if worker is not None and worker.endpoint is not None]
        if leader is None or 2 * len(terms) <= len(voters):
            return False
        status = leader.worker.status
        return max(terms) <= status.leader_epoch and end_offset >= status.log_end_offset

    def confirms(self, image_offset: int, voters: tuple[int, ...], now_s: float) -> bool:
        """Whether a majority of the voters was heard from lately, and no node heard then has a newer image.

        Without it an image may have been old for any length of time.
        """
        recent = {
            node_id: heard.state.image_offset
            for node_id, heard in self._heard.items()
            if now_s - heard.heard_s < VOTERS_HEARD_S and self.is_live(node_id, now_s) and node_id != self._node_id
        }
        heard_voters = [node_id for node_id in voters if node_id in recent or node_id == self._node_id]
        return 2 * len(heard_voters) > len(voters) and all(offset <= image_offset for offset in recent.values())

    def silent_s(self, node_id: int, now_s: float) -> float | None:
        """Seconds since the node's last word; None if there never was one."""
        heard = self._heard.get(node_id)
        return now_s - heard.heard_s if heard else None

    def worker_of(self, node_id: int, key: ReplicaKey) -> WorkerState | None:
        heard = self._heard.get(node_id)
        return heard.workers.get(key) if heard and not heard.lost else None

    def lag_of(self, status: ReplicaStatus) -> int:
        """How many records a replica is behind its leader; -1: not known. A witness has none to be behind with."""
        if status.role == Role.LEADER:
            return 0
        leader = self.worker_of(status.leader_id, (status.topic_id, status.partition))
        if leader is None or leader.status.role != Role.LEADER or status.role == Role.WITNESS:
            return -1
        return max(0, leader.status.log_end_offset - status.log_end_offset)

    def leader_of(self, key: ReplicaKey, replicas: tuple[int, ...], now_s: float) -> Leader | None:
        """The living replica that claims the highest leader epoch."""
        best: Leader | None = None
        for node_id in replicas:
            worker = self.worker_of(node_id, key)
            if (
                worker is not None
                and worker.endpoint is not None
                and worker.status.role == Role.LEADER
                and (best is None or worker.status.leader_epoch > best.worker.status.leader_epoch)
                and self.is_live(node_id, now_s)
            ):
                best = Leader(node_id, worker)
        return best


def key_of(worker: WorkerState) -> ReplicaKey:
    return worker.status.topic_id, worker.status.partition


def _outline(state: NodeState) -> tuple[object, ...]:
    return (
        state.boot_id,
        state.endpoint,
        state.kafka,
        state.cluster_id,
        state.image_offset,
        state.leaving,
        state.founders,
        [
            (worker.endpoint, worker.boot_id, worker.status.role, worker.status.leader_epoch, worker.status.in_sync)
            for worker in state.workers
        ],
    )
