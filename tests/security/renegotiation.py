"""A client that asks for another handshake in the middle of a connection, which Python's ssl has no call for.

Its functions are those of the OpenSSL that Python has loaded.
"""

from __future__ import annotations

import _ssl
import ctypes
import socket
import struct
from typing import Any

from raftlog.types import Endpoint

_SET_MAX_PROTO_VERSION = 124  # SSL_CTRL_SET_MAX_PROTO_VERSION
_TLS_1_2 = 0x0303  # the last version that has it
_POINTER, _INT = ctypes.c_void_p, ctypes.c_int
_CALLS: dict[str, tuple[Any, list[Any]]] = {
    "TLS_client_method": (_POINTER, []),
    "SSL_CTX_new": (_POINTER, [_POINTER]),
    "SSL_CTX_ctrl": (ctypes.c_long, [_POINTER, _INT, ctypes.c_long, _POINTER]),
    "SSL_new": (_POINTER, [_POINTER]),
    "SSL_set_fd": (_INT, [_POINTER, _INT]),
    "SSL_connect": (_INT, [_POINTER]),
    "SSL_renegotiate": (_INT, [_POINTER]),
    "SSL_do_handshake": (_INT, [_POINTER]),
    "SSL_free": (None, [_POINTER]),
    "SSL_CTX_free": (None, [_POINTER]),
    "ERR_clear_error": (None, []),
}


def _openssl() -> ctypes.CDLL:
    library = ctypes.CDLL(_ssl.__file__)
    for name, (result, arguments) in _CALLS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def renegotiates(endpoint: Endpoint, within_s: int) -> bool:
    """Whether the other end does it. Raises AssertionError where there is no connection to begin with."""
    openssl = _openssl()
    context = openssl.SSL_CTX_new(openssl.TLS_client_method())
    openssl.SSL_CTX_ctrl(context, _SET_MAX_PROTO_VERSION, _TLS_1_2, None)
    client = openssl.SSL_new(context)
    try:
        with socket.create_connection(endpoint) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", within_s, 0))
            openssl.SSL_set_fd(client, raw.fileno())
            assert openssl.SSL_connect(client) == 1, "no handshake"
            assert openssl.SSL_renegotiate(client) == 1
            return bool(openssl.SSL_do_handshake(client) == 1)
    finally:
        openssl.SSL_free(client)
        openssl.SSL_CTX_free(context)
        openssl.ERR_clear_error()  # of this thread: Python would take it for one of its own calls
