"""A controller for the tests of the door: real decisions on a real image. The door hears a little later."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from raftlog.controller.decisions import Founder, decide, found_cluster
from raftlog.controller.image import Image, apply
from raftlog.errors import ErrorCode
from raftlog.kafka.calls import Controller, Node, Target
from raftlog.kafka.cluster import Cluster
from raftlog.protocol import apis
from raftlog.protocol.cluster import MetadataRequest, MetadataResponse, PartitionMetadata, TopicMetadata
from raftlog.types import Endpoint
from tests.kafka.door import Door, cluster, topic_id

CHANGES = (
    apis.TOPIC_IDS,
    apis.CREATE_TOPICS,
    apis.DELETE_TOPICS,
    apis.CREATE_PARTITIONS,
    apis.INCREMENTAL_ALTER_CONFIGS,
    apis.FIND_COORDINATOR,
)


class FakeController:
    """`news_s`: how much later the door hears of a change. `led_s`: and that new partitions are led.

    `others_s`: how much later than the door the other nodes hear of all that; `others` is what they know.
    """

    def __init__(self, door: Door, *, news_s: float = 0.05, led_s: float = 0.1, others_s: float = 0.03) -> None:
        self.image = Image()
        self.others = cluster()
        self.others_s = others_s
        self.news_s = news_s
        self.led_s = led_s
        self._door = door
        self._minted = 0
        founders = [Founder(node, f"directory-{node}", Endpoint("127.0.0.1", 7070 + node)) for node in (1, 2, 3)]
        self._apply(found_cluster("one", founders))
        for api in CHANGES:
            door.workers[api] = self.answer
        door.workers[apis.METADATA] = self._metadata_of_others

    def answer(self, target: Target, body: Any) -> Any:
        assert isinstance(target, Controller)
        decision = decide(self.image, body, live=(1, 2, 3), mint_id=self._mint)
        self._apply(decision.records)
        if decision.records:
            seen = self.image
            for led, due_s in ((False, self.news_s), (True, self.news_s + self.led_s)):
                view = known(seen, led=led)
                self._door.later(due_s, partial(self._door.learn, view))
                self._door.later(due_s + self.others_s, partial(self._learn_others, view))
        return decision.response

    def _learn_others(self, view: Cluster) -> None:
        self.others = view

    def _metadata_of_others(self, target: Target, body: MetadataRequest) -> MetadataResponse:
        """Node 2 is the only other one that lives."""
        assert target == Node(Endpoint("127.0.0.1", 7072))
        assert body.topics is not None
        nothing = TopicMetadata(
            name="", topic_id=b"", error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, partitions=[], config={}
        )
        topics = [self.others.topics.get(name, msgspec.structs.replace(nothing, name=name)) for name in body.topics]
        return MetadataResponse(cluster_id="one", nodes=list(self.others.nodes.values()), topics=topics)

    def create(self, name: str, partitions: int = 1, **config: str) -> bytes:
        """The id of a topic that is there, and known, before the test begins."""
        new = {"name": name, "num_partitions": partitions, "replication_factor": 3}
        configs = [{"name": key.replace("_", "."), "value": value} for key, value in config.items()]
        answer = self._door.request("CreateTopics", 7, topics=[{**new, "configs": configs}], timeout=1000)
        assert answer["topics"][0]["error_code"] == 0, answer
        made: bytes = answer["topics"][0]["topic_id"]
        return made

    def _mint(self) -> bytes:
        self._minted += 1
        return topic_id(100 + self._minted)

    def _apply(self, records: Any) -> None:
        for record in records:
            self.image = apply(self.image, self.image.end_offset, record)


def known(image: Image, *, led: bool) -> Cluster:
    """What a door is told of this image. The preferred replicas lead, in epoch 5."""
    topics = [
        TopicMetadata(
            name=name,
            topic_id=topic.topic_id,
            error_code=0,  # type: ignore[arg-type]  # as it travels
            partitions=[
                PartitionMetadata(
                    partition=partition,
                    leader_id=replicas[0] if led and replicas[0] != 3 else -1 if not led else replicas[1],
                    leader_epoch=5 if led else -1,
                    endpoint=None,
                    replicas=list(replicas),
                    in_sync=list(replicas) if led else [],
                )
                for partition, replicas in enumerate(topic.replicas)
            ],
            config=msgspec.structs.asdict(topic.config),
        )
        for name, topic in sorted(image.topics.items())
    ]
    nodes = list(cluster().nodes.values())
    return Cluster(MetadataResponse(cluster_id="one", controller_id=2, nodes=nodes, topics=topics))
