"""Bringing a replica's directory into a state that a log can go on from.

The order that matters: what recovery found is told in `state`, synced, BEFORE a byte is cut. A crash
in between finds the doubt at the next start, whatever became of the cut.
"""

from __future__ import annotations

from collections.abc import Iterable

from raftlog.errors import InconsistentTopicIdError
from raftlog.storage.compaction import CLEANED
from raftlog.storage.disk import Disk
from raftlog.storage.epochs import Epochs
from raftlog.storage.fail_points import FailPoint
from raftlog.storage.index import OffsetIndex
from raftlog.storage.recovery import Findings, entries_for, examine
from raftlog.storage.segment import Segment, SegmentName, parse_segment_name
from raftlog.storage.state import CleanMark, State, StateFile, add_reason, raise_doubt, remember
from raftlog.types import NO_VOTERS, Doubt, Half

_GENERATION = "log."


def generation_directory(directory: str, generation: int) -> str:
    return f"{directory}/{_GENERATION}{generation}"


def generations(disk: Disk, directory: str) -> list[int]:
    """Those that have a directory, sorted."""
    names = [name.removeprefix(_GENERATION) for name in disk.list(directory) if name.startswith(_GENERATION)]
    return sorted(int(name) for name in names if name.isdigit())


def remove_generations_but(disk: Disk, directory: str, state: State) -> None:
    """What a reset left. The segments of a replica that lost its state are all that an operator may
    have to go on, so they stay as long as that doubt does."""
    if state.doubt == Doubt.LOST_STATE:
        return
    old = [generation for generation in generations(disk, directory) if generation != state.generation]
    for generation in old:
        disk.remove_tree(generation_directory(directory, generation))
    if old:
        disk.sync_dir(directory)


def load_state(
    disk: Disk, directory: str, topic_id: bytes, existed: Doubt, file: StateFile, remembered: Half = NO_VOTERS
) -> State:
    """The state of this replica; made, with what is doubtful about that, when there is none. Durable.

    `remembered`: with whom a replica without `state` may have acknowledged.

    Raises InconsistentTopicIdError, CorruptLogError (no copy intact), ConfigError (a newer format).
    """
    disk.make_dir(directory)
    state = file.load()
    if state is not None:
        if state.topic_id != topic_id:
            raise InconsistentTopicIdError(f"{directory} holds topic id {state.topic_id.hex()}, not {topic_id.hex()}")
        return state
    state = State(topic_id=topic_id, doubt=int(existed))
    if existed != Doubt.NONE:
        state.corruptions = 1
        state.doubt_reason = "the replica's directory was empty, though the replica had existed"
    old = generations(disk, directory)
    if old:
        # A generation is made after `state`, so this replica had one. Without epoch starts the Raft indexes
        # of its batches cannot be known: the log begins anew, in a generation of its own.
        state.generation = old[-1] + 1
        state.doubt = int(Doubt.LOST_STATE)
        state.corruptions = 1
        state.doubt_reason = f"both copies of the state are gone; its segments stay in log.{old[-1]}"
    if state.doubt != Doubt.NONE:
        state.remembered = remembered
    file.write(state)
    return state


