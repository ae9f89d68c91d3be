"""What a client knows of the cluster: topics, their leaders, the nodes. Data in, data out.

Nodes answer from soft state, so two nodes may disagree, for as long as one of them is cut off from the others. What a
topic is (its id, its partitions, its settings, whether it exists), the nodes and the controller come from a metadata
image, and images have an order: the one with the higher end offset is newer, and a client never goes back to an older
one. Leaders are soft state beside it with an order of their own: the higher leader epoch wins; an older one counts as
old news until LEADER_EPOCH_MEMORY_S after the newer was heard of. A topic with another id is another topic, which knows
nothing of the old one's epochs.

A node that does not hear a majority of the metadata's voters is no witness of what does not exist. What it names counts
only while no other node answers, since the metadata may have lost its majority, and clients have to find their leaders.

The epoch in which a partition was read is no hearsay: somebody led in it. No leader of an older one is named any more,
unless that epoch is lost: after `raftlog doctor --recover` a majority may know nothing of it, or a client has committed
one that never was. Where only older ones are named for LEADER_EPOCH_MEMORY_S the epoch is in doubt, and their leader is
asked for the bounds of its log. That answer leaves once a majority has said that it leads still; so nobody can lead in
the newer epoch, since it would need one of that majority, and the epoch is given up.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from typing import NamedTuple

from raftlog.errors import ErrorCode, InconsistentClusterIdError
from raftlog.limits import FOREIGN_CLUSTER_S, IMAGE_MEMORY_S, LEADER_EPOCH_MEMORY_S, UNCONFIRMED_S
from raftlog.protocol.cluster import MetadataResponse, NodeMetadata, PartitionMetadata, TopicMetadata
from raftlog.types import METADATA_TOPIC_ID, Endpoint, TopicConfig

LOGGER = logging.getLogger(__name__)


class Leader(NamedTuple):
    """Who takes the requests of one partition, as far as is known."""

    topic_id: bytes
    node_id: int
    epoch: int
    endpoint: Endpoint


class Topic:
    """One topic. `leaders` has an entry per partition, None while none is known."""

    __slots__ = ("leaders", "max_record_bytes", "name", "partitions", "topic_id")

    def __init__(self, name: str, topic_id: bytes, partitions: int, max_record_bytes: int) -> None:
        self.name = name
        self.topic_id = topic_id
        self.leaders: list[Leader | None] = [None] * partitions
        self.partitions = list(range(partitions))
        self.max_record_bytes = max_record_bytes


class ImageOrder:
    """The newest metadata image that nodes have answered from, and which answers are older than it.

    A metadata log that lost history (`raftlog doctor --recover`) ends lower than it did. So an older image counts
    again once confirmed nodes that know a controller have named nothing newer for IMAGE_MEMORY_S.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.newest_offset = -1
        self._older_since_s: float | None = None

    def is_old(self, offset: int, *, settled: bool, now_s: float) -> bool:
        """`settled`: the node that answers is confirmed and knows a controller. From any thread."""
        with self._lock:
            return self._is_old(offset, settled, now_s)

    def _is_old(self, offset: int, settled: bool, now_s: float) -> bool:
        if offset >= self.newest_offset:
            self.newest_offset = offset
            self._older_since_s = None
            return False
        if not settled:
            return True
        if self._older_since_s is None:
            self._older_since_s = now_s
        if now_s - self._older_since_s < IMAGE_MEMORY_S:
            return True
        self.newest_offset = offset
        self._older_since_s = None
        return False


