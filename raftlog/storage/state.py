"""`state`: what a replica must never forget, in two small copies beside the log.

    state.a, state.b =>
      Magic      8 bytes   b"RAFTLOGS"
      CRC        uint32    CRC-32C of all that follows
      Length     uint32    of the body
      Body       msgpack of State, field names as keys

Each copy is written whole: temporary file, fsync, rename, fsync of the directory; first a, then b, BEFORE
anything that depends on the change leaves this machine. Two full copies rather than alternating slots:
falling back to an older slot would forget a vote. Only the commit bound may be newer in one of them.

A `state` that knows of configurations has format 2, so that an older version, which would not follow them, refuses it.
Any other still has format 1.

`sequence` grows with each full write, so that after a crash between the two the newer one is known. It is
copied over the older one BEFORE the log is used: nothing may depend on what only one copy says.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import chain

import google_crc32c
import msgspec

from raftlog.errors import ConfigError, CorruptLogError
from raftlog.limits import DOUBT_REASON_CHARS_MAX
from raftlog.storage.disk import Disk
from raftlog.storage.fail_points import FailPoint, no_fail_point
from raftlog.types import Doubt, Half

FORMAT_VERSION = 2
_WITHOUT_CONFIGURATIONS = 1

_MAGIC = b"RAFTLOGS"
_PREFIX = struct.Struct(">8sII")
_COPIES = ("a", "b")


class EpochStart(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An entry without a batch: Raft index `index` of epoch `term`, in front of the records from `base_offset` on.

    The no-op that begins an epoch, or, with `halves`, a configuration: who votes from there on. That begins no epoch.
    """

    term: int
    index: int
    base_offset: int  # -1 on a witness
    halves: tuple[Half, ...] = ()


