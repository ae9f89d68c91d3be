"""A TCP socket under TLS, for those who use a plain one: the same calls, the same answers, never waiting.

    recv, recv_into   BlockingIOError also while the handshake is not done
    sendmsg           what has left as bytes of TLS; after a BlockingIOError it is called with the same buffers again

One that may be plain, too, is told by its first byte, and goes on as the socket that it is.

Encryption goes through memory (SSLObject, two MemoryBIOs): one system call for many records, and any loop around it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import cast

from raftlog.security.credentials import Credentials
from raftlog.security.identity import Certificate
from raftlog.types import Buffer

_RECEIVE_BYTES = 256 * 1024
_SEAL_BYTES = 256 * 1024  # encrypted at once; small messages are joined, since each record costs as much as 10 KB of it
_RECORD_BYTES = 16 * 1024

_TLS_HANDSHAKE = b"\x16"  # the first byte of a connection under TLS: neither ZeroMQ, nor Kafka, nor a stream begins so

Check = Callable[[Certificate], str]
"""Why the other end is not who it has to be; "": it is."""


class SecureSocket:
    """A connected socket under TLS, both of whose ends show certificates.

    `established` once both ends know each other. `certificate` is what the other end has shown, {} if nothing.

    `plain`: the other end speaks no TLS, and that may be: nobody is known, and nothing is encrypted.

    `holds`: something has come and was not taken, which no poll tells.
    """

    def __init__(
        self,
        connected: socket.socket,
        context: ssl.SSLContext,
        check: Check,
        *,
        server_side: bool = False,
        host: str | None = None,
        plain_too: bool = False,
    ) -> None:
        """`plain_too`: as a server it takes who speaks no TLS as well."""
        self._socket = connected
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=server_side, server_hostname=host)
        self._check = check
        self._sealed = memoryview(b"")
        self._sealed_of = 0  # bytes that were encrypted into it
        self._begun = False
        self._plain_too = plain_too
        self.plain = False
        self.established = False
        self.certificate: Certificate = {}
        self.holds = False

    def fileno(self) -> int:
        return self._socket.fileno()

    # --- the handshake -----------------------------------------------------------------------------
    def shake(self) -> bool:
        """Goes on with the handshake. Raises OSError, which says why, when it cannot succeed; see speaks_no_tls."""
        if self.established:
            return True
        if self._plain_too and not self._begun and self._socket.recv(1, socket.MSG_PEEK) not in (b"", _TLS_HANDSHAKE):
            self.plain = self.established = True
            return True
        if self._begun or self._tls.server_side:
            self._feed()
        self._begun = True
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send_out()
            return False
        except ssl.SSLError as error:
            self._send_out()  # the alert: the other end may want to know
            raise (_NoTlsError if error.reason in _NO_TLS else OSError)(_why(error)) from None
        self._send_out()
        self.certificate = self._tls.getpeercert() or {}
        why = self._check(self.certificate)
        if why:
            raise OSError(why)
        self.established = True
        self.holds = True  # what came with the last message of the handshake
        return True

    def _feed(self) -> None:
        """Raises BlockingIOError when nothing has come, ConnectionError when nothing will."""
        data = self._socket.recv(_RECEIVE_BYTES)
        if not data:
            raise ConnectionResetError("the other end has closed the connection")
        self._in.write(data)

    def _send_out(self) -> None:
        """Some kilobytes of a handshake, which fit into any socket's memory."""
        data = self._out.read()
        if data and self._socket.send(data) != len(data):
            raise OSError("the other end takes nothing")

    # --- in ----------------------------------------------------------------------------------------
    def recv(self, most: int) -> bytes:
        """b"": the other end has closed. Otherwise all that has come."""
        if not self.shake():
            raise BlockingIOError
        if self.plain:
            return self._socket.recv(most)
        found: list[bytes] = []
        while not found:
            if not self.holds and not self._receive(most):
                return b""
            try:
                while self._has_more():
                    data = self._tls.read(_RECORD_BYTES)
                    if not data:
                        return b"".join(found)  # and that is the end
                    found.append(data)
            except ssl.SSLWantReadError:
                pass
            self.holds = False
        return found[0] if len(found) == 1 else b"".join(found)

    def _has_more(self) -> bool:
        """Asked first, since to be told by an exception that there is nothing takes longer than a small record."""
        return self._in.pending > 0 or self._tls.pending() > 0

    def recv_into(self, into: memoryview) -> int:
        """0: the other end has closed. As much as there is, or as `into` takes."""
        if not self.shake():
            raise BlockingIOError
        if self.plain:
            return self._socket.recv_into(into)
        taken = 0
        try:
            while taken < len(into):
                if not self.holds and not self._receive(_RECEIVE_BYTES):
                    return taken
                read, ended = self._take(into[taken:])
                taken += read
                if ended:
                    return taken
        except BlockingIOError:
            if not taken:
                raise
        return taken

    def take_held(self, into: memoryview) -> int:
        """Likewise of what is here already. Raises BlockingIOError when that is nothing whole."""
        read, ended = self._take(into)
        if not read and not ended:
            raise BlockingIOError
        return read

    def _take(self, into: memoryview) -> tuple[int, bool]:
        """How much was there, and whether that is the end."""
        taken = 0
        try:
            while taken < len(into):
                if not self._has_more():
                    self.holds = False
                    break
                read = cast("int", self._tls.read(len(into) - taken, into[taken:]))  # into a buffer: how many bytes
                if not read:
                    return taken, True
                taken += read
        except ssl.SSLWantReadError:
            self.holds = False
        return taken, False

    def _receive(self, most: int) -> bool:
        """False: nothing more comes. Raises BlockingIOError."""
        data = self._socket.recv(most)
        self._in.write(data)
        self.holds = bool(data)
        return self.holds

    # --- out ---------------------------------------------------------------------------------------
    def sendmsg(self, buffers: Iterable[Buffer], ancillary: Iterable[object] = (), flags: int = 0) -> int:
        """As a socket's, with neither ancillary data nor flags: how many bytes of `buffers` have left."""
        if self.plain:
            return self._socket.sendmsg(buffers)
        if not self._sealed:
            self._sealed_of = self._seal(buffers)
        while self._sealed:
            sent = self._socket.send(self._sealed)
            self._sealed = self._sealed[sent:]
        return self._sealed_of

    def _seal(self, buffers: Iterable[Buffer]) -> int:
        parts: list[Buffer] = []
        size = 0
        for buffer in buffers:
            room = _SEAL_BYTES - size
            parts.append(buffer if len(buffer) <= room else memoryview(buffer)[:room])
            size += len(parts[-1])
            if size == _SEAL_BYTES:
                break
        whole = memoryview(parts[0] if len(parts) == 1 else b"".join(parts))
        at = 0
        while at < size:
            at += self._tls.write(whole[at:])  # one record of 16 KiB
        self._sealed = memoryview(self._out.read())
        return size

    def close(self) -> None:
        """Says so to the other end, if that takes no waiting."""
        with contextlib.suppress(OSError):
            if self.established and not self.plain and not self._sealed:
                with contextlib.suppress(ssl.SSLError):
                    self._tls.unwrap()
                self._send_out()
        self._socket.close()


