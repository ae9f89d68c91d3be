"""`raftlog user`: who may log in with a password."""

from __future__ import annotations

import sys
from typing import IO

import click

from .connect import open_admin
from .options import bootstrap_option, json_option
from .output import note, print_json, print_table

_password_file_option = click.option(
    "--new-password-file",
    "password_file",
    type=click.File("r"),
    metavar="FILE",
    help="Read the user's password from the first line of FILE; `-` is stdin. Default: it is asked for.",
)


@click.group()
def user() -> None:
    """Create, list and delete users, and change their passwords.

    With the first user the cluster closes: everybody has to log in, and may do what a rule allows. The first one has
    to be a superuser: start the nodes with `--superuser NAME`.

    \b
    Example:
        raftlog user create root
        raftlog user create alice
        raftlog acl add --principal alice --operation Read --topic orders
    """


@user.command()
@click.argument("name", metavar="NAME")
@_password_file_option
@bootstrap_option
@json_option
def create(name: str, password_file: IO[str] | None, bootstrap: str, as_json: bool) -> None:
    """Make a user who logs in with a password.

    Kept is what SCRAM-SHA-256 and SCRAM-SHA-512 need to know it again, never the password.

    \b
    Examples:
        raftlog user create alice
        head -c 24 /dev/urandom | base64 | tee alice.password | raftlog user create alice --new-password-file -
    """
    with open_admin(bootstrap) as admin:
        if any(each.name == name for each in admin.list_users()):
            raise click.UsageError(f"user {name} is there already; `raftlog user password {name}` changes the password")
        admin.create_user(name, _password(password_file))
    _say(as_json, {"user": name, "created": True}, f"created user {name}")


@user.command()
@click.argument("name", metavar="NAME")
@_password_file_option
@bootstrap_option
@json_option
def password(name: str, password_file: IO[str] | None, bootstrap: str, as_json: bool) -> None:
    """Give a user another password.

    Sessions of before end within seconds.

    \b
    Example:
        raftlog user password alice
    """
    with open_admin(bootstrap) as admin:
        if all(each.name != name for each in admin.list_users()):
            raise click.UsageError(f"there is no user {name}; `raftlog user create {name}` makes one")
        admin.create_user(name, _password(password_file))
    _say(as_json, {"user": name, "changed": True}, f"user {name} has a new password")


@user.command("list")
@bootstrap_option
@json_option
def list_(bootstrap: str, as_json: bool) -> None:
    """List the users who log in with a password.

    \b
    Example:
        raftlog user list
    """
    from raftlog.view.access import user_list

    with open_admin(bootstrap) as admin:
        listed = user_list(admin)
    if as_json:
        print_json(listed)
    elif listed.users:
        print_table(("user", "mechanisms"), [(each.user, ", ".join(each.mechanisms)) for each in listed.users])
    else:
        note("there are no users: everybody may come in")


@user.command()
@click.argument("name", metavar="NAME")
@bootstrap_option
@json_option
def delete(name: str, bootstrap: str, as_json: bool) -> None:
    """Delete a user.

    Its sessions end within seconds; rules about it stay.

    \b
    Example:
        raftlog user delete alice
    """
    with open_admin(bootstrap) as admin:
        admin.delete_user(name)
    _say(as_json, {"user": name, "deleted": True}, f"deleted user {name}")


def _password(file: IO[str] | None) -> str:
    if file is not None:
        line: str = file.readline()
        return line.rstrip("\r\n")
    if not sys.stdin.isatty():
        raise click.UsageError("no terminal to ask for the password: give --new-password-file FILE, or - for stdin")
    found: str = click.prompt("password", hide_input=True, confirmation_prompt=True, err=True)
    return found


def _say(as_json: bool, told: dict[str, object], text: str) -> None:
    if as_json:
        print_json(told)
    else:
        note(text)
