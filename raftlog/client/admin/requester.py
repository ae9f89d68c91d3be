"""What every part of Admin asks with: one blocking request, bounded by `request_timeout_ms`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

from raftlog.client import arguments
from raftlog.client.core.call import CONTROLLER, Call
from raftlog.client.core.engine import DEFAULT_BOOTSTRAP, Engine, parse_bootstrap
from raftlog.client.core.exchange import A, Q
from raftlog.client.core.fork_check import Client
from raftlog.client.core.list_offsets import list_offsets_call
from raftlog.clock import monotonic_s
from raftlog.errors import (
    ErrorCode,
    ForkedClientError,
    NoBrokersAvailableError,
    RaftlogError,
    RequestTimedOutError,
    error_for,
)
from raftlog.limits import ADMIN_ATTEMPT_S, ADMIN_FULL_DISK_S, ADMIN_TIMEOUT_MS, TOPIC_CONFIRM_S, UNCONFIRMED_S
from raftlog.protocol import apis
from raftlog.protocol.apis import Api
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.cluster import DescribeReplicasResponse, MetadataRequest, MetadataResponse, TopicMetadata
from raftlog.protocol.security import Behalf
from raftlog.protocol.topics import MUTATION_ID_BYTES, TopicIdsRequest
from raftlog.types import Endpoint, TopicPartition

S = TypeVar("S", MetadataResponse, DescribeReplicasResponse)


class Requester(Client):
    """A client that asks single questions and waits for each answer, or for its time to be up."""

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str] = DEFAULT_BOOTSTRAP,
        *,
        request_timeout_ms: float = ADMIN_TIMEOUT_MS,
        bootstrap_timeout_ms: float = 10_000,
        client_id: str = "raftlog-admin",
        security: str | None = None,
        user: str | Behalf | None = None,
        password: str | None = None,
    ) -> None:
        """Raises NoBrokersAvailableError when no node answers within `bootstrap_timeout_ms`; ValueError."""
        self._timeout_s = arguments.seconds("request_timeout_ms", request_timeout_ms)
        bootstrap_timeout_s = arguments.seconds("bootstrap_timeout_ms", bootstrap_timeout_ms)
        bootstrap, credentials = parse_bootstrap(bootstrap_servers), arguments.credentials(security)
        who = arguments.who(user, password)
        self._engine = Engine(bootstrap, arguments.text(client_id), frozenset(), credentials, who)
        self._confirms = True  # some node has confirmed the last answer; otherwise the next is not waited for as long
        super().__init__()
        self._engine.start()
        try:
            self._engine.wait_for_cluster(bootstrap_timeout_s)
        except BaseException:
            self.close()
            raise

    def list_offsets(self, timestamps_ms: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The first offset at or after each time, -1 where there is none; LATEST_TIMESTAMP, EARLIEST_TIMESTAMP.

        Each leader first makes sure that it leads. Raises UnknownTopicOrPartitionError.
        """
        return self._offsets(timestamps_ms, monotonic_s() + self._timeout_s, {})

    def _offsets(
        self, timestamps_ms: Mapping[TopicPartition, int], deadline_s: float, topic_ids: Mapping[str, bytes]
    ) -> dict[TopicPartition, int]:
        """Of the topics with these ids, where one is named."""
        calls = {
            place: list_offsets_call(
                self._engine.cache, place, timestamp_ms, deadline_s=deadline_s, topic_id=topic_ids.get(place[0], b"")
            )
            for place, timestamp_ms in timestamps_ms.items()
        }
        for call in calls.values():
            self._engine.submit(call)
        return {place: result_of(call).offset for place, call in calls.items()}

    def _ask(
        self,
        what: str,
        place: TopicPartition | Endpoint | str | None,
        api: Api[Q, A],
        body: Q,
        deadline_s: float | None = None,
    ) -> A:
        """The answer. `place` as in Call. Raises what it says, if that is an error."""
        deadline_s = monotonic_s() + self._timeout_s if deadline_s is None else deadline_s
        call = Call(what, place, api, body, deadline_s=deadline_s, attempt_s=ADMIN_ATTEMPT_S)
        self._engine.submit(call)
        answer: A = result_of(call)
        return answer

    def _ask_for_change(
        self, what: str, place: TopicPartition | str, api: Api[Q, A], body: Q, deadline_s: float
    ) -> tuple[A, bool]:
        """The answer, which may be an error, and whether an earlier attempt may have been carried out."""
        call = Call(
            what,
            place,
            api,
            body,
            lambda answer, maybe_done: (answer, maybe_done),
            deadline_s=deadline_s,
            attempt_s=ADMIN_ATTEMPT_S,
            reads_refusals=True,
            full_disk_s=ADMIN_FULL_DISK_S,
        )
        self._engine.submit(call)
        answered: tuple[A, bool] = changed(call)
        return answered

    def _change_once(self, what: str, api: Api[Q, A], build: Callable[[bytes, int], Q]) -> A:
        """Carried out once: see controller/mutations.py. `build(mutation id, where the metadata ends before it)`."""
        deadline_s = monotonic_s() + self._timeout_s
        while True:
            found = self._ask(what, CONTROLLER, apis.TOPIC_IDS, TopicIdsRequest([]), deadline_s)
            body = build(os.urandom(MUTATION_ID_BYTES), found.end_offset)
            answer, maybe_done = self._ask_for_change(what, CONTROLLER, api, body, deadline_s)
            if answer.error_code != ErrorCode.INVALID_UPDATE_VERSION:
                raise_error_of(answer)
                return answer
            if maybe_done:
                raise RequestTimedOutError(f"{what}: whether an attempt without an answer did it is not known")

    def _metadata(
        self, topics: list[str] | None, node: Endpoint | None = None, deadline_s: float | None = None
    ) -> MetadataResponse:
        return self._ask("metadata", node, apis.METADATA, MetadataRequest(topics), deadline_s)

    def _newest(self, ask: Callable[[], S], is_enough: Callable[[S], bool] = lambda _: True) -> S:
        """What a confirmed node answers from the newest image that is known; each question goes to another node.

        What `is_enough` refuses is believed once no node has said otherwise for TOPIC_CONFIRM_S. Without a confirmed
        node the newest answer is returned after UNCONFIRMED_S, and is not `confirmed`.
        """
        cache = self._engine.cache
        began_s = monotonic_s()
        best: S | None = None
        while True:
            found = ask()
            now_s = monotonic_s()
            if found.cluster_id == cache.cluster_id:
                settled = isinstance(found, MetadataResponse) and found.confirmed and found.controller is not None
                if cache.order.is_old(found.image_offset, settled=settled, now_s=now_s):
                    found.confirmed = False
                if best is None or _rank(found) >= _rank(best):
                    best = found
                if best is found and found.confirmed and is_enough(found):
                    self._confirms = True
                    return found
            else:
                self._engine.refresher.want()  # if all nodes are another cluster's, the next question ends with that
            confirmed = best is not None and best.confirmed
            patience_s = UNCONFIRMED_S if self._confirms and not confirmed else TOPIC_CONFIRM_S
            if best is not None and now_s - began_s > min(patience_s, self._timeout_s):
                self._confirms = confirmed
                return best
            time.sleep(TOPIC_CONFIRM_S / 4)

    def _topics_named(
        self, names: list[str], is_enough: Callable[[MetadataResponse], bool] = lambda _: True, *, strict: bool = False
    ) -> list[TopicMetadata]:
        """These topics; of one that does not exist `error_code` says so.

        A node may not have heard yet of a topic made a moment ago. Raises NoBrokersAvailableError where a topic seems
        not to exist and no node confirms that; with `strict` also where a topic's id is not confirmed.
        """

        def all_there(found: MetadataResponse) -> bool:
            return all(topic.error_code == ErrorCode.NONE for topic in found.topics) and is_enough(found)

        found = self._newest(lambda: self._metadata(names), all_there)
        if not found.confirmed and (strict or not all_there(found)):
            raise NoBrokersAvailableError(
                f"what there is of {', '.join(names)} cannot be told: node {found.node_id} hears no majority of the "
                "voters, and no other node answers"
            )
        return found.topics

    def close(self) -> None:
        """Ends what is under way with ClosedError. Safe to call twice."""
        self._engine.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except ForkedClientError:
            if kind is None:
                raise  # else what ends a child, such as SystemExit, goes on


def _rank(found: MetadataResponse | DescribeReplicasResponse) -> tuple[int, bool]:
    return found.image_offset, found.confirmed


def changed(call: Call[Any, Any]) -> Any:
    """Of what changes something: what no answer came to says that it may have been done."""
    try:
        return result_of(call)
    except RaftlogError as error:
        if not call.maybe_done:
            raise
        text = f"{error}; {call.what}: it may have been done all the same, so look before you ask again"
        unknown = type(error)(text)
        unknown.outcome_unknown = True
        raise unknown from None


def result_of(call: Call[Any, Any]) -> Any:
    try:
        return call.future.result()
    except RaftlogError as error:
        raise error.with_traceback(None) from None


def raise_error_of(answer: ResponseBody) -> None:
    if answer.error_code:
        raise error_for(answer.error_code, answer.error_text)
