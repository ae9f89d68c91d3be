"""`raftlog quota`: how many bytes a second who may send and take."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from .connect import open_admin
from .options import bootstrap_option, json_option
from .output import note, print_json, print_table

if TYPE_CHECKING:
    from raftlog.security.quotas import Entity, EntityFilter, Quota

ANY = "*"
_RATES = ("producer_byte_rate", "consumer_byte_rate")


@click.group()
def quota() -> None:
    """Limit how many bytes a second who may send and take.

    A quota is about a user, a client id, or both together. The most special one that fits a client counts, one with a
    user before one with a client id alone. Who is above it is held back, as long as it takes, and refused nothing.

    \b
    Example:
        raftlog quota set --principal alice --producer-byte-rate 1000000
        raftlog quota set --client-id '*' --consumer-byte-rate 5000000
        raftlog quota list
    """


def _entity_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        [
            click.option("--principal", metavar="NAME", help="A user; `*` is each user without an own quota."),
            click.option("--client-id", metavar="NAME", help="A client id; `*` is each one without an own quota."),
        ]
    ):
        command = option(command)
    return command


@quota.command("set")
@_entity_options
@click.option("--producer-byte-rate", type=click.IntRange(min=1), metavar="BYTES", help="Sent in a second at most.")
@click.option("--consumer-byte-rate", type=click.IntRange(min=1), metavar="BYTES", help="Taken in a second at most.")
@bootstrap_option
@json_option
def set_(principal: str | None, client_id: str | None, bootstrap: str, as_json: bool, **rates: int | None) -> None:
    """Set a quota, in place of what there was.

    All clients with the same user share a quota of the user, all with the same client id one of the client id; with
    `*` each has its own.

    \b
    Examples:
        raftlog quota set --principal alice --producer-byte-rate 1000000
        raftlog quota set --principal '*' --client-id reports --consumer-byte-rate 500000
    """
    values: dict[str, float | None] = {key: value for key, value in rates.items() if value is not None}
    if not values:
        raise click.UsageError("a quota names --producer-byte-rate, --consumer-byte-rate or both")
    entity = _entity(principal, client_id)
    with open_admin(bootstrap) as admin:
        admin.alter_quotas([(entity, values)])
        found = [each for each in admin.list_quotas(_filter(principal, client_id)) if each.entity == entity]
    _show(found, as_json, "quotas")


@quota.command("list")
@_entity_options
@bootstrap_option
@json_option
def list_(principal: str | None, client_id: str | None, bootstrap: str, as_json: bool) -> None:
    """List quotas: all, or those about what is named.

    \b
    Examples:
        raftlog quota list
        raftlog quota list --principal alice
    """
    with open_admin(bootstrap) as admin:
        found = admin.list_quotas(_filter(principal, client_id))
    if not found and not as_json:
        note("there are no such quotas")
        return
    _show(found, as_json, "quotas")


@quota.command()
@_entity_options
@click.option("--producer-byte-rate", is_flag=True, help="This one only.")
@click.option("--consumer-byte-rate", is_flag=True, help="This one only.")
@bootstrap_option
@json_option
def remove(principal: str | None, client_id: str | None, bootstrap: str, as_json: bool, **wanted: bool) -> None:
    """Remove the quotas of a user, a client id, or both together.

    \b
    Examples:
        raftlog quota remove --principal alice
        raftlog quota remove --client-id '*' --consumer-byte-rate
    """
    entity = _entity(principal, client_id)
    keys = [key for key, named in wanted.items() if named] or list(_RATES)
    with open_admin(bootstrap) as admin:
        found = admin.list_quotas(_filter(principal, client_id))
        gone = [each for each in found if each.entity == entity and each.key in keys]
        if gone:
            admin.alter_quotas([(entity, dict.fromkeys([each.key for each in gone]))])
    if not gone and not as_json:
        note("there were no such quotas")
        return
    _show(gone, as_json, "removed")


def _entity(principal: str | None, client_id: str | None) -> Entity:
    from raftlog.errors import InvalidRequestError
    from raftlog.security.quotas import check_entity

    if principal is None and client_id is None:
        raise click.UsageError("name whose quota it is: --principal, --client-id or both")
    try:
        return check_entity([(kind, name) for kind, name in _named(principal, client_id).items()])
    except InvalidRequestError as error:
        raise click.UsageError(str(error)) from None


def _named(principal: str | None, client_id: str | None) -> dict[str, str | None]:
    from raftlog.security.quotas import CLIENT_ID, USER

    found = {}
    if principal is not None:
        found[USER] = None if principal == ANY else principal.removeprefix("User:")
    if client_id is not None:
        found[CLIENT_ID] = None if client_id == ANY else client_id
    return found


def _filter(principal: str | None, client_id: str | None) -> EntityFilter:
    from raftlog.security.quotas import EntityFilter

    return EntityFilter(names=_named(principal, client_id))


def _show(quotas: list[Quota], as_json: bool, key: str) -> None:
    from raftlog.security.quotas import CLIENT_ID, USER

    rates: dict[Entity, dict[str, int]] = {}
    for each in quotas:
        rates.setdefault(each.entity, {})[each.key] = int(each.value)
    rows = []
    for entity, values in sorted(rates.items(), key=repr):
        names = {kind: ANY if name is None else name for kind, name in entity}
        rows.append((names.get(USER), names.get(CLIENT_ID), *(values.get(rate) for rate in _RATES)))
    if as_json:
        print_json({key: [dict(zip(("principal", "client_id", *_RATES), row, strict=True)) for row in rows]})
    elif rows:
        print_table(("principal", "client id", *(rate.replace("_", " ") for rate in _RATES)), rows)
