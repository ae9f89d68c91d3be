"""May a principal do something? Kafka's answer to it, from the rules alone. Pure.

    superuser                                   -> yes
    a rule denies it                            -> no, whatever allows it
    a rule allows it, or something that implies it -> yes
    nothing                                     -> no

READ, WRITE, DELETE and ALTER imply DESCRIBE, ALTER_CONFIGS implies DESCRIBE_CONFIGS; CREATE implies nothing. A denial
implies nothing: who may not read may still describe.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from raftlog.security.acls import (
    ANYBODY,
    WILDCARD,
    Acl,
    Operation,
    Pattern,
    Permission,
    ResourceType,
    applies,
)

_ANSWERS_MAX = 20_000  # remembered; then all are forgotten, which costs looking at the rules again
_IMPLIED_BY = {
    Operation.DESCRIBE: (Operation.READ, Operation.WRITE, Operation.DELETE, Operation.ALTER),
    Operation.DESCRIBE_CONFIGS: (Operation.ALTER_CONFIGS,),
}
_Question = tuple[str, str, Operation, ResourceType, str]


class Authorizer:
    """A value: other rules make another one."""

    def __init__(self, acls: Iterable[Acl], superusers: Collection[str] = ()) -> None:
        """`superusers`: principals, as `User:alice`."""
        self._superusers = frozenset(superusers)
        self._literal: dict[tuple[int, str], list[Acl]] = {}
        self._prefixed: dict[int, list[Acl]] = {}
        for acl in acls:
            if acl.pattern == Pattern.PREFIXED:
                self._prefixed.setdefault(acl.resource_type, []).append(acl)
            else:
                self._literal.setdefault((acl.resource_type, acl.name), []).append(acl)
        self._answers: dict[_Question, bool] = {}

    def allows(self, principal: str, host: str, operation: Operation, kind: ResourceType, name: str) -> bool:
        """`host`: the address that it comes from."""
        question = (principal, host, operation, kind, name)
        answer = self._answers.get(question)
        if answer is None:
            if len(self._answers) >= _ANSWERS_MAX:
                self._answers.clear()
            answer = self._answers[question] = self._decide(*question)
        return answer

    def _decide(self, principal: str, host: str, operation: Operation, kind: ResourceType, name: str) -> bool:
        if principal in self._superusers:
            return True
        allowed = False
        enough = (operation, Operation.ALL, *_IMPLIED_BY.get(operation, ()))
        for acl in self._about(kind, name):
            if not _is_for(acl, principal, host):
                continue
            if acl.permission == Permission.DENY:
                if acl.operation in (operation, Operation.ALL):
                    return False
            elif acl.operation in enough:
                allowed = True
        return allowed

    def _about(self, kind: int, name: str) -> Iterable[Acl]:
        yield from self._literal.get((kind, name), ())
        if name != WILDCARD:
            yield from self._literal.get((kind, WILDCARD), ())
        for acl in self._prefixed.get(kind, ()):
            if applies(acl, name):
                yield acl

    def allows_any(self, principal: str, host: str, operation: Operation, kind: ResourceType) -> bool:
        """Whether there may be a resource of this type that the principal may do it with."""
        if principal in self._superusers:
            return True
        enough = (operation, Operation.ALL, *_IMPLIED_BY.get(operation, ()))
        mine = [acl for acl in self._of(kind) if _is_for(acl, principal, host)]
        denials = [
            acl for acl in mine if acl.permission == Permission.DENY and acl.operation in (operation, Operation.ALL)
        ]
        allowances = [acl for acl in mine if acl.permission == Permission.ALLOW and acl.operation in enough]
        return any(not any(_covers(denial, acl) for denial in denials) for acl in allowances)

    def _of(self, kind: int) -> Iterable[Acl]:
        for (found, _), acls in self._literal.items():
            if found == kind:
                yield from acls
        yield from self._prefixed.get(kind, ())


def _is_for(acl: Acl, principal: str, host: str) -> bool:
    return acl.principal in (principal, ANYBODY) and acl.host in (host, WILDCARD)


def _covers(denial: Acl, allowance: Acl) -> bool:
    """Nothing is left of the allowance."""
    if denial.pattern == Pattern.PREFIXED:
        is_everything = allowance.pattern == Pattern.LITERAL and allowance.name == WILDCARD
        return not is_everything and allowance.name.startswith(denial.name)
    return denial.name == WILDCARD or (denial.name == allowance.name and allowance.pattern == Pattern.LITERAL)