def accept_node(connected: socket.socket, credentials: Credentials) -> SecureSocket:
    """Of another node that has connected."""
    return SecureSocket(
        connected,
        credentials.for_peers(),
        credentials.why_no_node,
        server_side=True,
        plain_too=credentials.permissive,
    )


def connect_node(connected: socket.socket, credentials: Credentials, node_id: int) -> SecureSocket:
    """To this node, and to nobody else."""
    return SecureSocket(connected, credentials.connecting(), lambda shown: credentials.why_no_node(shown, node_id))


_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")


class _NoTlsError(OSError):
    """What came is no TLS."""


def speaks_no_tls(error: OSError) -> bool:
    """Of a handshake that came to nothing: whether the other end may be one that knows nothing of TLS.

    Who hears a greeting that he does not understand says something else, or ends the connection.
    """
    return isinstance(error, _NoTlsError | ConnectionError)


def _why(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {error.verify_message.rstrip('.')}"
    reasons = {
        **dict.fromkeys(_NO_TLS, "it does not speak TLS"),
        "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it has shown no certificate",
        "UNSUPPORTED_PROTOCOL": "it speaks an old version of TLS only",
    }
    reason = error.reason or "no reason given"
    return reasons.get(reason, f"TLS: {reason.lower().replace('_', ' ')}")
