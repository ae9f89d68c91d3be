"""What /api/ answers: the same as the command line with `--json`. An Admin asks the nodes."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from raftlog import Admin, ConsumerRecord
from raftlog.client.admin.lag_reader import GroupLag, LagReader
from raftlog.clock import monotonic_s
from raftlog.errors import RaftlogError, SaslAuthenticationFailedError, ThrottlingQuotaExceededError
from raftlog.http.acts import Effect
from raftlog.http.logins import Asker
from raftlog.http.records import RecordReader, RecordsFound, RecordsWanted
from raftlog.limits import (
    HTTP_ANSWER_S,
    HTTP_ASKERS_MAX,
    HTTP_LAGS_AGAIN_S,
    HTTP_LAGS_S,
    HTTP_OFFSETS_S,
    HTTP_QUESTIONS_MAX,
    HTTP_QUESTIONS_WAITING_MAX,
)
from raftlog.protocol.security import Behalf
from raftlog.types import Endpoint, TopicPartition
from raftlog.view import access, answers
from raftlog.view.summaries import TopicSummaries, summarize_topics

log = logging.getLogger(__name__)

T = TypeVar("T")
_CLIENT_ID = "raftlog-http"


class _Clients:
    """What one asker's questions are asked with; made when he asks first. `users` are under way."""

    def __init__(self, node: Endpoint, asker: Asker | None) -> None:
        behalf = None if asker is None else Behalf(asker.principal, asker.host, asker.mechanism)
        self._node = str(node)
        self._user = behalf
        self._lock = threading.Lock()
        self._admins: tuple[Admin, Admin] | None = None
        self.records = RecordReader(node, behalf)
        self.users = 0

    def admins(self) -> tuple[Admin, Admin]:
        """One, and a hasty one."""
        with self._lock:
            if self._admins is None:
                admin = _admin(self._node, HTTP_ANSWER_S, self._user)
                self._admins = admin, _admin(self._node, HTTP_OFFSETS_S, self._user)
            return self._admins

    def close(self) -> None:
        with self._lock:
            for admin in self._admins or ():
                admin.close()
        self.records.close()


