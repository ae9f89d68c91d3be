"""/api/records/: what is asked of records, and their bytes as a file."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from aiohttp import web

from raftlog.errors import InvalidRequestError
from raftlog.http.logins import Asker
from raftlog.http.questions import Questions
from raftlog.http.records import RecordsFound, RecordsWanted
from raftlog.limits import OFFSET_MAX
from raftlog.types import TopicPartition

_TIME_MAX_MS = 2**63 - 1
# Whatever the bytes are, a browser saves them and runs nothing of them.
_FILE_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
}


ASKER = "asker"


def asker_of(request: web.Request) -> Asker | None:
    """Who has said who he is; None where nobody has to."""
    asker: Asker | None = request.get(ASKER)
    return asker


class RecordRoutes:
    def __init__(self, questions: Questions) -> None:
        self._questions = questions

    async def find(self, request: web.Request) -> RecordsFound:
        wanted = parse_wanted(request.query)
        return await self._questions.records(asker_of(request), request.match_info["topic"], wanted)

    async def part(self, request: web.Request) -> web.Response:
        """The key or the value of one record: 204 where it is null."""
        found = request.match_info
        place = TopicPartition(found["topic"], _number("partition", found["partition"]))
        offset = _number("offset", found["offset"])
        record = await self._questions.record(asker_of(request), place, offset)
        body: bytes | None = record.key if found["part"] == "key" else record.value
        if body is None:
            return web.Response(status=HTTPStatus.NO_CONTENT, headers=_FILE_HEADERS)
        name = f"{place}-{offset}.{found['part']}"
        headers = {**_FILE_HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
        return web.Response(body=body, content_type="application/octet-stream", headers=headers)


def parse_wanted(query: Mapping[str, str]) -> RecordsWanted:
    """Raises InvalidRequestError."""
    try:
        wanted = msgspec.convert(dict(query), RecordsWanted, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"{error}".replace("$.", "")) from None
    for name, value, most in (
        ("partition", wanted.partition, OFFSET_MAX),
        ("offset", wanted.offset, OFFSET_MAX),
        ("time_ms", wanted.time_ms, _TIME_MAX_MS),
    ):
        if value is not None and not 0 <= value <= most:
            raise InvalidRequestError(f"{name} lies between 0 and {most}")
    return wanted


def _number(name: str, text: str) -> int:
    if not (text.isdecimal() and int(text) <= OFFSET_MAX):
        raise InvalidRequestError(f"{name} is a number, not {text!r}")
    return int(text)
