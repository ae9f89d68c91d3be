"""JoinGroup to LeaveGroup, and the tools of groups: Kafka's classic protocol is raftlog's own, message for message.

What versions add is told here: ids in two rounds from JoinGroup 4 on, static members from 5 on, several members that
leave at once from LeaveGroup 3 on.
"""

from __future__ import annotations

from typing import Any

from raftlog.errors import ErrorCode
from raftlog.kafka.calls import Call, Fields, Leader, together
from raftlog.kafka.handlers.coordinators import Words, ask_coordinator, ask_coordinators
from raftlog.kafka.handlers.metadata import NOT_ASKED
from raftlog.kafka.wire import field
from raftlog.limits import GROUP_NAME_MAX_BYTES, KAFKA_COORDINATOR_S, REBALANCE_TIMEOUT_MAX_MS
from raftlog.protocol import apis
from raftlog.protocol import groups as g
from raftlog.protocol.session import Session
from raftlog.security.acls import ResourceType
from raftlog.types import OFFSETS_TOPIC

_TWO_ROUNDS_FROM = 4  # of JoinGroup: a new member is told its id first (KIP-394)
_SKIPS_FROM = 9  # of JoinGroup: a leader may be told that there is nothing to assign (KIP-814)
_NOT_FOUND_FROM = 6  # of DescribeGroups: a group that is not there is an error (KIP-1043)
_CLASSIC = "classic"
_STABLE, _DEAD = "Stable", "Dead"
# A member is waited for by its coordinator as long as the slowest of them may take.
_REBALANCE_S = REBALANCE_TIMEOUT_MAX_MS / 1000 + KAFKA_COORDINATOR_S
# Clients expect neither of these to be told that the coordinator is not ready yet. A member that asks for its share has
# to join again, and one that only says that it lives may go on: Kafka's own coordinator has answered the same.
_OF_SYNC: Words = {ErrorCode.COORDINATOR_LOAD_IN_PROGRESS: ErrorCode.REBALANCE_IN_PROGRESS}
_OF_HEARTBEAT: Words = {ErrorCode.COORDINATOR_LOAD_IN_PROGRESS: ErrorCode.NONE}


# --- members ---------------------------------------------------------------------------------------
async def join_group(call: Call) -> Fields:
    request = call.request
    body = g.JoinGroupRequest(
        group_id=request.group_id,
        session_timeout_ms=request.session_timeout,
        rebalance_timeout_ms=field(request, "rebalance_timeout", request.session_timeout),
        member_id=request.member_id,
        group_instance_id=field(request, "group_instance_id", None),
        protocol_type=request.protocol_type,
        protocols=[(protocol.name, protocol.metadata) for protocol in request.protocols],
        client_id=_name_of(call.session),
        one_round=call.version < _TWO_ROUNDS_FROM,
        client_host=_host_of(call.session),
    )
    answer = await ask_coordinator(call, apis.JOIN_GROUP, body, timeout_s=_REBALANCE_S)
    if answer.error_code:
        return {"error_code": answer.error_code, "member_id": answer.member_id or request.member_id}
    # An older leader that need not assign is told that it follows, so that it asks for its share.
    leads = not answer.skip_assignment or call.version >= _SKIPS_FROM
    return {
        "generation_id": answer.generation_id,
        "protocol_type": answer.protocol_type,
        "protocol_name": answer.protocol_name,
        "leader": answer.leader if leads else "",
        "skip_assignment": answer.skip_assignment,
        "member_id": answer.member_id,
        "members": [
            {"member_id": member.member_id, "group_instance_id": member.group_instance_id, "metadata": member.metadata}
            for member in (answer.members if leads else ())
        ],
    }


def _name_of(session: Session) -> str:
    """It is in many records, and any length will do to tell clients apart."""
    return session.client_id.encode()[:GROUP_NAME_MAX_BYTES].decode(errors="ignore")


def _host_of(session: Session) -> str:
    """As Kafka's tools have it: an address without its port, behind a slash."""
    return "/" + session.address.rpartition(":")[0].strip("[]")


async def sync_group(call: Call) -> Fields:
    request = call.request
    body = g.SyncGroupRequest(
        group_id=request.group_id,
        generation_id=request.generation_id,
        member_id=request.member_id,
        group_instance_id=field(request, "group_instance_id", None),
        protocol_type=field(request, "protocol_type", None) or "",
        protocol_name=field(request, "protocol_name", None) or "",
        assignments=[(each.member_id, each.assignment) for each in request.assignments],
    )
    answer = await ask_coordinator(call, apis.SYNC_GROUP, body, timeout_s=_REBALANCE_S, words=_OF_SYNC)
    if answer.error_code:
        return {"error_code": answer.error_code}
    return {
        "protocol_type": answer.protocol_type,
        "protocol_name": answer.protocol_name,
        "assignment": answer.assignment,
    }