def open_generation(
    disk: Disk, directory: str, state: State, file: StateFile, index: OffsetIndex, now_ms: int, fail_point: FailPoint
) -> Findings:
    """Examines the generation that `state` names, and cuts what is no log, doubt BEFORE the cut."""
    log_directory = generation_directory(directory, state.generation)
    disk.make_dir(log_directory)
    finish_swap(disk, log_directory, state, file, index)
    findings = examine(disk, log_directory, state, index, now_ms)
    if findings.doubt != Doubt.NONE:
        before = state.doubt
        raise_doubt(state, findings.doubt)
        remember(state, findings.dropped_epochs)  # with the doubt BEFORE the cut: a tail takes no configuration back
        if state.doubt != before and findings.doubt != Doubt.CUT_TAIL and not state.damaged_index:
            state.corruptions += 1  # a torn tail is what any power failure leaves; the rest is damage
        for reason in findings.reasons:
            state.doubt_reason = add_reason(state.doubt_reason, reason)
        if findings.cut or findings.dropped_epochs:
            state.truncations += 1
            state.cuts += 1
        dropped = set(findings.dropped_epochs)
        state.epoch_starts = [start for start in state.epoch_starts if start not in dropped]
        state.log_start_offset = min(state.log_start_offset, findings.end_offset)
        _limit_clean(state, findings.end_offset)
        file.write(state)
        fail_point("open.doubt-durable")
    # Index BEFORE segments, or it would speak of bytes that are gone.
    index.truncate(findings.end_offset)
    _cut(disk, log_directory, findings, fail_point)
    if state.damaged_index:
        # The cut BEFORE the note of where to cut goes: without it the next start would trust what the index knew.
        state.damaged_index = 0
        file.write(state)
    remove_generations_but(disk, directory, state)
    return findings


def _limit_clean(state: State, end_offset: int) -> None:
    """What is behind a cut comes again as it was written."""
    state.clean_offset = min(state.clean_offset, end_offset)
    state.clean_marks = [CleanMark(min(mark.offset, end_offset), mark.at_ms) for mark in state.clean_marks]


def finish_swap(disk: Disk, log_directory: str, state: State, file: StateFile, index: OffsetIndex) -> None:
    """What a compaction had begun when the process ended: done as a whole once `state` names it, else not at all."""
    listed = disk.list(log_directory)
    cleaned = [name for name in listed if name.endswith(CLEANED)]
    names = [name for name in map(parse_segment_name, listed) if name is not None]
    swap = state.swap
    if swap is not None:
        name = str(SegmentName(swap.base_offset, swap.first_index))
        path = f"{log_directory}/{name}"
        if name + CLEANED in cleaned and _size(disk, path + CLEANED) == swap.size_bytes:
            disk.rename(path + CLEANED, path)
            cleaned.remove(name + CLEANED)
        if disk.exists(path) and _size(disk, path) == swap.size_bytes:
            others = [each for each in names if swap.base_offset < each.base_offset < swap.end_offset]
            put_in_place(disk, log_directory, [f"{log_directory}/{each}" for each in others])
            segment = Segment(disk, log_directory, SegmentName(swap.base_offset, swap.first_index), swap.size_bytes, 0)
            index.replace(swap.base_offset, swap.end_offset, entries_for(segment, Epochs(state)))
            segment.close()
    for name in cleaned:
        disk.remove(f"{log_directory}/{name}")
    if swap is not None:
        # In place BEFORE it is forgotten, and forgotten BEFORE another file may get its name.
        disk.sync_dir(log_directory)
        state.swap = None
        file.write(state)


def put_in_place(disk: Disk, log_directory: str, others: Iterable[str]) -> None:
    """A rewritten segment has its name: the `others` that it also stands for go. Durable when this returns."""
    for path in others:
        disk.remove(path)
    disk.sync_dir(log_directory)


def _size(disk: Disk, path: str) -> int:
    file = disk.open(path)
    try:
        return file.size()
    finally:
        file.close()


def _cut(disk: Disk, log_directory: str, findings: Findings, fail_point: FailPoint) -> None:
    """Newest first, so that what a crash leaves has no hole."""
    for segment in (*reversed(findings.removed), *findings.below_head):
        segment.close()
        disk.remove(segment.path)
    if findings.removed or findings.below_head:
        disk.sync_dir(log_directory)
        fail_point("open.segments-removed")
    if findings.cut is None:
        return
    segment, size = findings.cut
    if size == 0:
        segment.close()
        disk.remove(segment.path)
        disk.sync_dir(log_directory)
    else:
        segment.file.truncate(size)
        segment.file.sync()
        segment.size = size
    fail_point("open.tail-cut")