class Questions:
    """Each method raises RaftlogError. They wait in threads: Admin is a blocking client.

    `asker`: for whom the node asks, so that users and rules decide what he is told; None: for itself.
    """

    def __init__(self, node: Endpoint) -> None:
        self._node = node
        self._threads = ThreadPoolExecutor(HTTP_QUESTIONS_MAX, "question")
        self._lock = threading.Lock()
        self._clients: OrderedDict[Asker | None, _Clients] = OrderedDict()
        self._waiting = 0
        self._lag_thread = ThreadPoolExecutor(1, "lags")  # its own: questions of people must not make lags old
        self._lag_reader: LagReader | None = None
        self._lags: list[GroupLag] | None = None
        self._lags_due_s = 0.0
        self._looking: asyncio.Task[None] | None = None

    async def cluster(self, asker: Asker | None) -> answers.ClusterStatus:
        return await self._ask(asker, lambda admin, hasty: answers.cluster_status(admin))

    async def doctor(self, asker: Asker | None) -> answers.Examination:
        return await self._ask(asker, lambda admin, hasty: answers.examine(admin, admin.describe_cluster()))

    async def topics(self, asker: Asker | None) -> answers.TopicList:
        return await self._ask(asker, lambda admin, hasty: answers.topic_list(admin, admin.describe_cluster()))

    async def topic(self, asker: Asker | None, name: str) -> answers.DescribedTopics:
        def ask(admin: Admin, hasty: Admin) -> answers.DescribedTopics:
            cluster = admin.describe_cluster()
            return answers.described_topics(admin, cluster, admin.describe_topics([name]), hasty)

        return await self._ask(asker, ask)

    async def groups(self, asker: Asker | None) -> answers.GroupList:
        return await self._ask(asker, lambda admin, hasty: answers.group_list(admin))

    async def group(self, asker: Asker | None, name: str) -> answers.DescribedGroups:
        return await self._ask(
            asker, lambda admin, hasty: answers.DescribedGroups(groups=[answers.described_group(admin, name)])
        )

    async def users(self, asker: Asker | None) -> access.UserList:
        return await self._ask(asker, lambda admin, hasty: access.user_list(admin))

    async def acls(self, asker: Asker | None) -> access.RuleList:
        return await self._ask(asker, lambda admin, hasty: access.rule_list(admin))

    async def summaries(self, asker: Asker | None) -> TopicSummaries:
        return await self._ask(asker, lambda admin, hasty: _summaries(admin))

    async def records(self, asker: Asker | None, topic: str, wanted: RecordsWanted) -> RecordsFound:
        return await self._ask_with(asker, lambda clients: clients.records.find(clients.admins()[0], topic, wanted))

    async def record(self, asker: Asker | None, place: TopicPartition, offset: int) -> ConsumerRecord:
        return await self._ask_with(asker, lambda clients: clients.records.one(clients.admins()[0], place, offset))

    async def act(self, asker: Asker | None, carry_out: Callable[[Admin], Effect]) -> Effect:
        return await self._ask(asker, lambda admin, hasty: carry_out(admin))

    async def lags(self, node_id: int) -> list[GroupLag] | None:
        """Of the groups that this node coordinates, as they are now: what was true before is not told again.

        None: not known.
        """
        if self._looking is None and monotonic_s() >= self._lags_due_s:
            self._looking = asyncio.create_task(self._look(node_id))
        if self._looking is not None:
            await asyncio.wait([self._looking])
        return self._lags

    async def _look(self, node_id: int) -> None:
        self._lags = None
        try:
            loop = asyncio.get_running_loop()
            self._lags = await loop.run_in_executor(self._lag_thread, self._look_now, node_id)
        except RaftlogError as error:
            log.warning("cannot tell how far groups are behind: %s", error)
        finally:
            self._looking = None
            self._lags_due_s = monotonic_s() + HTTP_LAGS_AGAIN_S

    def _look_now(self, node_id: int) -> list[GroupLag]:
        if self._lag_reader is None:
            self._lag_reader = LagReader(str(self._node), HTTP_LAGS_S * 1000, _CLIENT_ID)
        return self._lag_reader.look(node_id)

    async def _ask(self, asker: Asker | None, ask: Callable[[Admin, Admin], T]) -> T:
        return await self._ask_with(asker, lambda clients: ask(*clients.admins()))

    async def _ask_with(self, asker: Asker | None, ask: Callable[[_Clients], T]) -> T:
        if self._waiting >= HTTP_QUESTIONS_WAITING_MAX:
            raise ThrottlingQuotaExceededError("too many questions wait here already")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._ask_now, asker, ask)
        finally:
            self._waiting -= 1

    def _ask_now(self, asker: Asker | None, ask: Callable[[_Clients], T]) -> T:
        with self._lock:
            clients = self._clients.setdefault(asker, _Clients(self._node, asker))
            self._clients.move_to_end(asker)
            clients.users += 1
        keep = True
        try:
            return ask(clients)
        except SaslAuthenticationFailedError:
            keep = False  # some node had not heard of a change of users: another client logs in anew
            raise
        finally:
            with self._lock:
                clients.users -= 1
                unused = self._unused(asker, keep)
            for each in unused:
                each.close()

    def _unused(self, asker: Asker | None, keep: bool) -> list[_Clients]:
        """Takes those out that are not kept, and those above the bound that nobody uses."""
        found = []
        if not keep and asker in self._clients and not self._clients[asker].users:
            found.append(self._clients.pop(asker))
        for each, clients in list(self._clients.items()):
            if len(self._clients) <= HTTP_ASKERS_MAX:
                break
            if not clients.users:
                found.append(self._clients.pop(each))
        return found

    def close(self) -> None:
        with self._lock:
            for clients in self._clients.values():
                clients.close()
        if self._lag_reader is not None:
            self._lag_reader.close()
        for threads in (self._threads, self._lag_thread):
            threads.shutdown(wait=False, cancel_futures=True)


def _summaries(admin: Admin) -> TopicSummaries:
    """Of what nodes tell each other: no leader is asked, whatever the number of partitions."""
    cluster = admin.describe_cluster()
    topics = summarize_topics(admin.describe_topics(), admin.describe_replicas())
    return TopicSummaries(confirmed=cluster.confirmed, topics=topics)


def _admin(node: str, timeout_s: float, user: Behalf | None) -> Admin:
    timeout_ms = timeout_s * 1000
    return Admin(node, request_timeout_ms=timeout_ms, bootstrap_timeout_ms=timeout_ms, client_id=_CLIENT_ID, user=user)
