"""Addresses of hosts, IPv4 and IPv6.

An IPv6 host is given as an address. A name is looked up as IPv4 only, so that `localhost` means 127.0.0.1 to those who
listen and to those who connect, through ZeroMQ or not.
"""

from __future__ import annotations

import contextlib
import socket
import threading

from raftlog.errors import ConfigError


def family_of(address: str) -> socket.AddressFamily:
    """Of an address, not of a name."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def url_host(host: str) -> str:
    """As ZeroMQ wants it."""
    return f"[{host}]" if ":" in host else host


def resolve(host: str) -> tuple[socket.AddressFamily, str]:
    """Family and address. May take seconds for a name. Raises ConfigError when the host has no address."""
    family = family_of(host)
    if is_address(host):
        return family, host
    try:
        return family, str(socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError) as error:
        text = f"{host} is not an IPv4 or IPv6 address or the name of a host with an IPv4 address: {error}"
        raise ConfigError(text) from None


class Address:
    """Of a host. A name is looked up in a thread, anew for each attempt, since that may take seconds."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._found: str | None = host if is_address(host) else None
        self._is_name = self._found is None
        self._thread: threading.Thread | None = None

    def look(self) -> str | None:
        """None as long as it is not known: ask again."""
        if not self._is_name:
            return self._found
        if self._thread is None:
            self._found = None
            self._thread = threading.Thread(target=self._look_up, name="look up", daemon=True)
            self._thread.start()
        if self._thread.is_alive():
            return None
        self._thread = None
        return self._found

    def _look_up(self) -> None:
        with contextlib.suppress(ConfigError):
            self._found = resolve(self._host)[1]


def is_address(host: str) -> bool:
    try:
        socket.inet_pton(family_of(host), host)
    except (OSError, ValueError):
        return False
    return True
