"""Passwords at the HTTP address: proved once, guessed slowly. Without a socket."""

from __future__ import annotations

import asyncio
import base64
from http import HTTPStatus
from pathlib import Path

import pytest

from raftlog.http import logins as http_logins
from raftlog.http.logins import HttpLogins, NotLoggedInError
from raftlog.limits import FAILED_LOGINS_WAITING_MAX
from raftlog.security.audit import Event
from raftlog.security.credentials import Credentials
from raftlog.security.passwords import make_credential
from raftlog.security.policy import Access, Security, User
from raftlog.security.scram import Mechanism
from tests.security.made import Made

GOOD = make_credential(Mechanism.SCRAM_SHA_256, "right")


def users(epoch: int) -> Security:
    return Security(offset=epoch, users={"alice": User(credentials=(GOOD,), epoch=epoch)}, secret=b"secret")


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HttpLogins:
    monkeypatch.setattr(http_logins, "FAILED_LOGIN_S", 0.01)
    events: list[Event] = []
    made = HttpLogins(Access(certified=True), Credentials.of_node(Made(tmp_path).node(1), 1), events.append)
    made.secure(users(5))
    return made


def status(logins: HttpLogins, headers: dict[str, str], host: str = "10.0.0.7") -> HTTPStatus:
    try:
        asyncio.run(logins.who(headers, {}, host))
    except NotLoggedInError as error:
        return error.status
    return HTTPStatus.OK


def test_a_password_is_proved_once_for_each_change_of_its_user(
    logins: HttpLogins, monkeypatch: pytest.MonkeyPatch
) -> None:
    proved = []
    proves = http_logins.proves
    monkeypatch.setattr(http_logins, "proves", lambda *given: proved.append(given) or proves(*given))
    for _ in range(3):
        assert status(logins, basic("alice", "right")) == HTTPStatus.OK
    assert len(proved) == 1
    logins.secure(users(6))
    assert status(logins, basic("alice", "right")) == HTTPStatus.OK
    assert len(proved) == 2
    logins.secure(Security(offset=7, secret=b"secret"))
    assert status(logins, basic("alice", "right")) == HTTPStatus.UNAUTHORIZED


@pytest.mark.parametrize("given", ["Basic", "Basic !", "Basic YQ==", "Bearer YWxpY2U6cmlnaHQ=", "Basic /w==", "\udcff"])
def test_what_is_no_password_is_refused(logins: HttpLogins, given: str) -> None:
    assert status(logins, {"Authorization": given}) == HTTPStatus.UNAUTHORIZED


def test_only_so_many_guesses_of_one_address_wait(logins: HttpLogins) -> None:
    more = 5

    async def guess() -> list[object]:
        guesses = [
            logins.who(basic("alice", f"wrong-{number}"), {}, "10.0.0.7")
            for number in range(FAILED_LOGINS_WAITING_MAX + more)
        ]
        return await asyncio.gather(
            *guesses, logins.who(basic("alice", "right"), {}, "10.0.0.8"), return_exceptions=True
        )

    *wrong, right = asyncio.run(guess())
    statuses = [error.status for error in wrong if isinstance(error, NotLoggedInError)]
    assert statuses.count(HTTPStatus.TOO_MANY_REQUESTS) == more
    assert statuses.count(HTTPStatus.UNAUTHORIZED) == FAILED_LOGINS_WAITING_MAX
    assert not isinstance(right, BaseException)
    assert status(logins, basic("alice", "right")) == HTTPStatus.OK, "nothing is held against it afterwards"


def test_nobody_is_let_in_before_the_node_knows_its_users(tmp_path: Path) -> None:
    early = HttpLogins(Access(certified=True), Credentials.of_node(Made(tmp_path).node(1), 1), lambda event: None)
    assert status(early, basic("alice", "right")) == HTTPStatus.SERVICE_UNAVAILABLE
