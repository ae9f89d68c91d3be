"""What the controller makes of questions about users, rules and quotas, and of changes of them: (response, records).

The first user or rule closes the cluster to everybody who is not allowed something. So a change is refused after which
nobody would be left who may do everything: whoever made it could not undo it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from raftlog.controller.image import Image, apply
from raftlog.controller.mutations import earlier, record_with
from raftlog.controller.quota_changes import alter_quotas
from raftlog.controller.records import (
    AclDeletedRecord,
    AclRecord,
    MetadataRecord,
    ScramCredentialDeletedRecord,
    ScramCredentialRecord,
    SecretRecord,
)
from raftlog.errors import (
    DuplicateResourceError,
    ErrorCode,
    InvalidRequestError,
    PolicyViolationError,
    RaftlogError,
    ResourceNotFoundError,
    UnacceptableCredentialError,
    UnsupportedSaslMechanismError,
)
from raftlog.limits import ACLS_MAX, SECURITY_CHANGES_MAX, USERS_MAX
from raftlog.protocol.security import (
    ALL_MECHANISMS,
    AlterQuotasRequest,
    AlterUsersRequest,
    CreateAclsRequest,
    DeleteAclsRequest,
    DeleteAclsResponse,
    DescribeAclsRequest,
    DescribeAclsResponse,
    DescribeQuotasRequest,
    DescribeQuotasResponse,
    DescribeUsersRequest,
    DescribeUsersResponse,
    SecurityResponse,
    SecurityResult,
    UserDescription,
)
from raftlog.security.acls import Acl, check_acl
from raftlog.security.passwords import check_user
from raftlog.security.policy import NODE_USER, Access, Security, principal_of
from raftlog.security.quotas import text_of
from raftlog.security.scram import Credential, Mechanism, check_credential

SecurityChange = AlterUsersRequest | CreateAclsRequest | DeleteAclsRequest | AlterQuotasRequest
SecurityRequest = SecurityChange | DescribeUsersRequest | DescribeAclsRequest | DescribeQuotasRequest
SecurityAnswer = (
    SecurityResponse | DeleteAclsResponse | DescribeUsersResponse | DescribeAclsResponse | DescribeQuotasResponse
)


class Guard(NamedTuple):
    """Who may do everything, as the operator has said at this node's start.

    `superusers`: principals; None: authorization is off, so nobody is needed. `by_certificate`: they need no password.
    """

    superusers: frozenset[str] | None
    by_certificate: bool = False

    def is_left(self, security: Security) -> bool:
        if self.superusers is None or security.is_empty:
            return True
        if self.by_certificate:
            return bool(self.superusers)
        return any(principal_of(user) in self.superusers for user in security.users)


UNGUARDED = Guard(None)


def guard_of(access: Access) -> Guard:
    return Guard(frozenset(access.superusers) if access.enforced else None, access.certified)


_LOCKED_OUT = (
    "after this nobody could change anything any more: start the nodes with --superuser NAME, and make that user first"
)


def decide_security(
    image: Image, request: SecurityRequest, mint_id: Callable[[], bytes], guard: Guard
) -> tuple[SecurityAnswer, list[MetadataRecord]]:
    match request:
        case DescribeUsersRequest():
            return _describe_users(image.security, request), []
        case DescribeAclsRequest():
            return DescribeAclsResponse(acls=[acl for acl in image.security.acls if request.filter.matches(acl)]), []
        case DescribeQuotasRequest():
            found = [each for each in image.security.quotas if request.filter.matches(each.entity)]
            return DescribeQuotasResponse(quotas=found), []
    try:
        mutation = earlier(image, request)
        if mutation is not None:
            return _as_before(request, mutation.codes), []
        changed = _change(image, request)
        records: list[MetadataRecord] = list(changed.records)
        if isinstance(request, AlterQuotasRequest):
            records = [] if request.validate_only else records
        elif records and not image.security.secret:
            records.insert(0, SecretRecord(secret=mint_id() + mint_id()))
        _check_left(image, records, guard)
    except RaftlogError as error:
        return _refusal(request, error), []
    if records:
        records.append(record_with(request, changed.codes))
    return changed.answer, records


class _Changed(NamedTuple):
    answer: SecurityAnswer
    records: list[MetadataRecord]
    codes: list[int]


def _change(image: Image, request: SecurityChange) -> _Changed:
    match request:
        case AlterUsersRequest():
            results, records = _alter_users(image.security, request)
            return _Changed(SecurityResponse(results=results), records, [each.error_code for each in results])
        case AlterQuotasRequest():
            results, records = alter_quotas(image.security, request)
            return _Changed(SecurityResponse(results=results), records, [each.error_code for each in results])
        case CreateAclsRequest():
            results, records = _create_acls(image.security, request)
            return _Changed(SecurityResponse(results=results), records, [each.error_code for each in results])
        case DeleteAclsRequest():
            _check_count(len(request.filters))
            found = [[acl for acl in image.security.acls if each.matches(acl)] for each in request.filters]
            gone = dict.fromkeys(acl for acls in found for acl in acls)
            return _Changed(DeleteAclsResponse(deleted=found), [AclDeletedRecord(acl=acl) for acl in gone], [])


def _check_left(image: Image, records: list[MetadataRecord], guard: Guard) -> None:
    """Raises PolicyViolationError."""
    after = image
    for record in records:
        after = apply(after, after.end_offset, record)
    if not guard.is_left(after.security) and guard.is_left(image.security):
        raise PolicyViolationError(_LOCKED_OUT)


def _refusal(request: SecurityChange, error: RaftlogError) -> SecurityAnswer:
    if isinstance(request, DeleteAclsRequest):
        return DeleteAclsResponse(error.code, str(error))
    return SecurityResponse(error.code, str(error))


def _as_before(request: SecurityChange, codes: tuple[int, ...]) -> SecurityAnswer:
    """Of a change that has been carried out. Which rules it has deleted is not known any more."""
    match request:
        case AlterUsersRequest():
            names = [user for user, _ in request.credentials] + [user for user, _ in request.deletions]
        case AlterQuotasRequest():
            names = [text_of(tuple(change.entity)) for change in request.changes]
        case CreateAclsRequest():
            names = [""] * len(request.acls)
        case DeleteAclsRequest():
            return DeleteAclsResponse(deleted=[[] for _ in request.filters])
    told = [ErrorCode(code) for code in codes] or [ErrorCode.NONE] * len(names)
    results = [
        SecurityResult(name=name, error_code=code, error_text=f"{code.name}, as before" if code else "")
        for name, code in zip(names, told, strict=False)
    ]
    return SecurityResponse(results=results)


def _check_count(count: int) -> None:
    if count > SECURITY_CHANGES_MAX:
        raise InvalidRequestError(f"one request has at most {SECURITY_CHANGES_MAX} changes, not {count}")


# --- users -----------------------------------------------------------------------------------------
def _describe_users(security: Security, request: DescribeUsersRequest) -> DescribeUsersResponse:
    names = sorted(security.users) if request.users is None else request.users
    return DescribeUsersResponse(users=[_described(security, name) for name in names])


def _described(security: Security, name: str) -> UserDescription:
    user = security.users.get(name)
    if user is None:
        return UserDescription(name=name, error_code=ErrorCode.RESOURCE_NOT_FOUND)
    return UserDescription(
        name=name, credentials=sorted((each.mechanism, each.iterations) for each in user.credentials)
    )


def _alter_users(security: Security, request: AlterUsersRequest) -> tuple[list[SecurityResult], list[MetadataRecord]]:
    named = [(user, credential.mechanism) for user, credential in request.credentials] + list(request.deletions)
    _check_count(len(named))
    counts = Counter(named)
    results: list[SecurityResult] = []
    records: list[MetadataRecord] = []
    added = {user for user, _ in request.credentials} - security.users.keys()
    for user, credential in request.credentials:
        try:
            _check_once(counts, user, credential.mechanism)
            _check_new(user, credential)
            if user in added and len(security.users) + len(added) > USERS_MAX:
                raise InvalidRequestError(f"there are at most {USERS_MAX} users")
        except RaftlogError as error:
            results.append(_refused(user, error))
            continue
        results.append(SecurityResult(name=user))
        known = security.users.get(user)
        if known is None or credential not in known.credentials:
            records.append(ScramCredentialRecord(user=user, credential=credential))
    for user, mechanism in request.deletions:
        try:
            _check_once(counts, user, mechanism)
            records += _deletions(security, user, mechanism)
        except RaftlogError as error:
            results.append(_refused(user, error))
            continue
        results.append(SecurityResult(name=user))
    return results, records


def _check_once(counts: Counter[tuple[str, int]], user: str, mechanism: int) -> None:
    """Raises DuplicateResourceError."""
    if counts[user, mechanism] > 1:
        raise DuplicateResourceError(f"user {user} is named twice for one mechanism")


def _check_new(user: str, credential: Credential) -> None:
    """Raises RaftlogError."""
    try:
        check_user(user)
        if user == NODE_USER:
            raise InvalidRequestError(f"{NODE_USER} is the name of the nodes themselves")
    except InvalidRequestError as error:
        raise UnacceptableCredentialError(str(error)) from None
    if credential.mechanism not in list(Mechanism):
        raise UnsupportedSaslMechanismError("users log in with SCRAM-SHA-256 or SCRAM-SHA-512")
    try:
        check_credential(credential)
    except InvalidRequestError as error:
        raise UnacceptableCredentialError(str(error)) from None


def _deletions(security: Security, user: str, mechanism: int) -> list[MetadataRecord]:
    """Raises RaftlogError."""
    if mechanism not in (ALL_MECHANISMS, *Mechanism):
        raise UnsupportedSaslMechanismError("users log in with SCRAM-SHA-256 or SCRAM-SHA-512")
    known = security.users.get(user)
    found = [each.mechanism for each in known.credentials] if known else []
    gone = found if mechanism == ALL_MECHANISMS else [each for each in found if each == mechanism]
    if not gone:
        raise ResourceNotFoundError(f"there is no user {user}" if known is None else f"{user} has no such password")
    return [ScramCredentialDeletedRecord(user=user, mechanism=each) for each in gone]


def _refused(user: str, error: RaftlogError) -> SecurityResult:
    return SecurityResult(name=user, error_code=error.code, error_text=str(error))


# --- rules -----------------------------------------------------------------------------------------
def _create_acls(security: Security, request: CreateAclsRequest) -> tuple[list[SecurityResult], list[MetadataRecord]]:
    _check_count(len(request.acls))
    results: list[SecurityResult] = []
    new: dict[Acl, None] = {}
    known = set(security.acls)
    for acl in request.acls:
        try:
            check_acl(acl)
            if len(known) + len(new) >= ACLS_MAX:
                raise InvalidRequestError(f"there are at most {ACLS_MAX} rules")
        except RaftlogError as error:
            results.append(_refused("", error))
            continue
        results.append(SecurityResult())
        if acl not in known:
            new[acl] = None
    return results, [AclRecord(acl=acl) for acl in new]