class CleanMark(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Below `offset` each key stood once at `at_ms` of this replica's clock, some of them with a tombstone."""

    offset: int
    at_ms: int


class Swap(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The rewritten segment that stands for those with base offsets in [base_offset, end_offset)."""

    base_offset: int
    first_index: int
    end_offset: int
    size_bytes: int


class State(msgspec.Struct, kw_only=True):
    topic_id: bytes
    format_version: int = _WITHOUT_CONFIGURATIONS
    sequence: int = 0
    generation: int = 1
    term: int = 0
    voted_for: int = -1  # -1: nobody
    doubt: int = 0
    doubt_reason: str = ""
    commit_bound: int = 1  # Raft index
    log_start_offset: int = 0
    horizon_index: int = 2
    horizon_prev_term: int = 0
    horizon_offset: int = 0  # base offset of the first record at or after the horizon
    epoch_starts: list[EpochStart] = []  # and configurations, from the horizon on
    truncations: int = 0  # of the tail, whatever the reason: a conflict with the leader is no damage
    last_index: int = 1  # of a witness; where records are kept, they say where the log ends
    corruptions: int = 0  # how often damage was found here, whatever became of it
    damaged_index: int = 0  # Raft index of the batch at which the next start cuts; 0: none
    clean_offset: int = 0  # in front of it compaction has left each key once
    clean_marks: list[CleanMark] = []  # with tombstones that are still kept, oldest first
    purged_index: int = 0  # up to this Raft index tombstones may be gone from this log
    swap: Swap | None = None  # a rewritten segment whose place others may still hold
    cuts: int = 0  # how often a start cut a damaged tail
    horizon_configuration: EpochStart | None = None  # the newest one in front of the horizon; None: as it was founded
    remembered: Half = Half(())  # members of configurations that starts have cut, until the doubt ends


class _Version(msgspec.Struct):
    format_version: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(State).decode
_decode_version = msgspec.msgpack.Decoder(_Version).decode


def encode_state(state: State) -> bytes:
    configured = any(start.halves for start in state.epoch_starts) or state.horizon_configuration is not None
    state.format_version = FORMAT_VERSION if configured or state.remembered.ids else _WITHOUT_CONFIGURATIONS
    body = _encode(state)
    return _PREFIX.pack(_MAGIC, google_crc32c.value(body), len(body)) + body


def decode_state(data: bytes) -> State | None:
    """None: not what was written. Raises ConfigError for an intact copy of a newer format."""
    if len(data) < _PREFIX.size:
        return None
    magic, crc, length = _PREFIX.unpack_from(data)
    body = data[_PREFIX.size :]
    if magic != _MAGIC or length != len(body) or google_crc32c.value(body) != crc:
        return None
    try:
        version = _decode_version(body).format_version
        if version > FORMAT_VERSION:
            raise ConfigError(f"format {version} on disk is newer than this raftlog, which knows {FORMAT_VERSION}")
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def add_reason(reason: str, more: str) -> str:
    """Both reasons, once each, the older first, bounded."""
    if not reason or more in reason:
        return reason or more
    return f"{reason}; {more}"[:DOUBT_REASON_CHARS_MAX]


_SEVERITY = (Doubt.NONE, Doubt.CUT_TAIL, Doubt.CORRUPT, Doubt.SHORT, Doubt.LOST_DISK, Doubt.LOST_STATE)


def worse_doubt(one: Doubt, other: Doubt) -> Doubt:
    """Being short or lost weighs on how a vote counts, so it is not hidden behind corruption."""
    return max(one, other, key=_SEVERITY.index)


def raise_doubt(state: State, doubt: Doubt) -> None:
    """A doubt that begins remembers nobody of an earlier one."""
    if state.doubt == Doubt.NONE:
        state.remembered = Half(())
    state.doubt = int(worse_doubt(Doubt(state.doubt), doubt))


def remember(state: State, cut: Iterable[EpochStart]) -> None:
    """Whom the configurations among the entries that are `cut` name: they may hold what was acknowledged with them."""
    known = state.remembered
    halves = [half for start in cut for half in start.halves]
    replicas = dict.fromkeys(chain(known.replicas, *(half.replicas for half in halves)))
    witnesses = dict.fromkeys(chain(known.witnesses, *(half.witnesses for half in halves)))
    state.remembered = Half(tuple(replicas), tuple(witnesses))


def note_damage(state: State, index: int, reason: str) -> None:
    """`state` as it has to be written BEFORE the damage at Raft index `index` may be cut."""
    raise_doubt(state, Doubt.CORRUPT)
    state.doubt_reason = add_reason(state.doubt_reason, reason)
    state.damaged_index = min(index, state.damaged_index or index)
    state.corruptions += 1


class StateFile:
    """The two copies of one directory."""

    def __init__(self, disk: Disk, directory: str, fail_point: FailPoint = no_fail_point) -> None:
        self._disk = disk
        self._directory = directory
        self._fail_point = fail_point
        self._sequence = 0
        self.is_uneven = False  # one copy may say what the other does not

    def load(self) -> State | None:
        """The newest intact copy, repaired in both; None when neither exists.

        Raises CorruptLogError when copies exist and none is intact: a term and a vote are not guessed.
        """
        found: list[State] = []
        present = 0
        for copy in _COPIES:
            path = f"{self._directory}/state.{copy}"
            if self._disk.exists(path):
                present += 1
                state = decode_state(self._disk.read_whole(path))
                if state is not None:
                    found.append(state)
        if not present:
            return None
        if not found:
            raise CorruptLogError(f"no copy of the state in {self._directory} is intact: its term and vote are unknown")
        newest = max(found, key=lambda state: state.sequence)
        newest.commit_bound = max(state.commit_bound for state in found)
        self._sequence = newest.sequence
        if len(found) < len(_COPIES) or found[0].sequence != found[1].sequence:
            self.write(newest)
        return newest

    def write(self, state: State) -> None:
        """Both copies, a BEFORE b. Durable when this returns. DiskFullError leaves at least one copy whole."""
        self._sequence += 1
        state.sequence = self._sequence
        data = encode_state(state)
        for copy in _COPIES:
            self._write_copy(copy, data)
        self.is_uneven = False

    def write_commit_bound(self, state: State) -> None:
        """One copy: losing this write only means an older bound. The rest of `state` must be durable already."""
        assert state.sequence == self._sequence
        uneven = self.is_uneven
        self._write_copy(_COPIES[0], encode_state(state))
        self.is_uneven = uneven  # a bound is all that it has more

    def _write_copy(self, copy: str, data: bytes) -> None:
        path = f"{self._directory}/state.{copy}"
        temporary = f"{path}.tmp"
        file = self._disk.open(temporary, create=True)
        try:
            file.truncate(0)
            file.append(data)
            self._fail_point(f"state.{copy}.written")
            file.sync()  # the bytes BEFORE the name that says they are there
        finally:
            file.close()
        self._fail_point(f"state.{copy}.synced")
        self.is_uneven = True
        self._disk.rename(temporary, path)
        self._fail_point(f"state.{copy}.renamed")
        self._disk.sync_dir(self._directory)
        self._fail_point(f"state.{copy}.durable")
