"""Requests that another site's page makes a browser send are refused; all others are not."""

from __future__ import annotations

import pytest

from raftlog.http.origin import why_refused

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"Host": "127.0.0.1:8071"}),
        ("GET", {"Host": "localhost"}),
        ("GET", {"Host": "[::1]:8071"}),
        ("GET", {"Host": "raftlog.localhost:8071", "Sec-Fetch-Site": "cross-site"}),  # a link from elsewhere
        ("POST", {"Host": "localhost:8071", **JSON}),  # curl
        ("POST", {"Host": "localhost:8071", "Content-Type": "application/json; charset=utf-8"}),
        (
            "POST",
            {"Host": "localhost:8071", "Origin": "http://localhost:8071", "Sec-Fetch-Site": "same-origin", **JSON},
        ),
    ],
)
def test_what_the_user_asks_for_is_taken(method: str, headers: dict[str, str]) -> None:
    assert why_refused(method, headers, on_loopback=True) == ""


@pytest.mark.parametrize(
    ("method", "headers", "why"),
    [
        ("GET", {"Host": "evil.example:8071"}, "a web site may hide behind it"),
        ("GET", {"Host": "localhost.evil.example"}, "a web site may hide behind it"),
        ("GET", {"Host": "1.2.3.4.evil.example"}, "a web site may hide behind it"),
        ("GET", {"Host": "[::1"}, "a web site may hide behind it"),
        ("GET", {}, "a web site may hide behind it"),
        ("POST", {"Host": "localhost:8071", "Sec-Fetch-Site": "cross-site", **JSON}, "another site"),
        ("POST", {"Host": "localhost:8071", "Sec-Fetch-Site": "same-site", **JSON}, "another site"),
        ("POST", {"Host": "localhost:8071", "Origin": "http://localhost:9000", **JSON}, "http://localhost:9000"),
        ("POST", {"Host": "localhost:8071", "Origin": "null", **JSON}, "a page of null"),
        ("POST", {"Host": "localhost:8071", "Content-Type": "text/plain"}, "only application/json"),
        ("DELETE", {"Host": "localhost:8071"}, "only application/json"),
    ],
)
def test_what_another_site_sends_is_refused(method: str, headers: dict[str, str], why: str) -> None:
    assert why in why_refused(method, headers, on_loopback=True)


def test_away_from_loopback_any_name_may_be_the_nodes() -> None:
    assert why_refused("GET", {"Host": "node1.example.com:8071"}, on_loopback=False) == ""
    foreign = {"Host": "node1.example.com:8071", "Origin": "http://evil.example", **JSON}
    assert why_refused("POST", foreign, on_loopback=False)
