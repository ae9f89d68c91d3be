"""Records are written as the template or JSON says, whatever bytes they hold."""

from __future__ import annotations

import base64
import json
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftlog_cli.record_format import compile_format, format_json, unescape


class Example(NamedTuple):
    topic: str = "orders"
    partition: int = 2
    offset: int = 17
    timestamp_ms: int = 1_700_000_000_123
    key: bytes | None = b"k"
    value: bytes | None = b"v"
    headers: list[tuple[str, bytes | None]] = []


@pytest.mark.parametrize(
    ("template", "written"),
    [
        (r"%v\n", b"v\n"),
        (r"%t %p %o %k %v\n", b"orders 2 17 k v\n"),
        (r"%T", b"1700000000123"),
        (r"100%% \\n", rb"100% \n"),
        (r"%k\t%v\0\x1f\xFF\r", b"k\tv\0\x1f\xff\r"),
        ("é%v", "év".encode()),
        ("", b""),
    ],
)
def test_templates(template: str, written: bytes) -> None:
    assert compile_format(template)(Example()) == written


def test_null_is_written_as_nothing_and_headers_as_pairs() -> None:
    record = Example(key=None, value=None, headers=[("a", b"1"), ("b", None)])
    assert compile_format("<%k|%v|%h>")(record) == b"<||a=1,b=>"
    assert compile_format(r"%v\n")(record) == b"\n"


@pytest.mark.parametrize(
    ("template", "said"), [("%x", "%x is no field"), ("a%", "% is no field"), (r"\q", r"\q is no"), ("\\", "no escape")]
)
def test_a_template_that_means_nothing_is_refused(template: str, said: str) -> None:
    with pytest.raises(ValueError) as error:
        compile_format(template)
    assert said in str(error.value)


def test_separators_are_unescaped() -> None:
    assert unescape(r"\t") == b"\t"
    assert unescape("%") == b"%"
    assert unescape("::") == b"::"


@given(key=st.none() | st.binary(max_size=20), value=st.none() | st.binary(max_size=40), text=st.text(max_size=20))
def test_json_is_one_line_that_gives_the_same_bytes_back(key: bytes | None, value: bytes | None, text: str) -> None:
    line = format_json(Example(key=key, value=value, headers=[("h", text.encode())]))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    shown = json.loads(line)
    assert _bytes(shown, "key") == key
    assert _bytes(shown, "value") == value
    assert _bytes(shown["headers"][0], "value") == text.encode()
    assert (shown["topic"], shown["partition"], shown["offset"]) == ("orders", 2, 17)


def _bytes(shown: dict[str, str | None], name: str) -> bytes | None:
    text = shown[name]
    if text is None:
        return None
    return base64.b64decode(text) if shown.get(f"{name}_encoding") == "base64" else text.encode()


def test_text_stays_text_and_binary_is_marked() -> None:
    assert json.loads(format_json(Example(value=b"dGV4dA==")))["value"] == "dGV4dA=="
    shown = json.loads(format_json(Example(value=b"\xff\x00")))
    assert (shown["value"], shown["value_encoding"]) == ("/wA=", "base64")
