"""Admin of users, rules and quotas: who may log in, do what, and how much. A password never leaves this process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from raftlog.client.admin.groups import GroupAdmin
from raftlog.client.core.call import CONTROLLER
from raftlog.errors import error_for
from raftlog.protocol import apis
from raftlog.protocol import security as s
from raftlog.security.acls import Acl, AclFilter
from raftlog.security.quotas import Entity, EntityFilter, Quota
from raftlog.security.scram import ITERATIONS, Mechanism


class SecurityAdmin(GroupAdmin):
    """The part of Admin that asks for users, rules and quotas and changes them."""

    # --- users -------------------------------------------------------------------------------------
    def list_users(self) -> list[s.UserDescription]:
        """All users who log in with a password, by name."""
        return self._ask("list users", CONTROLLER, apis.DESCRIBE_USERS, s.DescribeUsersRequest()).users

    def create_user(
        self,
        name: str,
        password: str,
        *,
        mechanisms: Iterable[Mechanism] = tuple(Mechanism),
        iterations: int = ITERATIONS,
    ) -> None:
        """A new user, or another password for one who is there; sessions of before end within seconds.

        Raises UnacceptableCredentialError, and PolicyViolationError for the first user who is no superuser.
        """
        from raftlog.security.passwords import make_credential  # few programs make users

        credentials = [(name, make_credential(Mechanism(each), password, iterations)) for each in mechanisms]
        self._alter_users("create a user", credentials, [])

    def delete_user(self, name: str) -> None:
        """The user's sessions end within seconds; rules about it stay. Raises ResourceNotFoundError."""
        self._alter_users("delete a user", [], [(name, s.ALL_MECHANISMS)])

    def _alter_users(self, what: str, credentials: list[Any], deletions: list[tuple[str, int]]) -> None:
        def build(mutation_id: bytes, since_offset: int) -> s.AlterUsersRequest:
            return s.AlterUsersRequest(mutation_id, since_offset, credentials=credentials, deletions=deletions)

        _check_all(self._change_once(what, apis.ALTER_USERS, build))

    # --- rules -------------------------------------------------------------------------------------
    def list_acls(self, wanted: AclFilter | None = None) -> list[Acl]:
        """All rules, or those that the filter finds."""
        body = s.DescribeAclsRequest(AclFilter() if wanted is None else wanted)
        return self._ask("list rules", CONTROLLER, apis.DESCRIBE_ACLS, body).acls

    def create_acls(self, acls: Sequence[Acl]) -> None:
        """A rule that is there already stays one. Raises InvalidRequestError for one that could not mean anything."""
        wanted = list(acls)

        def build(mutation_id: bytes, since_offset: int) -> s.CreateAclsRequest:
            return s.CreateAclsRequest(mutation_id, since_offset, wanted)

        _check_all(self._change_once("add rules", apis.CREATE_ACLS, build))

    def delete_acls(self, filters: Sequence[AclFilter]) -> list[Acl]:
        """Deletes all rules that one of the filters finds, and returns them."""
        wanted = list(filters)

        def build(mutation_id: bytes, since_offset: int) -> s.DeleteAclsRequest:
            return s.DeleteAclsRequest(mutation_id, since_offset, wanted)

        deleted = self._change_once("delete rules", apis.DELETE_ACLS, build).deleted
        return list(dict.fromkeys(acl for acls in deleted for acl in acls))

    # --- quotas ------------------------------------------------------------------------------------
    def list_quotas(self, wanted: EntityFilter | None = None) -> list[Quota]:
        """All quotas, or those of the entities that the filter finds."""
        body = s.DescribeQuotasRequest(EntityFilter() if wanted is None else wanted)
        return self._ask("list quotas", CONTROLLER, apis.DESCRIBE_QUOTAS, body).quotas

    def alter_quotas(self, changes: Iterable[tuple[Entity, Mapping[str, float | None]]]) -> None:
        """Sets the quotas of entities, by key in bytes a second; None removes one.

        Raises InvalidRequestError for one that could not mean anything; those beside it are changed.
        """
        wanted = [s.QuotaChange(list(entity), dict(values)) for entity, values in changes]

        def build(mutation_id: bytes, since_offset: int) -> s.AlterQuotasRequest:
            return s.AlterQuotasRequest(mutation_id, since_offset, changes=wanted)

        _check_all(self._change_once("change quotas", apis.ALTER_QUOTAS, build))


def _check_all(answer: s.SecurityResponse) -> None:
    """Raises the error of the first that failed."""
    for result in answer.results:
        if result.error_code:
            raise error_for(result.error_code, result.error_text)
