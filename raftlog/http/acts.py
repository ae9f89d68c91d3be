"""What can be changed over HTTP: each act first as a preview, and what destroys only by its name typed once more.

Blocking, for any thread. An Admin carries it out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from raftlog import Admin, NewTopic
from raftlog.config import change_topic_config, config_for_people
from raftlog.errors import InvalidRequestError, NonEmptyGroupError, ResourceNotFoundError, UnknownTopicOrPartitionError
from raftlog.protocol.cluster import TopicMetadata
from raftlog.protocol.records import HIGH_WATERMARK
from raftlog.security.acls import AclFilter
from raftlog.security.scram import Mechanism
from raftlog.types import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, TopicConfig, TopicPartition
from raftlog.view.access import RuleView, parse_rule, user_list
from raftlog.view.resets import Target, plan_reset
from raftlog.view.summaries import summarize_topics


class Act(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every act of the console carries.

    `preview`: only what would become of it. `confirm`: the name of what it destroys, typed by a person.
    """

    preview: bool = True
    confirm: str = ""


class CreateTopic(Act, frozen=True, kw_only=True):
    """-1: the cluster's default."""

    topic: str
    partitions: int = -1
    replication_factor: int = -1
    config: dict[str, str] = {}


class AlterTopic(Act, frozen=True, kw_only=True):
    """The act that changes settings of a topic, or adds partitions to it.

    `config` None: back to the default. `partitions`: how many in all.
    """

    topic: str
    config: dict[str, str | None] = {}
    partitions: int | None = None


class DeleteTopic(Act, frozen=True, kw_only=True):
    topic: str


class DeleteRecords(Act, frozen=True, kw_only=True):
    """Of one partition, all below `before`; -1: all that there are."""

    topic: str
    partition: int
    before: int


class ResetOffsets(Act, frozen=True, kw_only=True):
    group: str
    topic: str
    to: Target


class DeleteGroup(Act, frozen=True, kw_only=True):
    group: str


class SetPassword(Act, frozen=True, kw_only=True):
    """Of a user, who is made where there is none of this name."""

    user: str
    password: str


class DeleteUser(Act, frozen=True, kw_only=True):
    user: str


class AddRule(Act, frozen=True, kw_only=True):
    rule: RuleView


