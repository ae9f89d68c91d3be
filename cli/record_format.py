"""How `raftlog consume` writes a record: `--format` templates and JSON. Pure: records in, bytes out.

%t topic   %p partition   %o offset   %T timestamp (ms)   %k key   %v value   %h headers   %% percent
\\n newline   \\t tab   \\r return   \\0 zero byte   \\\\ backslash   \\xHH any byte
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec


class Consumed(Protocol):
    """What is shown of a record."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp_ms(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


Formatter = Callable[[Consumed], bytes]


def _headers(record: Consumed) -> bytes:
    return b",".join(name.encode("utf-8", "surrogateescape") + b"=" + (value or b"") for name, value in record.headers)


_FIELDS: dict[str, Formatter] = {
    "t": lambda record: record.topic.encode(),
    "p": lambda record: b"%d" % record.partition,
    "o": lambda record: b"%d" % record.offset,
    "T": lambda record: b"%d" % record.timestamp_ms,
    "k": lambda record: record.key or b"",
    "v": lambda record: record.value or b"",
    "h": _headers,
}
_ESCAPES = {"n": b"\n", "t": b"\t", "r": b"\r", "0": b"\0", "\\": b"\\"}
_TOKEN = re.compile(r"%(.?)|\\x([0-9a-fA-F]{2})|\\(.?)|([^%\\]+)", re.DOTALL)


def compile_format(template: str) -> Formatter:
    """Raises ValueError, which says what is wrong with the template."""
    if template == r"%v\n":  # the default, and the one that matters at a million records
        return lambda record: (record.value or b"") + b"\n"
    parts: list[bytes | Formatter] = []
    for token in _TOKEN.finditer(template):
        field, hexadecimal, escape, text = token.groups()
        if text is not None:
            parts.append(text.encode("utf-8", "surrogateescape"))
        elif hexadecimal is not None:
            parts.append(bytes.fromhex(hexadecimal))
        elif field == "%":
            parts.append(b"%")
        elif field is not None:
            if field not in _FIELDS:
                raise ValueError(f"%{field} is no field; fields are {' '.join('%' + name for name in _FIELDS)} and %%")
            parts.append(_FIELDS[field])
        elif escape in _ESCAPES:
            parts.append(_ESCAPES[escape])
        else:
            raise ValueError(rf"\{escape} is no escape; escapes are \n \t \r \0 \\ and \xHH")
    return lambda record: b"".join([part if isinstance(part, bytes) else part(record) for part in parts])


def unescape(text: str) -> bytes:
    """An argument in which `\\t`, `\\0`, `\\x1f` … stand for bytes. Raises ValueError as `compile_format`."""
    return compile_format(text.replace("%", "%%"))(_NOTHING)


class _Nothing:
    topic = ""
    partition = offset = timestamp_ms = 0
    key = value = None
    headers: Sequence[tuple[str, bytes | None]] = ()


_NOTHING = _Nothing()
_encode = msgspec.json.Encoder().encode


def format_json(record: Consumed) -> bytes:
    """One object on one line. Bytes that are not UTF-8 are base64, and `…_encoding` says so beside them."""
    shown: dict[str, object] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        **json_bytes("key", record.key),
        **json_bytes("value", record.value),
        "headers": json_headers(record.headers),
    }
    return _encode(shown) + b"\n"


def json_bytes(name: str, data: bytes | None) -> dict[str, object]:
    if data is None:
        return {name: None}
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {name: base64.b64encode(data).decode(), f"{name}_encoding": "base64"}


def json_headers(headers: Sequence[tuple[str, bytes | None]]) -> list[dict[str, object]]:
    return [
        {**json_bytes("name", name.encode("utf-8", "surrogateescape")), **json_bytes("value", value)}
        for name, value in headers
    ]
