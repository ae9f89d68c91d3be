"""Who may log in and who may do what, in words, as the command line, /api/ and the console show it."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, TypeVar

import msgspec

from raftlog.errors import InvalidRequestError
from raftlog.security.acls import Acl, Operation, Pattern, Permission, ResourceType, check_acl, title
from raftlog.security.scram import Mechanism

if TYPE_CHECKING:
    from raftlog.client.admin.admin import Admin

W = TypeVar("W", bound=enum.IntEnum)


class UserView(msgspec.Struct, frozen=True, kw_only=True):
    user: str
    mechanisms: list[str]


class UserList(msgspec.Struct, frozen=True, kw_only=True):
    users: list[UserView]


class RuleView(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule in Kafka's words: `principal` User:alice, `operation` Read, `resource` Topic, `pattern` Literal."""

    principal: str
    host: str = "*"
    permission: str = "Allow"
    operation: str
    resource: str
    name: str
    pattern: str = "Literal"

    def sentence(self) -> str:
        may = "may" if self.permission.lower() == title(Permission.ALLOW).lower() else "may not"
        begins = " whose name begins with" if self.pattern.lower() == title(Pattern.PREFIXED).lower() else ""
        at = "" if self.host == "*" else f" from {self.host}"
        return f"{self.principal} {may} do {self.operation} with each {self.resource}{begins} {self.name}{at}."


class RuleList(msgspec.Struct, frozen=True, kw_only=True):
    rules: list[RuleView]


def user_list(admin: Admin) -> UserList:
    """Those who log in with a password."""
    return UserList(
        users=[
            UserView(user=each.name, mechanisms=[Mechanism(mechanism).text for mechanism, _ in each.credentials])
            for each in admin.list_users()
        ]
    )


def rule_list(admin: Admin) -> RuleList:
    return RuleList(rules=view_rules(admin.list_acls()))


def view_rules(acls: list[Acl]) -> list[RuleView]:
    ordered = sorted(acls, key=lambda acl: (acl.resource_type, acl.name, acl.principal, acl.operation))
    return [
        RuleView(
            principal=each.principal,
            host=each.host,
            permission=title(Permission(each.permission)),
            operation=title(Operation(each.operation)),
            resource=title(ResourceType(each.resource_type)),
            name=each.name,
            pattern=title(Pattern(each.pattern)),
        )
        for each in ordered
    ]


def parse_rule(view: RuleView) -> Acl:
    """Raises InvalidRequestError for a word that means nothing, or a rule that could not."""
    acl = Acl(
        resource_type=_word(ResourceType, view.resource),
        name=view.name,
        pattern=_word(Pattern, view.pattern),
        principal=view.principal,
        host=view.host,
        operation=_word(Operation, view.operation),
        permission=_word(Permission, view.permission),
    )
    check_acl(acl)
    return acl


def _word(kind: type[W], text: str) -> W:
    for value in kind:
        if title(value).lower() == text.lower():
            return value
    raise InvalidRequestError(f"{text!r} is none of {', '.join(title(value) for value in kind)}")
