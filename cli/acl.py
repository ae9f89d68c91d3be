"""`raftlog acl`: rules of who may do what, in Kafka's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .connect import open_admin
from .options import bootstrap_option, json_option
from .output import note, print_json, print_table

if TYPE_CHECKING:
    from raftlog.security.acls import Acl, AclFilter


@click.group()
def acl() -> None:
    """Say who may do what: add, list and remove rules.

    A rule lets a principal do something with topics, groups or the cluster, or denies it. Nothing is allowed without a
    rule, once there is a user or a rule; a denial wins over everything; superusers skip all rules.

    \b
    Example:
        raftlog acl add --principal alice --operation Write --topic orders
        raftlog acl add --principal bob --operation Read --topic orders --group billing
        raftlog acl list
    """


class Given(NamedTuple):
    """What the options of a rule said."""

    principal: str | None
    operations: tuple[str, ...]
    topics: tuple[str, ...]
    groups: tuple[str, ...]
    ids: tuple[str, ...]
    cluster: bool
    prefixed: bool
    host: str | None
    deny: bool

    def resources(self) -> list[Any]:
        """(type, name) of each."""
        from raftlog.security.acls import CLUSTER_NAME, ResourceType

        found = [(ResourceType.TOPIC, name) for name in self.topics]
        found += [(ResourceType.GROUP, name) for name in self.groups]
        found += [(ResourceType.TRANSACTIONAL_ID, name) for name in self.ids]
        return found + [(ResourceType.CLUSTER, CLUSTER_NAME)] * self.cluster


def _rule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        [
            click.option("--principal", metavar="NAME", help="A user, or TYPE:NAME; `*` is every user."),
            click.option("--operation", "operations", multiple=True, metavar="WORD", help="Read, Write, …; several."),
            click.option("--topic", "topics", multiple=True, metavar="NAME", help="A topic; `*` is all of them."),
            click.option("--group", "groups", multiple=True, metavar="NAME", help="A consumer group; `*` is all."),
            click.option("--cluster", is_flag=True, help="The cluster itself."),
            click.option("--transactional-id", "ids", multiple=True, metavar="NAME", help="An id of transactions."),
            click.option("--prefixed", is_flag=True, help="The names are the beginnings of names."),
            click.option("--host", metavar="ADDRESS", help="From this address only.  [default: any]"),
            click.option("--deny", is_flag=True, help="Deny it instead."),
        ]
    ):
        command = option(command)
    return command


@acl.command()
@_rule_options
@bootstrap_option
@json_option
def add(bootstrap: str, as_json: bool, **given: Any) -> None:
    """Add rules: one for each operation and each resource.

    \b
    Operations: Read, Write, Create, Delete, Alter, Describe, ClusterAction, DescribeConfigs, AlterConfigs,
    IdempotentWrite, All. Read, Write, Delete and Alter allow Describe too.

    \b
    Examples:
        raftlog acl add --principal alice --operation Write --topic orders
        raftlog acl add --principal bob --operation Read --topic metrics- --prefixed
        raftlog acl add --principal '*' --operation Read --topic secrets --deny
    """
    from raftlog.errors import InvalidRequestError
    from raftlog.security.acls import check_acl

    acls = _rules(Given(**given))
    try:
        for each in acls:
            check_acl(each)
    except InvalidRequestError as error:
        raise click.UsageError(str(error)) from None
    with open_admin(bootstrap) as admin:
        admin.create_acls(acls)
    _show(acls, as_json, "added")


@acl.command("list")
@_rule_options
@bootstrap_option
@json_option
def list_(bootstrap: str, as_json: bool, **given: Any) -> None:
    """List all rules, or those that are about what is named.

    \b
    Examples:
        raftlog acl list
        raftlog acl list --topic orders          every rule that applies to this topic
        raftlog acl list --principal alice
    """
    from raftlog.security.acls import Pattern

    filters = _filters(Pattern.MATCH, Given(**given))
    with open_admin(bootstrap) as admin:
        found = dict.fromkeys(each for wanted in filters for each in admin.list_acls(wanted))
    if not found and not as_json:
        note("there are no such rules")
        return
    _show(list(found), as_json, "rules")


@acl.command()
@_rule_options
@bootstrap_option
@json_option
def remove(bootstrap: str, as_json: bool, **given: Any) -> None:
    """Remove the rules with all that is named.

    \b
    Example:
        raftlog acl remove --principal alice --topic orders
    """
    from raftlog.security.acls import Pattern

    if not any(given.values()):
        raise click.UsageError("name what the rules are about: --principal, --topic, …")
    filters = _filters(Pattern.LITERAL, Given(**given))
    with open_admin(bootstrap) as admin:
        gone = admin.delete_acls(filters)
    if not gone and not as_json:
        note("there were no such rules")
        return
    _show(gone, as_json, "removed")


def _principal(text: str) -> str:
    from raftlog.security.policy import principal_of

    return text if ":" in text else principal_of(text)


def _operations(texts: tuple[str, ...]) -> list[Any]:
    from raftlog.security.acls import Operation, title

    known = {title(each).lower(): each for each in Operation if each > Operation.ANY}
    for text in texts:
        if text.lower() not in known:
            raise click.BadParameter(
                f"{text!r} is none of {', '.join(map(title, known.values()))}", param_hint="--operation"
            )
    return [known[text.lower()] for text in texts]


def _rules(given: Given) -> list[Acl]:
    from raftlog.security.acls import Acl, Pattern, Permission, ResourceType

    resources = given.resources()
    if given.principal is None or not given.operations or not resources:
        raise click.UsageError("a rule names --principal, --operation, and --topic, --group or --cluster")
    _check_prefixed(given)
    pattern = Pattern.PREFIXED if given.prefixed else Pattern.LITERAL
    return [
        Acl(
            resource_type=kind,
            name=name,
            pattern=Pattern.LITERAL if kind is ResourceType.CLUSTER else pattern,
            principal=_principal(given.principal),
            host=given.host or "*",
            operation=operation,
            permission=Permission.DENY if given.deny else Permission.ALLOW,
        )
        for kind, name in resources
        for operation in _operations(given.operations)
    ]


def _check_prefixed(given: Given) -> None:
    if given.prefixed and not (given.topics or given.groups or given.ids):
        raise click.UsageError("--prefixed needs --topic, --group or --transactional-id: the beginning of their names")


def _filters(pattern: int, given: Given) -> list[AclFilter]:
    from raftlog.security.acls import AclFilter, Operation, Pattern, Permission, ResourceType

    _check_prefixed(given)
    if given.prefixed:
        pattern = Pattern.PREFIXED
    return [
        AclFilter(
            resource_type=kind,
            name=name,
            pattern=Pattern.ANY if name is None else pattern,
            principal=None if given.principal is None else _principal(given.principal),
            host=given.host,
            operation=operation,
            permission=Permission.DENY if given.deny else Permission.ANY,
        )
        for kind, name in given.resources() or [(ResourceType.ANY, None)]
        for operation in _operations(given.operations) or [Operation.ANY]
    ]


def _show(acls: list[Acl], as_json: bool, key: str) -> None:
    from raftlog.view.access import RuleView, view_rules

    rules = view_rules(acls)
    if as_json:
        print_json({key: rules})
    elif rules:
        columns = RuleView.__struct_fields__
        print_table(columns, [tuple(getattr(each, column) for column in columns) for each in rules])
