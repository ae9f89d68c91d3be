"""Topics made, deleted and changed: asked of the controller, the worker that leads `__cluster_metadata-0`."""

from __future__ import annotations

import msgspec

from raftlog.errors import ErrorCode
from raftlog.protocol.body import Body, ResponseBody


class NewTopic(msgspec.Struct, array_like=True, kw_only=True):
    """partitions and replication_factor -1 ask for the defaults: 1, and 3 or what the nodes allow.

    `replicas`: the nodes of each partition, the preferred leader first, with both at -1; empty: the controller chooses.
    """

    name: str
    partitions: int = -1
    replication_factor: int = -1
    config: dict[str, str] = {}
    replicas: list[tuple[int, ...]] = []


MUTATION_ID_BYTES = 16


class MutationBody(Body):
    """A change of the metadata, which is carried out once, however often it is asked for.

    `mutation_id`: random bytes of the client, the same at each attempt. `since_offset`: where the metadata ended
    before the first attempt, as TopicIdsResponse said.
    """

    mutation_id: bytes
    since_offset: int


class TopicIdsRequest(Body):
    """Which topics have these names now: asked once before a change, so that each attempt means the same topics."""

    names: list[str]


class TopicIdsResponse(ResponseBody):
    """The ids of the topics that were named.

    `topic_ids`: one of each name, b"" where there is no such topic. `end_offset`: where the metadata ends.
    """

    end_offset: int = 0
    topic_ids: list[bytes] = []


class CreateTopicsRequest(MutationBody):
    """One result per topic; each stands or falls alone. `validate_only`: what would become of it, and nothing does."""

    topics: list[NewTopic]
    timeout_ms: int = 30_000
    validate_only: bool = False


class DeleteTopicsRequest(MutationBody):
    """Topics are deleted. `topics`: (name, topic id), so that one made anew under the name is not meant (KIP-516)."""

    topics: list[tuple[str, bytes]]
    timeout_ms: int = 30_000


class IncrementalAlterConfigsRequest(MutationBody, kw_only=True):
    """Some settings of a topic are changed.

    `config` sets these settings, `reset` puts those back to their defaults; all others stay (KIP-339).

    `validate_only` as in CreateTopics.
    """

    name: str
    topic_id: bytes
    config: dict[str, str] = {}
    reset: list[str] = []
    validate_only: bool = False


class CreatePartitionsRequest(MutationBody, kw_only=True):
    """A topic gets more partitions.

    `partitions`: how many there shall be in all (KIP-195).

    `replicas`: the nodes of each new one, as in NewTopic. `validate_only` as in CreateTopics.
    """

    name: str
    topic_id: bytes
    partitions: int
    replicas: list[tuple[int, ...]] = []
    validate_only: bool = False


class TopicResult(msgspec.Struct, array_like=True, kw_only=True):
    """What became of one topic of a request.

    `warning`: why a partition survives fewer failures than asked for; "" where it does not.
    """

    name: str
    error_code: ErrorCode
    error_text: str
    topic_id: bytes = b""
    partitions: int = 0
    replication_factor: int = 0
    witnesses: int = 0  # of each partition
    warning: str = ""


class TopicsResponse(ResponseBody):
    """One result per topic asked for; each stands or falls alone."""

    results: list[TopicResult] = []
