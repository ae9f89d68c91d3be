"""Errors as sentences that say what to do next. Pure: errors in, text out."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from raftlog import errors

_ADVICE: dict[type[errors.RaftlogError], str] = {
    errors.NoBrokersAvailableError: (
        "is a node running there? Start one with `raftlog node start --id 1`, or name another address with --bootstrap"
    ),
    errors.UnknownTopicOrPartitionError: "`raftlog topic list` shows the topics, `raftlog topic create` makes one",
    errors.TopicAlreadyExistsError: "choose another name, or accept it as it is with --if-not-exists",
    errors.InvalidReplicationFactorError: "`raftlog cluster status` shows the nodes",
    errors.LeaderNotAvailableError: "`raftlog cluster status` shows what is missing",
    errors.NotControllerError: "`raftlog cluster status` shows what is missing",
    errors.NonEmptyGroupError: "`raftlog group describe` shows the members, which have to end first",
    errors.GroupIdNotFoundError: "`raftlog group list` shows the groups",
    errors.OffsetOutOfRangeError: "`raftlog topic describe` shows the offsets that can be read",
    errors.MessageTooLargeError: "the topic's max_record_bytes is the limit",
    errors.InvalidTimestampError: "the topic's message_timestamp_after_max_ms is the limit",
    errors.UnreadableRecordsError: (
        "`raftlog consume --partition` with --from at that offset reads on, `raftlog group reset-offsets` moves a group"
    ),
    errors.BrokerStorageError: "make room there, then do it again; `raftlog doctor` names the disks that are full",
    errors.NotEnoughReplicasError: "`raftlog topic describe` shows the in-sync replicas",
    errors.RequestTimedOutError: "`raftlog cluster status` shows whether the cluster is healthy",
    errors.DeliveryTimeoutError: "`raftlog cluster status` shows whether the cluster is healthy",
}


def explain_raftlog_error(error: errors.RaftlogError) -> str:
    text = str(error) or type(error).__name__
    if not isinstance(error, errors.LocalError) and error.code.name not in text and error.code.value > 0:
        text = f"{text} ({error.code.name})"
    advice = next((_ADVICE[cls] for cls in type(error).__mro__ if cls in _ADVICE), None)
    return f"{text}; {advice}" if advice else text


def explain_os_error(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{reason}: {error.filename}" if error.filename else reason


def did_you_mean(name: str, names: Collection[str]) -> str:
    """To be put behind what says that there is no such name; empty where none is near."""
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def unknown_topic(name: str, names: Collection[str] = ()) -> errors.RaftlogError:
    """For commands that know the name: what helps, ready to be copied. `names`: the topics that there are."""
    from raftlog.config import check_topic_name  # not at `raftlog --help`, which would take twice as long

    try:
        check_topic_name(name, internal=True)
    except errors.InvalidTopicError as error:
        return error
    near = did_you_mean(name, names)
    return errors.RaftlogError(
        f"topic {name!r} does not exist{near or f'; create it with `raftlog topic create {name}`'}"
    )


def unknown_partition(topic: str, partition: int, partitions: int) -> errors.RaftlogError:
    return errors.RaftlogError(
        f"topic {topic!r} has {partitions} partition{'s' * (partitions > 1)}, numbered from 0; "
        f"there is no partition {partition}"
    )
