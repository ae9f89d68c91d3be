"""What a change of quotas makes of those that there are: (results, records). Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from raftlog.controller.records import ClientQuotaDeletedRecord, ClientQuotaRecord, MetadataRecord
from raftlog.errors import ErrorCode, InvalidRequestError, RaftlogError
from raftlog.limits import QUOTAS_MAX, SECURITY_CHANGES_MAX
from raftlog.protocol.security import AlterQuotasRequest, QuotaChange, SecurityResult
from raftlog.security.policy import Security
from raftlog.security.quotas import Entity, Quota, check_entity, check_key, check_value, text_of


def alter_quotas(security: Security, request: AlterQuotasRequest) -> tuple[list[SecurityResult], list[MetadataRecord]]:
    """What is removed and was not there is no error, as in Kafka. Raises RaftlogError for the request as a whole."""
    if sum(len(change.values) for change in request.changes) > SECURITY_CHANGES_MAX:
        raise InvalidRequestError(f"one request has at most {SECURITY_CHANGES_MAX} changes")
    known = {(each.entity, each.key): each.value for each in security.quotas}
    named = Counter(tuple(sorted(change.entity, key=repr)) for change in request.changes)
    results: list[SecurityResult] = []
    records: list[MetadataRecord] = []
    for change in request.changes:
        name = text_of(tuple(change.entity))
        try:
            if named[tuple(sorted(change.entity, key=repr))] > 1:
                raise InvalidRequestError(f"{name} is named twice")
            made = _records(known, change)
            new = sum(isinstance(each, ClientQuotaRecord) and _place(each) not in known for each in (*records, *made))
            if len(known) + new > QUOTAS_MAX:
                raise InvalidRequestError(f"there are at most {QUOTAS_MAX} quotas")
        except RaftlogError as error:
            results.append(SecurityResult(name=name, error_code=error.code, error_text=str(error)))
        else:
            results.append(SecurityResult(name=name, error_code=ErrorCode.NONE))
            records += made
    return results, records


def _place(record: ClientQuotaRecord) -> tuple[Entity, str]:
    return record.quota.entity, record.quota.key


def _records(known: dict[tuple[Entity, str], float], change: QuotaChange) -> Sequence[MetadataRecord]:
    """Raises RaftlogError."""
    entity = check_entity(change.entity)
    records: list[MetadataRecord] = []
    for key, value in change.values.items():
        check_key(key)
        before = known.get((entity, key))
        if value is not None:
            check_value(key, value)
            if value != before:
                records.append(ClientQuotaRecord(quota=Quota(entity, key, value)))
        elif before is not None:
            records.append(ClientQuotaDeletedRecord(entity=entity, key=key))
    return records
