"""The TLS of one node or client: contexts made of its directory, and made anew when files there have changed.

A node's files are checked BEFORE they are used, by a handshake of the node with itself in memory: the key fits, the
chain leads to an authority that is trusted here, the time is right, and the certificate names this node. Files that do
not pass are left alone, and those in use stay in use.
"""

from __future__ import annotations

import logging
import os
import ssl
import time
from pathlib import Path
from typing import NamedTuple

from raftlog.clock import monotonic_s
from raftlog.errors import ConfigError
from raftlog.security.files import CLIENT_FILES, NODE_FILES, TRUSTED, PrivateFiles, check_private, is_private
from raftlog.security.identity import NODE, Certificate, Identity, identity_of, principal_of, why_no_node

log = logging.getLogger(__name__)

ENDS_SOON_DAYS = 30  # a certificate that ends sooner is warned of
_WARN_S = 24 * 3600.0
_LOOK_S = 1.0  # how often the files are looked at, while connections are made
_DAY_MS = 24 * 3600 * 1000
_Files = tuple[tuple[int, int, int], ...]


class _Serving(NamedTuple):
    peers: ssl.SSLContext
    clients: ssl.SSLContext
    logins: ssl.SSLContext


class _Contexts(NamedTuple):
    connecting: ssl.SSLContext
    serving: _Serving | None  # of a node only


