"""What the members of one Raft group say to each other. No sockets, no pickle.

Frames: `[header, payload]`. Each header names topic id + partition, the sender, and both boot ids: a
message for another boot of the addressee is dropped, since ZeroMQ may hand what was queued for a
dead process to its successor (consensus.md, "The Transport over pyzmq").

    AppendEntries payload: record batches back to back, in index order, as they stand in a segment.
    An index listed in `epoch_starts` is a no-op, or a configuration, and has no bytes; every other index in
    [prev_index + 1, prev_index + 1 + entries) is one batch.
    To a witness the payload is left out: prev_term and the epoch starts say the term of each entry.
"""

from __future__ import annotations

import msgspec

from raftlog.types import Doubt, Half


class _RaftMessage(msgspec.Struct, array_like=True, tag=True, gc=False):
    topic_id: bytes
    partition: int
    sender_id: int
    sender_boot_id: int
    addressee_boot_id: int
    term: int  # the sender's current term, in every message


class PreVoteRequest(_RaftMessage, tag="rPV"):
    """G11. `asked_term` is the term that the sender would stand in; 0 only asks for the other's term, and wakes it."""

    asked_term: int
    last_index: int
    last_term: int


class PreVoteResponse(_RaftMessage, tag="rPVR"):
    """As a VoteResponse, for the term that was asked for."""

    asked_term: int
    granted: bool
    doubt: Doubt
    bound: int
    named: tuple[int, ...] = ()


class VoteRequest(_RaftMessage, tag="rV"):
    last_index: int
    last_term: int
    transfer: bool  # the current leader asked for it: stickiness does not hold


class VoteResponse(_RaftMessage, tag="rVR"):
    """G7. doubt and commit bound (a Raft index) decide how the vote counts.

    `named` are the node ids of the voter's newest configuration and those that it remembers: an election by the votes
    of all needs theirs too.
    """

    granted: bool
    doubt: Doubt
    bound: int
    named: tuple[int, ...] = ()


class AppendEntries(_RaftMessage, tag="rA"):
    """Entries of the leader's log, or none: a heartbeat.

    `sequence` grows per link and leader boot (G3); `commit_index` is capped by the receiver (G2).
    """

    sequence: int
    prev_index: int
    prev_term: int
    commit_index: int
    entries: int  # how many indexes follow prev_index
    epoch_starts: list[tuple[int, int]]  # (index, term) of the no-ops and configurations among them
    log_start_offset: int  # what retention has reached on the leader
    last_index: int  # the leader's log end, for the end of doubt
    all_votes_index: int  # the leader's no-op when it was elected by the votes of all replicas, else 0
    held_index: int = 0  # every replica with records holds the log up to here, durably
    purged_index: int = 0  # tombstones up to here may be gone from the leader's log
    configurations: list[tuple[int, tuple[Half, ...]]] = []  # who votes from that index on
    learner: bool = False  # the addressee is a voter of no committed configuration, nor of the newest one


class AppendResponse(_RaftMessage, tag="rAR"):
    """success: everything up to match_index equals the leader's log and is durable here.

    Otherwise hint_index is where the leader should try next (the start of the conflicting term, or
    one past this replica's end). `damaged`: the entries [hint_index, match_index] did not arrive as they were
    written; the leader looks whether they are whole on its own disk.
    """

    sequence: int
    success: bool
    match_index: int
    hint_index: int
    doubt: Doubt
    damaged: bool = False
    log_start_offset: int = 0  # where retention has got to here; the leader's must not be lower


class ResetRequest(_RaftMessage, tag="rR"):
    """The follower is behind the horizon: start over at (horizon_index - 1, prev_term).

    base_offset is the offset of the first record at or after the horizon; `configuration` is the newest one in front of
    it, (term, index, base offset, halves), None: the group is as it was founded. The payload is a snapshot of what the
    leader knew of producers there (storage/snapshots.py), never of what came later.
    """

    sequence: int
    horizon_index: int
    prev_term: int
    base_offset: int
    configuration: tuple[int, int, int, tuple[Half, ...]] | None = None


class TimeoutNow(_RaftMessage, tag="rT"):
    """Leadership transfer: stand for election at once."""


class SleepRequest(_RaftMessage, tag="rS"):
    """Nothing happens in the group: may its leader stop its heartbeats (consensus/hibernation.py)?

    Whoever agrees holds the log up to its last entry, knows the same newest configuration (0: none since the founding)
    and the same processes, (node id, boot id) of each voter. A node of a release that does not know this message drops
    it, as it drops all that makes no sense to it: its groups stay awake.
    """

    sequence: int
    last_index: int
    last_term: int
    configuration_index: int
    boots: list[tuple[int, int]]


class SleepResponse(_RaftMessage, tag="rSR"):
    """The answer. With `agreed` the sender has stopped its election timer."""

    sequence: int
    agreed: bool


RaftMessage = (
    PreVoteRequest
    | PreVoteResponse
    | VoteRequest
    | VoteResponse
    | AppendEntries
    | AppendResponse
    | ResetRequest
    | TimeoutNow
    | SleepRequest
    | SleepResponse
)