class RemoveRule(Act, frozen=True, kw_only=True):
    rule: RuleView


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """None: there is nothing."""

    what: str
    before: int | str | None
    after: int | str | None


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What an act has done, or would do: in sentences, and one by one."""

    done: bool
    says: list[str]
    changes: list[Change]


def create_topic(admin: Admin, act: CreateTopic) -> Effect:
    wanted = NewTopic(
        name=act.topic, partitions=act.partitions, replication_factor=act.replication_factor, config=act.config
    )
    (made,) = admin.create_topics([wanted], validate_only=act.preview)
    says = [
        f"Topic {act.topic} with {made.partitions} partition{'s' * (made.partitions != 1)}, "
        f"replication factor {made.replication_factor}."
    ]
    changes = [Change(what=name, before=None, after=value) for name, value in act.config.items()]
    return Effect(done=not act.preview, says=says + [made.warning] * bool(made.warning), changes=changes)


def alter_topic(admin: Admin, act: AlterTopic) -> Effect:
    found = _topic(admin, act.topic)
    config = {name: value for name, value in act.config.items() if value is not None}
    reset = [name for name, value in act.config.items() if value is None]
    if not act.config and act.partitions is None:
        raise InvalidRequestError("nothing to change: name settings or partitions")
    before = TopicConfig(**found.config)  # type: ignore[arg-type]  # numbers, as they travel
    after = change_topic_config(before, config, reset)
    # Both are looked at BEFORE one of them is done.
    for validate_only in (True, False) if not act.preview else (True,):
        if act.config:
            admin.alter_topic(act.topic, config, reset=reset, validate_only=validate_only)
        if act.partitions is not None:
            admin.create_partitions(act.topic, act.partitions, validate_only=validate_only)
    old, new = _shown(before), _shown(after)
    changes = [Change(what=name, before=old[name], after=new[name]) for name in new if old[name] != new[name]]
    if act.partitions is not None:
        changes.append(Change(what="partitions", before=len(found.partitions), after=act.partitions))
    says = [f"Topic {act.topic}: {len(changes)} change{'s' * (len(changes) != 1)}."]
    if act.partitions is not None:
        says.append("Keys go to other partitions from then on. Partitions cannot be taken away again.")
    return Effect(done=not act.preview, says=says, changes=changes)


def delete_topic(admin: Admin, act: DeleteTopic) -> Effect:
    (summary,) = summarize_topics([_topic(admin, act.topic)], admin.describe_replicas([act.topic]))
    if not act.preview:
        _check_confirmed(act, act.topic)
        admin.delete_topics([act.topic])
    says = [
        f"Topic {act.topic} with all its records: about {summary.records} in {summary.partitions} "
        f"partition{'s' * (summary.partitions != 1)}, {summary.size_bytes} bytes on each replica.",
        "This cannot be undone.",
    ]
    return Effect(done=not act.preview, says=says, changes=[])


def delete_records(admin: Admin, act: DeleteRecords) -> Effect:
    place = TopicPartition(act.topic, act.partition)
    if act.partition not in [each.partition for each in _topic(admin, act.topic).partitions]:
        raise UnknownTopicOrPartitionError(f"topic {act.topic} has no partition {act.partition}")
    start = admin.list_offsets({place: EARLIEST_TIMESTAMP})[place]
    end = admin.list_offsets({place: LATEST_TIMESTAMP})[place]
    if act.before > end or act.before < HIGH_WATERMARK:
        raise InvalidRequestError(f"{place} ends at offset {end}: records below it can be deleted")
    after = max(start, end if act.before == HIGH_WATERMARK else act.before)
    if not act.preview:
        _check_confirmed(act, act.topic)
        after = admin.delete_records({place: after})[place]
    says = [f"{place} loses the offsets below {after}, {after - start} of them.", "This cannot be undone."]
    changes = [Change(what="log start offset", before=start, after=after)]
    return Effect(done=not act.preview, says=says, changes=changes)


def reset_offsets(admin: Admin, act: ResetOffsets) -> Effect:
    if act.to.given() != 1:
        raise InvalidRequestError("exactly one of beginning, end, offset, time_ms and shift_by says where to")
    if act.to.time_ms is not None and act.to.time_ms < 0:
        raise InvalidRequestError("time_ms is a time after 1970")
    members = len(admin.describe_group(act.group).members)
    if members:
        raise NonEmptyGroupError(f"group {act.group} has {members} member{'s' * (members != 1)}: stop them first")
    places = [TopicPartition(act.topic, each.partition) for each in _topic(admin, act.topic).partitions]
    plan = plan_reset(admin, act.group, sorted(places), act.to)
    if not plan.after:
        raise InvalidRequestError(f"group {act.group} has committed nothing of {act.topic} that could be shifted")
    if not act.preview:
        _check_confirmed(act, act.group)
        admin.set_group_offsets(act.group, plan.after)
    changes = [Change(what=str(place), before=plan.before.get(place), after=to) for place, to in plan.after.items()]
    ahead = sum(max(0, to - plan.before.get(place, to)) for place, to in plan.after.items())
    again = sum(max(0, plan.before.get(place, to) - to) for place, to in plan.after.items())
    says = [f"Group {act.group} reads {again} offsets of {act.topic} again, and skips {ahead}."]
    return Effect(done=not act.preview, says=says, changes=changes)


def delete_group(admin: Admin, act: DeleteGroup) -> Effect:
    members = len(admin.describe_group(act.group).members)
    if members:
        raise NonEmptyGroupError(f"group {act.group} has {members} member{'s' * (members != 1)}: stop them first")
    offsets = admin.group_offsets(act.group)
    if not act.preview:
        _check_confirmed(act, act.group)
        admin.delete_group(act.group)
    says = [f"Group {act.group} and all that it has committed. Records stay where they are.", "This cannot be undone."]
    changes = [Change(what=str(place), before=offset, after=None) for place, offset in sorted(offsets.items())]
    return Effect(done=not act.preview, says=says, changes=changes)


def set_password(admin: Admin, act: SetPassword) -> Effect:
    from raftlog.security.passwords import check_user, make_credential  # few ever do this

    if not act.password:
        raise InvalidRequestError("give a password")
    check_user(act.user)
    make_credential(Mechanism.SCRAM_SHA_256, act.password)
    users = [each.user for each in user_list(admin).users]
    says = [f"User {act.user} gets another password. Its sessions end within seconds."]
    if act.user not in users:
        says = [f"User {act.user}, who logs in with this password.", *_closing(admin, users, "user", "has to log in")]
    if not act.preview:
        admin.create_user(act.user, act.password)
    return Effect(done=not act.preview, says=says, changes=[])


def delete_user(admin: Admin, act: DeleteUser) -> Effect:
    if act.user not in [each.user for each in user_list(admin).users]:
        raise ResourceNotFoundError(f"there is no user {act.user}")
    if not act.preview:
        _check_confirmed(act, act.user)
        admin.delete_user(act.user)
    says = [f"User {act.user}. Its sessions end within seconds; rules about it stay.", "This cannot be undone."]
    return Effect(done=not act.preview, says=says, changes=[])


def add_rule(admin: Admin, act: AddRule) -> Effect:
    acl, known = parse_rule(act.rule), admin.list_acls()
    says = [act.rule.sentence()]
    if acl in known:
        says.append("This rule is there already.")
    says += _closing(admin, known, "rule", "may do only what a rule allows")
    if not act.preview:
        admin.create_acls([acl])
    return Effect(done=not act.preview, says=says, changes=[])


def remove_rule(admin: Admin, act: RemoveRule) -> Effect:
    acl = parse_rule(act.rule)
    if acl not in admin.list_acls():
        raise ResourceNotFoundError("there is no such rule")
    if not act.preview:
        _check_confirmed(act, act.rule.principal)
        admin.delete_acls([AclFilter(**msgspec.structs.asdict(acl))])
    return Effect(done=not act.preview, says=[f"No longer: {act.rule.sentence()}"], changes=[])


def _closing(admin: Admin, known: Sequence[object], what: str, then: str) -> list[str]:
    """What the first user, or the first rule, means to all others."""
    if known or (admin.list_acls() if what == "user" else admin.list_users()):
        return []
    return [f"It is the first {what}: unless the nodes say --authorization off, everybody {then} from then on."]


_ACTS: dict[str, tuple[type[Act], Callable[[Admin, Any], Effect]]] = {
    "create-topic": (CreateTopic, create_topic),
    "alter-topic": (AlterTopic, alter_topic),
    "delete-topic": (DeleteTopic, delete_topic),
    "delete-records": (DeleteRecords, delete_records),
    "reset-offsets": (ResetOffsets, reset_offsets),
    "delete-group": (DeleteGroup, delete_group),
    "set-password": (SetPassword, set_password),
    "delete-user": (DeleteUser, delete_user),
    "add-rule": (AddRule, add_rule),
    "remove-rule": (RemoveRule, remove_rule),
}


def parse_act(name: str, body: bytes) -> Callable[[Admin], Effect]:
    """What carries it out. Raises InvalidRequestError."""
    if name not in _ACTS:
        raise InvalidRequestError(f"acts are {', '.join(_ACTS)}")
    kind, carry_out = _ACTS[name]
    try:
        act = msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise InvalidRequestError(f"{error}".replace("$.", "")) from None
    return lambda admin: carry_out(admin, act)


def _check_confirmed(act: Act, name: str) -> None:
    if act.confirm != name:
        raise InvalidRequestError(f"this is done once `confirm` is {name}")


def _topic(admin: Admin, name: str) -> TopicMetadata:
    (found,) = admin.describe_topics([name])
    return found


def _shown(config: TopicConfig) -> dict[str, int | str]:
    return config_for_people(msgspec.structs.asdict(config))
