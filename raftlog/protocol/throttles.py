"""Who is held back by a quota, and for how long. No sockets, no clock: sessions, bytes and a time in.

Each owner of a quota has a bucket that drains at the quota's rate and holds what drains in QUOTA_BURST_S:

    bytes of a session -> its owner's bucket -> above the brim? the session is held back until it is below

What is above the brim passes all the same, as in Kafka: its sender is told, and nothing more is taken from it for so
long (KIP-13, KIP-219). So an owner gets its rate, and no request is refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from raftlog.limits import CLIENT_NAMES_MAX, QUOTA_BUCKETS_MAX, QUOTA_BURST_S, THROTTLE_MAX_S
from raftlog.protocol.session import Session
from raftlog.security.acls import USER as USER_PREFIX
from raftlog.security.quotas import NO_QUOTAS, Entity, Quota, QuotaTable

_USER = f"{USER_PREFIX}:"
OTHERS = "others"


class _Bucket:
    __slots__ = ("filled_bytes", "seen_s")

    def __init__(self, now_s: float) -> None:
        self.filled_bytes = 0.0
        self.seen_s = now_s

    def fill(self, size_bytes: int, rate: float, now_s: float) -> float:
        """How many seconds it takes until it is not above its brim."""
        drained = max(0.0, now_s - self.seen_s) * rate
        self.filled_bytes = max(0.0, self.filled_bytes - drained) + size_bytes
        self.seen_s = now_s
        return max(0.0, self.filled_bytes / rate - QUOTA_BURST_S)


class HeldBack:
    """Of clients with one user and client id, since the process began: how often, and how long in all."""

    __slots__ = ("seconds", "times")

    def __init__(self) -> None:
        self.times = 0
        self.seconds = 0.0


class Throttles:
    """Of one door. False while there is no quota: then nobody has to ask it anything.

    `held_back`: by (user, client id); clients choose their names, so all beyond CLIENT_NAMES_MAX of them are OTHERS.
    """

    def __init__(self) -> None:
        self._table: QuotaTable = NO_QUOTAS
        self._quotas: tuple[Quota, ...] = ()
        self._buckets: OrderedDict[tuple[str, Entity], _Bucket] = OrderedDict()
        self.held_back: dict[tuple[str, str], HeldBack] = {}

    def __bool__(self) -> bool:
        return bool(self._table)

    def learn(self, quotas: Iterable[Quota]) -> None:
        """These count from now on. What somebody has used stays used."""
        found = tuple(quotas)
        if found != self._quotas:
            self._quotas = found
            self._table = QuotaTable(found)

    def burst_bytes(self, session: Session, key: str) -> int | None:
        """What fits into its empty bucket; None: no quota counts for it. An answer that is larger holds it back."""
        found = self._find(session, key)
        return None if found is None else max(1, int(found[0] * QUOTA_BURST_S))

    def charge(self, session: Session, key: str, size_bytes: int, now_s: float) -> bool:
        """Counts what a session has sent or is to be given; True: it is held back now, until `session.held_until_s`."""
        found = self._find(session, key)
        if found is None:
            return False
        rate, owner = found
        bucket = self._bucket((key, owner), now_s)
        seconds = min(bucket.fill(size_bytes, rate, now_s), THROTTLE_MAX_S)
        if not seconds:
            return False
        if session.held_until_s <= now_s:
            session.held_since_s = now_s
        before_s = max(session.held_until_s, now_s)
        session.held_until_s = max(before_s, now_s + seconds)
        self._count(session, session.held_until_s - before_s)
        return True

    def _find(self, session: Session, key: str) -> tuple[float, Entity] | None:
        if not session.principal.startswith(_USER):
            return None  # a node
        return self._table.find(key, session.principal[len(_USER) :], session.client_id)

    def _bucket(self, owner: tuple[str, Entity], now_s: float) -> _Bucket:
        """Of the owners that were seen last: clients choose their names."""
        bucket = self._buckets.get(owner)
        if bucket is None:
            bucket = self._buckets[owner] = _Bucket(now_s)
            if len(self._buckets) > QUOTA_BUCKETS_MAX:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(owner)
        return bucket

    def _count(self, session: Session, seconds: float) -> None:
        name = session.principal.removeprefix(_USER), session.client_id
        if name not in self.held_back and len(self.held_back) >= CLIENT_NAMES_MAX:
            name = OTHERS, OTHERS
        counted = self.held_back.get(name)
        if counted is None:
            counted = self.held_back[name] = HeldBack()
        counted.times += 1
        counted.seconds += seconds


def held_ms(session: Session, now_s: float) -> int:
    """How long it is held back still, rounded up; 0: it is not."""
    return max(0, -int((now_s - session.held_until_s) * 1000 // 1))
