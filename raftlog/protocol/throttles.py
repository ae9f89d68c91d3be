"""Who is held back by a quota, and for how long. No sockets, no clock: sessions, bytes and a time in.

Each owner of a quota has a bucket that drains at the quota's rate and holds what drains in QUOTA_BURST_S:

    bytes of a session -> its owner's bucket -> above the brim? the session is held back until it is below

What is above the brim passes all the same, as in Kafka: its sender is told, and nothing more is taken from it for so
long (KIP-13, KIP-219). So an owner gets its rate, and no request is refused.
"""

from __future__ import annotations

import functools
import hashlib
import mmap
import struct
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

from raftlog.limits import CLIENT_NAMES_MAX, QUOTA_BUCKETS_MAX, QUOTA_BURST_S, THROTTLE_MAX_S
from raftlog.protocol.session import Session
from raftlog.security.acls import USER as USER_PREFIX
from raftlog.security.quotas import NO_QUOTAS, Entity, Quota, QuotaTable

_USER = f"{USER_PREFIX}:"
OTHERS = "others"


_BUCKET = struct.Struct("<Qdd")  # its owner, as a number; bytes in it, at this time (monotonic)
_SET = struct.Struct("<" + 8 * "Qdd")  # an owner's bucket is one of eight
BUCKETS_BYTES = QUOTA_BUCKETS_MAX * _BUCKET.size


Locked = Callable[[int], AbstractContextManager[object]]
"""locked(place): nobody else writes at this place of the memory meanwhile."""


class _Buckets:
    """Of the owners that were seen last: clients choose their names. Processes may share the memory."""

    def __init__(self, memory: bytearray | mmap.mmap, locked: Locked) -> None:
        self._memory = memory
        self._locked = locked

    def fill(self, owner: tuple[str, Entity], size_bytes: int, rate: float, now_s: float) -> float:
        """How many seconds it takes until the owner's bucket is not above its brim."""
        number = _number(owner)
        first = number % (BUCKETS_BYTES // _SET.size) * _SET.size
        with self._locked(first):
            at, filled_bytes = self._find(number, first, rate, now_s)
            _BUCKET.pack_into(self._memory, at, number, filled_bytes + size_bytes, now_s)
        return max(0.0, (filled_bytes + size_bytes) / rate - QUOTA_BURST_S)

    def _find(self, number: int, first: int, rate: float, now_s: float) -> tuple[int, float]:
        """Where the owner's bucket is, and what is in it now; the one that was seen longest ago where it has none."""
        found = _SET.unpack_from(self._memory, first)
        owners, seen_s = found[0::3], found[2::3]
        if number not in owners:
            return first + seen_s.index(min(seen_s)) * _BUCKET.size, 0.0
        place = owners.index(number)
        filled_bytes: float = found[3 * place + 1] - max(0.0, now_s - seen_s[place]) * rate
        return first + place * _BUCKET.size, max(0.0, filled_bytes)


@functools.lru_cache(1_000)
def _number(owner: tuple[str, Entity]) -> int:
    """The same in each process."""
    return int.from_bytes(hashlib.blake2b(repr(owner).encode(), digest_size=8).digest(), "little")


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

    def __init__(self, memory: bytearray | mmap.mmap | None = None, locked: Locked = nullcontext) -> None:
        """`memory`: BUCKETS_BYTES, which other doors may use as well; None: its own."""
        self._table: QuotaTable = NO_QUOTAS
        self._quotas: tuple[Quota, ...] = ()
        self._buckets = _Buckets(bytearray(BUCKETS_BYTES) if memory is None else memory, locked)
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
        seconds = min(self._buckets.fill((key, owner), size_bytes, rate, now_s), THROTTLE_MAX_S)
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