class Credentials:
    """Of one directory. `identity`: whom its certificate names; None: it has none, or one made elsewhere.

    `permissive`: who speaks no TLS is taken too, and spoken to, while a cluster goes from plain to secured.
    """

    def __init__(self, directory: str, identity: Identity | None, *, permissive: bool = False) -> None:
        """Raises ConfigError."""
        self.directory = directory
        self.permissive = permissive
        self.identity = identity
        self._files = _files_of(Path(directory))
        self._looked_s = monotonic_s()
        self._seen = self._fresh = self._look()
        self.ends_ms = 0  # of a node: when its certificate ends; since the epoch
        self._warn_due_s = 0.0
        self._contexts = self._load_all()

    @classmethod
    def read(cls, directory: str, *, permissive: bool = False) -> Credentials:
        """Raises ConfigError."""
        from raftlog.security.certificates import read_facts  # some 12 MB, which workers do without

        files = _files_of(Path(directory))
        identity = read_facts(Path(directory) / files.certificate).identity if files else None
        return cls(directory, identity, permissive=permissive)

    @classmethod
    def of_node(cls, directory: str, node_id: int, *, permissive: bool = False) -> Credentials:
        """Raises ConfigError where these are not the node's."""
        path = Path(directory)
        if not (path / NODE_FILES.certificate).exists():
            advice = f"`raftlog security node --id {node_id}` makes it"
            raise ConfigError(f"--security {directory} has no {NODE_FILES.certificate}: {advice}")
        found = cls.read(directory, permissive=permissive)
        if found.identity is None or (found.identity.role, found.identity.name) != (NODE, str(node_id)):
            raise ConfigError(
                f"{path / NODE_FILES.certificate} is of {found.identity or 'nobody'}, not of node {node_id}"
            )
        return found

    @property
    def is_node(self) -> bool:
        return self.identity is not None and self.identity.role == NODE

    @property
    def certificate_path(self) -> Path | None:
        """None: there are authorities only."""
        return Path(self.directory) / self._files.certificate if self._files else None

    @property
    def key_is_private(self) -> bool:
        """As it is now: one that is in use already may have been opened to others since."""
        return self._files is None or is_private(Path(self.directory) / self._files.key)

    def tend(self) -> None:
        """Takes new files also while nobody connects; warns once a day of a certificate that ends soon."""
        self._current()
        now_s = monotonic_s()
        left_ms = self.ends_ms - time.time_ns() // 1_000_000
        if self.ends_ms and now_s >= self._warn_due_s and left_ms < ENDS_SOON_DAYS * _DAY_MS:
            self._warn_due_s = now_s + _WARN_S
            advice = "`raftlog security node` renews it"
            log.warning("the certificate in %s ends in %d days: %s", self.directory, left_ms // _DAY_MS, advice)

    # --- contexts ----------------------------------------------------------------------------------
    def for_peers(self) -> ssl.SSLContext:
        """Of a node's port for other nodes."""
        return self._serving().peers

    def for_clients(self) -> ssl.SSLContext:
        """Of a node's ports for raftlog's clients and other nodes."""
        return self._serving().clients

    def for_logins(self) -> ssl.SSLContext:
        """Of a node's ports where a password may stand for a certificate: Kafka's door, the HTTP address."""
        return self._serving().logins

    def connecting(self) -> ssl.SSLContext:
        """Of whoever connects."""
        return self._current().connecting

    def _serving(self) -> _Serving:
        serving = self._current().serving
        assert serving is not None, "of a node"
        return serving

    def _load_all(self) -> _Contexts:
        """Raises ConfigError."""
        connecting = self._load(_connecting(check_hostname=not self.is_node))
        if not self.is_node:
            return _Contexts(connecting, None)
        serving = _Serving(
            peers=self._load(_serving(ssl.TLSVersion.TLSv1_3, ssl.CERT_REQUIRED)),
            clients=self._load(_serving(ssl.TLSVersion.TLSv1_3, ssl.CERT_REQUIRED)),
            # They may log in with a password instead; until they have, nothing else is taken of them.
            logins=self._load(_serving(ssl.TLSVersion.TLSv1_2, ssl.CERT_OPTIONAL)),
        )
        self._meet_oneself(serving.peers, connecting)
        return _Contexts(connecting, serving)

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """Raises ConfigError."""
        folder, read = Path(self.directory), TRUSTED
        try:
            context.load_verify_locations(folder / TRUSTED)
            if self._files is not None:
                check_private(folder / self._files.key)
                read = f"{self._files.certificate} or {self._files.key}"
                context.load_cert_chain(folder / self._files.certificate, folder / self._files.key)
        except ssl.SSLError as error:
            fits = error.reason != "KEY_VALUES_MISMATCH"
            why = f"{read} is no PEM file" if fits else "its key and its certificate do not fit"
            raise ConfigError(f"{folder} cannot be used: {why}") from None
        except OSError as error:
            raise ConfigError(f"cannot read {folder}: {error.strerror}") from None
        return context

    def _meet_oneself(self, peers: ssl.SSLContext, connecting: ssl.SSLContext) -> None:
        """Raises ConfigError."""
        try:
            shown = _meet(peers, connecting)
        except ssl.SSLError as error:
            why = getattr(error, "verify_message", "") or error.reason or str(error)
            raise ConfigError(f"{self.directory} cannot be used: {why}") from None
        found = identity_of(shown)
        if found != self.identity:
            raise ConfigError(f"{self.directory} cannot be used: it is of {found or 'nobody'}, not of {self.identity}")
        self.ends_ms = ssl.cert_time_to_seconds(shown["notAfter"]) * 1000

    # --- renewal -----------------------------------------------------------------------------------
    def _current(self) -> _Contexts:
        now_s = monotonic_s()
        if now_s - self._looked_s > _LOOK_S:
            self._looked_s = now_s
            self._renew()
        return self._contexts

    def _renew(self) -> None:
        """Takes new files once they have stood there for a look: somebody may still be writing the others."""
        fresh, self._fresh = self._fresh, self._look()
        if self._fresh == self._seen or self._fresh != fresh:
            return
        self._seen = self._fresh
        try:
            self._contexts = self._load_all()
        except ConfigError as error:
            log.error("new files are not used: %s", error)
        else:
            log.info("new files in %s are used from now on", self.directory)

    def _look(self) -> _Files:
        found = []
        for name in [TRUSTED, *(self._files or ())]:
            try:
                status = os.stat(os.path.join(self.directory, name))
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(found)

    # --- the other end -----------------------------------------------------------------------------
    def why_no_node(self, certificate: Certificate, node_id: int | None = None) -> str:
        """Why the other end is not a node of this cluster; "": it is. A client without a name trusts its authority."""
        identity = self.identity
        if identity is None:
            found = identity_of(certificate)
            return "" if found is not None and found.role == NODE else "its certificate names no node"
        return why_no_node(certificate, identity.cluster, node_id)

    def principal_of(self, certificate: Certificate) -> str:
        """Whom a client's certificate names; "": nobody here may be called so."""
        assert self.identity is not None, "of a node"
        return principal_of(certificate, self.identity.cluster)


def _files_of(folder: Path) -> PrivateFiles | None:
    """None: only authorities that are trusted. Raises ConfigError where not even these are there."""
    if not (folder / TRUSTED).exists():
        raise ConfigError(f"--security {folder} has no {TRUSTED}: `raftlog security --help` says how to make it")
    return next((files for files in (NODE_FILES, CLIENT_FILES) if (folder / files.certificate).exists()), None)


def _serving(version: ssl.TLSVersion, clients: ssl.VerifyMode) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = version
    # A peer that only writes would lose what is under way when it closes: unread tickets turn that into a reset.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.verify_mode = clients
    return context


def _connecting(*, check_hostname: bool) -> ssl.SSLContext:
    """Whom a node meets is named by its number, not by its host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = check_hostname
    return context


def _meet(serving: ssl.SSLContext, connecting: ssl.SSLContext) -> Certificate:
    """Both ends of a connection that leaves no memory: whom the one that connects has met. Raises SSLError."""
    forth, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asks = connecting.wrap_bio(back, forth)
    answers = serving.wrap_bio(forth, back, server_side=True)
    for end in (asks, answers, asks, answers):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return asks.getpeercert() or {}
