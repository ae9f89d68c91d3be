"""Where the keys of whoever issues tokens come from: a file, looked at again, or a URL, fetched again by a thread.

A door waits for no fetch: it checks with the keys that it has. What cannot be read leaves those in use.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import urllib.error
import urllib.request
from typing import IO

from raftlog.clock import monotonic_s
from raftlog.errors import ConfigError
from raftlog.security.oauth import Token, TokenRules, UnknownKeyError
from raftlog.security.tokens import Keys, check_token, read_keys

log = logging.getLogger(__name__)

_FETCH_S = 3600.0  # as Kafka's sasl.oauthbearer.jwks.endpoint.refresh.ms
_FETCH_MIN_S = 30.0  # for a token with an unknown key, and after a fetch that failed
_PATIENCE_S = 10.0
_BYTES_MAX = 1024 * 1024
_LOOK_S = 1.0


def is_url(place: str) -> bool:
    return "://" in place


class KeyFile:
    """Raises ConfigError where it holds no keys at the start."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = self._look()
        self._looked_s = monotonic_s()
        self.keys: Keys = self._read()

    def renew(self) -> bool:
        """For a token with an unknown key: whether there may be others in a moment. There are at once, or never."""
        return False

    def close(self) -> None: ...

    def tend(self) -> None:
        now_s = monotonic_s()
        if now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self.keys = self._read()
        except ConfigError as error:
            log.error("new keys for tokens are not used: %s", error)
        else:
            log.info("%d keys for tokens in %s are used from now on", len(self.keys), self._path)

    def _look(self) -> tuple[int, int, int]:
        try:
            status = os.stat(self._path)
        except OSError:
            return 0, 0, 0
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _read(self) -> Keys:
        try:
            with open(self._path, "rb") as file:
                return read_keys(file.read(_BYTES_MAX), self._path)
        except OSError as error:
            raise ConfigError(f"cannot read {self._path}: {error.strerror}") from None


class KeyUrl:
    """Fetched by a thread of its own: at once, each hour, and when somebody shows a token with an unknown key."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.keys: Keys = ()
        self._wanted = threading.Event()
        self._fetching = True
        self._closed = False
        self._fetched_s = monotonic_s()
        self._thread = threading.Thread(target=self._run, name="jwks", daemon=True)
        self._thread.start()

    def renew(self) -> bool:
        """Whether there may be others in a moment."""
        if not self._fetching and monotonic_s() - self._fetched_s >= _FETCH_MIN_S:
            self._fetching = True
            self._wanted.set()
        return self._fetching

    def tend(self) -> None: ...

    def close(self) -> None:
        self._closed = True
        self._wanted.set()

    def _run(self) -> None:
        while not self._closed:
            try:
                self.keys = read_keys(_fetch(self._url), self._url)
                log.info("%d keys for tokens from %s", len(self.keys), self._url)
            except (OSError, ConfigError, ValueError) as error:
                log.error("cannot fetch keys for tokens from %s: %s", self._url, error)
            self._fetched_s = monotonic_s()
            self._fetching = False
            self._wanted.wait(_FETCH_S if self.keys else _FETCH_MIN_S)
            self._wanted.clear()
            self._fetching = True


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: object, fp: object, code: int, msg: str, headers: object, newurl: str) -> None:
        """Keys are trusted because of where they stand: nobody sends us elsewhere."""


def _fetch(url: str) -> bytes:
    opener = urllib.request.build_opener(_NoRedirect)
    answer: IO[bytes]
    with opener.open(url, timeout=_PATIENCE_S) as answer:
        return answer.read(_BYTES_MAX)


class Tokens:
    """Of one door. Raises ConfigError where a file holds no keys."""

    def __init__(self, rules: TokenRules) -> None:
        self._rules = rules
        self._source: KeyFile | KeyUrl = KeyUrl(rules.jwks) if is_url(rules.jwks) else KeyFile(rules.jwks)

    def check(self, text: str) -> Token:
        """Raises TokenError."""
        self._source.tend()
        return check_token(text, self._source.keys, self._rules, int(time.time()))

    def may_know_soon(self, error: Exception) -> bool:
        """Whether the token that was refused with `error` is worth another look in a moment."""
        return isinstance(error, UnknownKeyError) and self._source.renew()

    def close(self) -> None:
        self._source.close()