async def heartbeat(call: Call) -> Fields:
    request = call.request
    body = g.HeartbeatRequest(
        group_id=request.group_id,
        generation_id=request.generation_id,
        member_id=request.member_id,
        group_instance_id=field(request, "group_instance_id", None),
    )
    answer = await ask_coordinator(call, apis.HEARTBEAT, body, words=_OF_HEARTBEAT)
    return {"error_code": answer.error_code}


async def leave_group(call: Call) -> Fields:
    request = call.request
    leaving = field(request, "members", None)
    members = [
        g.LeavingMember(member_id=each.member_id, group_instance_id=field(each, "group_instance_id", None))
        for each in ([request] if leaving is None else leaving)
    ]
    body = g.LeaveGroupRequest(group_id=request.group_id, members=members)
    answer = await ask_coordinator(call, apis.LEAVE_GROUP, body)
    if answer.error_code:
        return {"error_code": answer.error_code}
    codes = answer.member_error_codes
    if leaving is None:
        return {"error_code": codes[0]}
    told = [
        {"member_id": member.member_id, "group_instance_id": member.group_instance_id, "error_code": code}
        for member, code in zip(members, codes, strict=True)
    ]
    return {"members": told}


# --- tools -----------------------------------------------------------------------------------------
async def describe_groups(call: Call) -> Fields:
    request = call.request
    bodies = [g.DescribeGroupRequest(group_id=group_id) for group_id in request.groups]
    answers = await ask_coordinators(call, apis.DESCRIBE_GROUP, bodies)
    include = field(request, "include_authorized_operations", False)
    return {
        "groups": [
            {
                "group_id": body.group_id,
                "authorized_operations": call.operations(ResourceType.GROUP, body.group_id) if include else NOT_ASKED,
                **_described(answer, call.version),
            }
            for body, answer in zip(bodies, answers, strict=True)
        ]
    }


def _described(answer: g.DescribeGroupResponse, version: int) -> dict[str, Any]:
    if answer.error_code:
        return {"error_code": answer.error_code, "error_message": answer.error_text}
    if answer.state == _DEAD and version >= _NOT_FOUND_FROM:
        text = f"there is no group {answer.group_id}"
        return {"error_code": int(ErrorCode.GROUP_ID_NOT_FOUND), "error_message": text, "group_state": _DEAD}
    shared_out = answer.state == _STABLE  # else nobody's share is known yet, or it is one of before
    return {
        "group_state": answer.state,
        "protocol_type": answer.protocol_type,
        "protocol_data": answer.protocol_name if shared_out else "",
        "members": [
            {
                "member_id": member.member_id,
                "group_instance_id": member.group_instance_id,
                "client_id": member.client_id,
                "client_host": member.client_host,
                "member_metadata": member.metadata if shared_out else b"",
                "member_assignment": member.assignment if shared_out else b"",
            }
            for member in answer.members
        ],
    }


async def list_groups(call: Call) -> Fields:
    """Those of the coordinators of this node: clients ask every node."""
    states = {state.lower() for state in field(call.request, "states_filter", ())}
    types = {each.lower() for each in field(call.request, "types_filter", ())}
    topic = call.cluster.topics.get(OFFSETS_TOPIC)
    if topic is None or (types and _CLASSIC not in types):
        return {}
    asks = [
        call.ask(
            Leader(topic.topic_id, each.partition),
            apis.LIST_GROUPS,
            g.ListGroupsRequest(),
            timeout_s=KAFKA_COORDINATOR_S,
        )
        for each in topic.partitions
        if each.leader_id == call.settings.node_id
    ]
    groups = []
    code = ErrorCode.NONE
    for answer, _ in await together(asks):
        if answer.error_code not in (ErrorCode.NONE, ErrorCode.NOT_COORDINATOR):  # another node lists those
            code = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        groups += [
            {
                "group_id": each.group_id,
                "protocol_type": each.protocol_type,
                "group_state": each.state,
                "group_type": _CLASSIC,
            }
            for each in answer.groups
            if not states or each.state.lower() in states
        ]
    return {"error_code": int(code), "groups": groups}


async def delete_groups(call: Call) -> Fields:
    bodies = [g.DeleteGroupRequest(group_id=group_id, version=None) for group_id in call.request.groups_names]
    answers = await ask_coordinators(call, apis.DELETE_GROUP, bodies)
    return {
        "results": [
            {
                "group_id": body.group_id,
                "error_code": answer.error_code,
                "error_message": answer.error_text or None,
            }
            for body, answer in zip(bodies, answers, strict=True)
        ]
    }