class MetadataCache:
    """What a client knows of nodes, topics and leaders. `version` grows with every answer.

    `unknown_since_s` holds topics that the last confirmed answer did not know, and since when.
    `doubt` says why the last answer was no word on what does not exist; empty: it was one.
    """

    def __init__(self) -> None:
        self.version = 0
        self.cluster_id = ""
        self.nodes: list[NodeMetadata] = []
        self.controller: Endpoint | None = None
        self.topics: dict[str, Topic] = {}
        self.unknown_since_s: dict[str, float] = {}
        self.doubt = ""
        self.order = ImageOrder()
        self._unconfirmed_since_s: float | None = None  # no confirmed node has answered since
        self._foreign: tuple[str, float] | None = None  # another cluster's id, and since when only it answers
        self._epochs: dict[tuple[bytes, int], tuple[int, float]] = {}  # the highest one and when it was heard
        self._read_epochs: dict[tuple[bytes, int], int] = {}
        self._missed_since_s: dict[tuple[bytes, int], float] = {}  # only leaders of older epochs than that are named
        self._doubted: set[tuple[bytes, int]] = set()  # those for so long that the read epoch may be lost

    def update(self, response: MetadataResponse, now_s: float, expected: Collection[str] = ()) -> bool:
        """Whether the answer counted, and not only for its leaders.

        `expected`: topics that do not exist if the answer does not name them.
        """
        self.version += 1
        if self._is_foreign(response, now_s):
            return False
        believed = self._believes(response, now_s)
        if believed:
            self.nodes = response.nodes
            self.controller = self._controller_of(response, now_s)
        gone = set(expected) - {found.name for found in response.topics}
        for found in response.topics:
            if found.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                gone.add(found.name)
            elif found.error_code == ErrorCode.NONE:
                if believed:
                    self._update_topic(found)
                self._hear_leaders(found, now_s, believed)
        if believed and response.confirmed:
            for name in gone:
                self.topics.pop(name, None)
                self.unknown_since_s.setdefault(name, now_s)
        return believed

    # --- whether an answer counts --------------------------------------------------------------
    def _is_foreign(self, response: MetadataResponse, now_s: float) -> bool:
        if self.cluster_id and response.cluster_id and response.cluster_id != self.cluster_id:
            if self._foreign is None or self._foreign[0] != response.cluster_id:
                self._foreign = (response.cluster_id, now_s)
            return True
        self._foreign = None
        self.cluster_id = self.cluster_id or response.cluster_id
        return False

    def foreign_error(self, now_s: float) -> InconsistentClusterIdError | None:
        """Why nothing will come any more: all that answers belongs to another cluster.

        A client never takes its topics for those of its own cluster: they may have the same names.
        """
        foreign = self._foreign  # set by the client's thread
        if foreign is None or now_s - foreign[1] < FOREIGN_CLUSTER_S:
            return None
        return InconsistentClusterIdError(
            f"the nodes belong to cluster {foreign[0]} now, this client was one of cluster {self.cluster_id}: "
            "close it and make a new one"
        )

    def _believes(self, response: MetadataResponse, now_s: float) -> bool:
        settled = response.confirmed and response.controller is not None
        if self.order.is_old(response.image_offset, settled=settled, now_s=now_s):
            self.doubt = f"node {response.node_id} has not heard of all that others know"
            return False
        if response.confirmed:
            self.doubt = ""
            self._unconfirmed_since_s = None
            return True
        self.doubt = f"node {response.node_id} hears no majority of the voters"
        if self._unconfirmed_since_s is None:
            self._unconfirmed_since_s = now_s
        if now_s - self._unconfirmed_since_s < UNCONFIRMED_S:
            return False
        self.unknown_since_s.clear()  # they may have been made since, and nobody who would know has answered
        return True

    # --- topics and leaders --------------------------------------------------------------------
    def _controller_of(self, response: MetadataResponse, now_s: float) -> Endpoint | None:
        place = (METADATA_TOPIC_ID, 0)
        if response.controller is not None and not self._is_newest(place, response.controller_epoch, now_s, True):
            return self.controller
        return response.controller

    def _update_topic(self, found: TopicMetadata) -> None:
        self.unknown_since_s.pop(found.name, None)
        known = self.topics.get(found.name)
        limit = found.config.get("max_record_bytes", TopicConfig().max_record_bytes)
        topic = Topic(found.name, found.topic_id, len(found.partitions), limit)
        if known is not None and known.topic_id == found.topic_id:
            for number, leader in enumerate(known.leaders[: len(topic.leaders)]):
                topic.leaders[number] = leader
        self.topics[found.name] = topic

    def _hear_leaders(self, found: TopicMetadata, now_s: float, believed: bool) -> None:
        topic = self.topics.get(found.name)
        if topic is None or topic.topic_id != found.topic_id:
            return
        for partition in found.partitions:
            if 0 <= partition.partition < len(topic.leaders):
                leader = self._newest(found.topic_id, partition, now_s, believed)
                if leader is not None:
                    topic.leaders[partition.partition] = leader

    def _newest(self, topic_id: bytes, found: PartitionMetadata, now_s: float, believed: bool) -> Leader | None:
        if found.endpoint is None or found.leader_id < 0:
            return None
        place = (topic_id, found.partition)
        if found.leader_epoch >= self.read_epoch(*place):
            self._settle(place)
        elif not self._comes_in_doubt(place, now_s, believed):
            return None
        if not self._is_newest(place, found.leader_epoch, now_s, believed):
            return None
        return Leader(topic_id, found.leader_id, found.leader_epoch, Endpoint(*found.endpoint))

    def _is_newest(self, place: tuple[bytes, int], epoch: int, now_s: float, believed: bool) -> bool:
        known, heard_s = self._epochs.get(place, (-1, now_s))
        if epoch < known and (not believed or now_s - heard_s < LEADER_EPOCH_MEMORY_S):
            return False
        if epoch != known:
            self._epochs[place] = (epoch, now_s)
        return True

    def _comes_in_doubt(self, place: tuple[bytes, int], now_s: float, believed: bool) -> bool:
        if believed and now_s - self._missed_since_s.setdefault(place, now_s) >= LEADER_EPOCH_MEMORY_S:
            self._doubted.add(place)
        return place in self._doubted

    def _settle(self, place: tuple[bytes, int]) -> None:
        if self._missed_since_s:
            self._missed_since_s.pop(place, None)
            self._doubted.discard(place)

    def leader(self, topic: str, partition: int) -> Leader | None:
        known = self.topics.get(topic)
        if known is None or partition >= len(known.leaders):
            return None
        leader = known.leaders[partition]
        place = (known.topic_id, partition)
        if leader is not None and leader.epoch < self.read_epoch(*place) and place not in self._doubted:
            return None
        return leader

    def read_epoch(self, topic_id: bytes, partition: int) -> int:
        """The newest one of which this client has read, or been answered or told that it was read; -1: none."""
        return self._read_epochs.get((topic_id, partition), -1)

    def note_read(self, topic_id: bytes, partition: int, epoch: int) -> bool:
        """Its leader has answered. False: an older one than has been read, whose answer says nothing any more."""
        before = self.read_epoch(topic_id, partition)
        if epoch < before:
            return False
        if epoch > before:
            self._read_epochs[topic_id, partition] = epoch
        self._settle((topic_id, partition))
        return True

    def doubted_epoch(self, topic_id: bytes, partition: int) -> int:
        """The read epoch, where it may be lost: ListOffsets without an epoch finds out. -1: there is no doubt."""
        return self.read_epoch(topic_id, partition) if (topic_id, partition) in self._doubted else -1

    def judge_doubted(self, topic_id: bytes, partition: int, doubted: int, epoch: int) -> None:
        """The leader of `epoch` has answered ListOffsets, which it was asked AFTER `doubted` had been read."""
        place = (topic_id, partition)
        if epoch < doubted == self.read_epoch(*place):
            text = "partition %d: leader epoch %d is lost, a majority follows epoch %d"
            LOGGER.warning(text, partition, doubted, epoch)
            self._read_epochs[place] = epoch
            self._settle(place)

    def refused(self, topic: str, partition: int, leader: Leader, newer_epoch: int, now_s: float) -> None:
        """`leader` said that it is not, or went away: it is not asked again before it is named again.

        `newer_epoch` is the hint of its answer (-1: none): until then older ones are old news.
        """
        place = (leader.topic_id, partition)
        if newer_epoch > self._epochs.get(place, (-1, 0.0))[0]:
            self._epochs[place] = (newer_epoch, now_s)
        known = self.topics.get(topic)
        if known is not None and partition < len(known.leaders) and known.leaders[partition] == leader:
            known.leaders[partition] = None
