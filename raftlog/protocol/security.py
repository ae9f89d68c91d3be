"""Users, rules and quotas: asked of the controller and changed; and the messages by which one proves who it is."""

from __future__ import annotations

import msgspec

from raftlog.errors import ErrorCode
from raftlog.protocol.body import Body, ResponseBody
from raftlog.protocol.topics import MutationBody
from raftlog.security.acls import Acl, AclFilter
from raftlog.security.quotas import EntityFilter, Quota
from raftlog.security.scram import Credential

ALL_MECHANISMS = 0
"""In place of a mechanism that is to be deleted."""
ON_BEHALF = "ON-BEHALF"
"""In place of a mechanism: a node asks for somebody who has proved to it who he is."""


class Behalf(msgspec.Struct, frozen=True, array_like=True):
    """For whom a node asks: `principal` at `host`, who has proved it by `mechanism`."""

    principal: str
    host: str
    mechanism: str


encode_behalf = msgspec.msgpack.Encoder().encode
decode_behalf = msgspec.msgpack.Decoder(Behalf).decode


class AuthenticateRequest(Body):
    """One message of a login, the first requests of a session. `mechanism`: in the first message of each login."""

    mechanism: str
    data: bytes


class AuthenticateResponse(ResponseBody):
    """The next message of a login. `done`: with the answer to the last message, the session is the user's."""

    data: bytes = b""
    done: bool = False


class SecurityResult(msgspec.Struct, array_like=True, kw_only=True):
    """What became of one change of users, rules or quotas. `name`: of the user; "" of a rule."""

    name: str = ""
    error_code: ErrorCode = ErrorCode.NONE
    error_text: str = ""


class SecurityResponse(ResponseBody):
    """One result for each thing asked for, in its order; each stands or falls alone."""

    results: list[SecurityResult] = []


# --- users -----------------------------------------------------------------------------------------
class AlterUsersRequest(MutationBody, kw_only=True):
    """Credentials of users are set and deleted.

    `credentials` are set, each in place of what its user had for the mechanism; `deletions`: (user, mechanism).

    The results are of the credentials, and then of the deletions. No password is in it.
    """

    credentials: list[tuple[str, Credential]] = []
    deletions: list[tuple[str, int]] = []


class DescribeUsersRequest(Body):
    """Which users there are; `users` None asks for all."""

    users: list[str] | None = None


class UserDescription(msgspec.Struct, array_like=True, kw_only=True):
    """A user, without his secrets. `credentials`: (mechanism, iterations). error_code is RESOURCE_NOT_FOUND or 0."""

    name: str
    error_code: ErrorCode = ErrorCode.NONE
    credentials: list[tuple[int, int]] = []


class DescribeUsersResponse(ResponseBody):
    users: list[UserDescription] = []


# --- rules -----------------------------------------------------------------------------------------
class CreateAclsRequest(MutationBody):
    """Rules that are there already stay as they are."""

    acls: list[Acl]


class DeleteAclsRequest(MutationBody):
    """All rules that one of the filters finds."""

    filters: list[AclFilter]


class DeleteAclsResponse(ResponseBody):
    """The rules that DeleteAcls has deleted. `deleted`: for each filter, what it found."""

    deleted: list[list[Acl]] = []


class DescribeAclsRequest(Body):
    """Which rules there are that the filter finds."""

    filter: AclFilter


class DescribeAclsResponse(ResponseBody):
    acls: list[Acl] = []


# --- quotas ----------------------------------------------------------------------------------------
class QuotaChange(msgspec.Struct, array_like=True):
    """Of one entity, as a whole: `values` by key; None: there is none any more."""

    entity: list[tuple[str, str | None]]
    values: dict[str, float | None]


class AlterQuotasRequest(MutationBody, kw_only=True):
    """One result for each change. `validate_only`: nothing is changed."""

    changes: list[QuotaChange]
    validate_only: bool = False


class DescribeQuotasRequest(Body):
    """Which quotas there are about the entities that the filter finds."""

    filter: EntityFilter


class DescribeQuotasResponse(ResponseBody):
    quotas: list[Quota] = []
