"""Users, rules and quotas, as Kafka's tools ask for them and change them: passed on to the controller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from raftlog import limits
from raftlog.errors import ErrorCode
from raftlog.kafka.calls import Call, Controller, Fields
from raftlog.kafka.handlers.mutations import change_once, error_fields
from raftlog.protocol import apis
from raftlog.protocol import security as s
from raftlog.security.acls import Acl, AclFilter
from raftlog.security.quotas import CLIENT_ID, IP, USER, Entity, EntityFilter
from raftlog.security.scram import Credential, Mechanism, credential_of

_TIMEOUT_S = limits.ADMIN_TIMEOUT_MS / 1000


# --- users -----------------------------------------------------------------------------------------
async def describe_users(call: Call) -> Fields:
    asked = call.request.users
    names = [each.name for each in asked] if asked else None  # none at all are all of them
    counts = Counter(names or ())
    body = s.DescribeUsersRequest(None if names is None else list(counts))
    answer: s.DescribeUsersResponse
    answer, _ = await call.ask(Controller(), apis.DESCRIBE_USERS, body, timeout_s=_TIMEOUT_S)
    if answer.error_code:
        return {**error_fields(answer.error_code, answer.error_text), "results": []}
    return {"results": [_described(user, counts[user.name]) for user in answer.users]}


def _described(user: s.UserDescription, count: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"user": user.name, "credential_infos": []}
    if count > 1:
        return {**fields, **error_fields(ErrorCode.DUPLICATE_RESOURCE, f"{user.name} is named twice")}
    if user.error_code:
        return {**fields, **error_fields(user.error_code, f"there is no user {user.name}")}
    fields["credential_infos"] = [{"mechanism": each[0], "iterations": each[1]} for each in user.credentials]
    return fields


async def alter_users(call: Call) -> Fields:
    """One result of each user: the first error of its changes, or none."""
    request = call.request
    names = dict.fromkeys(each.name for each in (*request.deletions, *request.upsertions))
    named = Counter((each.name, each.mechanism) for each in (*request.deletions, *request.upsertions))
    failed = {name: (ErrorCode.DUPLICATE_RESOURCE, f"{name} is named twice") for (name, _), n in named.items() if n > 1}
    credentials: list[tuple[str, Credential]] = []
    for each in request.upsertions:
        if each.mechanism not in list(Mechanism):
            text = "users log in with SCRAM-SHA-256 or SCRAM-SHA-512"
            failed.setdefault(each.name, (ErrorCode.UNSUPPORTED_SASL_MECHANISM, text))
        elif len(each.salted_password) != Mechanism(each.mechanism).key_bytes:
            text = f"a salted password of this mechanism has {Mechanism(each.mechanism).key_bytes} bytes"
            failed.setdefault(each.name, (ErrorCode.UNACCEPTABLE_CREDENTIAL, text))
        else:
            mechanism = Mechanism(each.mechanism)
            made = credential_of(mechanism, each.salted_password, each.salt, each.iterations)
            credentials.append((each.name, made))
    for each in request.deletions:
        if each.mechanism not in list(Mechanism):
            text = "users log in with SCRAM-SHA-256 or SCRAM-SHA-512"
            failed.setdefault(each.name, (ErrorCode.UNSUPPORTED_SASL_MECHANISM, text))
    credentials = [each for each in credentials if each[0] not in failed]
    deletions = [(each.name, each.mechanism) for each in request.deletions if each.name not in failed]
    if credentials or deletions:
        answer = await change_once(
            call,
            apis.ALTER_USERS,
            lambda mutation_id, end: s.AlterUsersRequest(
                mutation_id, end, credentials=credentials, deletions=deletions
            ),
        )
        results = answer.results
        if answer.error_code:
            code, text = ErrorCode(answer.error_code), answer.error_text
            results = [s.SecurityResult(name=name, error_code=code, error_text=text) for name in names]
        for result in results:
            if result.error_code:
                failed.setdefault(result.name, (result.error_code, result.error_text))
    return {"results": [{"user": name, **error_fields(*failed.get(name, (ErrorCode.NONE, "")))} for name in names]}


# --- rules -----------------------------------------------------------------------------------------
def _filter(asked: Any) -> AclFilter:
    return AclFilter(
        resource_type=asked.resource_type_filter,
        name=asked.resource_name_filter,
        pattern=asked.pattern_type_filter,
        principal=asked.principal_filter,
        host=asked.host_filter,
        operation=asked.operation,
        permission=asked.permission_type,
    )


def _rule_fields(acl: Acl) -> dict[str, Any]:
    return {
        "principal": acl.principal,
        "host": acl.host,
        "operation": acl.operation,
        "permission_type": acl.permission,
    }


def _resource_fields(acl: Acl) -> dict[str, Any]:
    return {"resource_type": acl.resource_type, "resource_name": acl.name, "pattern_type": acl.pattern}


async def describe_acls(call: Call) -> Fields:
    body = s.DescribeAclsRequest(_filter(call.request))
    answer: s.DescribeAclsResponse
    answer, _ = await call.ask(Controller(), apis.DESCRIBE_ACLS, body, timeout_s=_TIMEOUT_S)
    if answer.error_code:
        return {**error_fields(answer.error_code, answer.error_text), "resources": []}
    resources: dict[tuple[int, str, int], dict[str, Any]] = {}
    for acl in answer.acls:
        key = (acl.resource_type, acl.name, acl.pattern)
        resources.setdefault(key, {**_resource_fields(acl), "acls": []})["acls"].append(_rule_fields(acl))
    return {"resources": list(resources.values())}


async def create_acls(call: Call) -> Fields:
    acls = [
        Acl(
            resource_type=each.resource_type,
            name=each.resource_name,
            pattern=each.resource_pattern_type,
            principal=each.principal,
            host=each.host,
            operation=each.operation,
            permission=each.permission_type,
        )
        for each in call.request.creations
    ]
    answer: s.SecurityResponse
    answer = await change_once(
        call, apis.CREATE_ACLS, lambda mutation_id, end: s.CreateAclsRequest(mutation_id, end, acls)
    )
    if answer.error_code:
        return {"results": [error_fields(answer.error_code, answer.error_text) for _ in acls]}
    return {"results": [error_fields(each.error_code, each.error_text) for each in answer.results]}


async def delete_acls(call: Call) -> Fields:
    filters = [_filter(each) for each in call.request.filters]
    answer: s.DeleteAclsResponse
    answer = await change_once(
        call, apis.DELETE_ACLS, lambda mutation_id, end: s.DeleteAclsRequest(mutation_id, end, filters)
    )
    if answer.error_code:
        failed = error_fields(answer.error_code, answer.error_text)
        return {"filter_results": [{**failed, "matching_acls": []} for _ in filters]}
    return {
        "filter_results": [
            {"matching_acls": [{**_resource_fields(acl), **_rule_fields(acl)} for acl in deleted]}
            for deleted in answer.deleted
        ]
    }


# --- quotas ----------------------------------------------------------------------------------------
_EXACT, _DEFAULT, _ANY = range(3)


async def describe_client_quotas(call: Call) -> Fields:
    names: dict[str, str | None] = {}
    any_name: list[str] = []
    wanted = call.request.components
    for each in wanted:
        if each.entity_type not in (USER, CLIENT_ID, IP):
            text = f"a quota is about a user or a client id, not about {each.entity_type!r:.40}"
            return {**error_fields(ErrorCode.UNSUPPORTED_VERSION, text), "entries": None}
        if each.match_type == _ANY:
            any_name.append(each.entity_type)
        elif each.match_type in (_EXACT, _DEFAULT) and (each.match is None) == (each.match_type == _DEFAULT):
            names[each.entity_type] = each.match
        else:
            text = "a component names an entity, its default, or any"
            return {**error_fields(ErrorCode.INVALID_REQUEST, text), "entries": None}
    if len({each.entity_type for each in wanted}) < len(wanted):
        text = "a filter names each type of entity once"
        return {**error_fields(ErrorCode.INVALID_REQUEST, text), "entries": None}
    body = s.DescribeQuotasRequest(
        EntityFilter(names=names, any_name=tuple(any_name), strict=bool(call.request.strict))
    )
    answer: s.DescribeQuotasResponse
    answer, _ = await call.ask(Controller(), apis.DESCRIBE_QUOTAS, body, timeout_s=_TIMEOUT_S)
    if answer.error_code:
        return {**error_fields(answer.error_code, answer.error_text), "entries": None}
    values: dict[Entity, list[dict[str, Any]]] = {}
    for quota in answer.quotas:
        values.setdefault(quota.entity, []).append({"key": quota.key, "value": quota.value})
    return {"entries": [{"entity": _entity_fields(entity), "values": each} for entity, each in values.items()]}


def _entity_fields(entity: Iterable[tuple[str, str | None]]) -> list[dict[str, Any]]:
    return [{"entity_type": kind, "entity_name": name} for kind, name in entity]


async def alter_client_quotas(call: Call) -> Fields:
    request = call.request
    entities = [[(each.entity_type, each.entity_name) for each in entry.entity] for entry in request.entries]
    changes = [
        s.QuotaChange(entity, {op.key: None if op.remove else op.value for op in entry.ops})
        for entity, entry in zip(entities, request.entries, strict=True)
    ]
    answer: s.SecurityResponse
    answer = await change_once(
        call,
        apis.ALTER_QUOTAS,
        lambda mutation_id, end: s.AlterQuotasRequest(
            mutation_id, end, changes=changes, validate_only=bool(request.validate_only)
        ),
    )
    results: list[Any] = [answer] * len(changes) if answer.error_code else answer.results
    return {
        "entries": [
            {**error_fields(each.error_code, each.error_text), "entity": _entity_fields(entity)}
            for each, entity in zip(results, entities, strict=True)
        ]
    }
