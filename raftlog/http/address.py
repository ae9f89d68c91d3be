"""What is served at a node's HTTP address: health, /api/, the console. With --security under TLS, and for users only.

GET /health/live            the supervisor answers
GET /health/ready           200, or 503 with the reasons why this node should get no work
GET /metrics                what Prometheus scrapes, as text or OpenMetrics
GET /api/cluster, …         JSON, as the command line prints it with --json
GET /api/records/TOPIC, …   records, for people who look at some
POST /api/acts/NAME         changes, first as a preview; none where it is read only
GET /                       the console, for browsers
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import msgspec
from aiohttp import web

import raftlog
from raftlog.errors import ErrorCode, RaftlogError
from raftlog.http.acts import parse_act
from raftlog.http.console import ConsolePages
from raftlog.http.logins import Asker, HttpLogins, NotLoggedInError
from raftlog.http.metrics import Scrape, render
from raftlog.http.origin import why_refused
from raftlog.http.processes import Processes
from raftlog.http.questions import Questions
from raftlog.http.readiness import why_not_ready
from raftlog.http.record_routes import ASKER, RecordRoutes, asker_of
from raftlog.http.tls_connections import TlsConnections
from raftlog.limits import HTTP_BODY_BYTES_MAX, HTTP_REPORT_S
from raftlog.protocol.report import NodeReport
from raftlog.types import Endpoint

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_PATHS = """raftlog: a node's HTTP address

/health/live      whether the node's main process answers
/health/ready     whether the node should get work, and why not
/metrics          for Prometheus
/api/cluster      as `raftlog cluster status --json`
/api/doctor       as `raftlog doctor --json`
/api/topics       as `raftlog topic list --json`
/api/topics/NAME  as `raftlog topic describe NAME --json`
/api/groups       as `raftlog group list --json`
/api/groups/NAME  as `raftlog group describe NAME --json`
/api/throttled    clients that quotas have held back at this node
/api/users        as `raftlog user list --json`
/api/acls         as `raftlog acl list --json`
/api/records/NAME newest records; ?partition= offset= time_ms= search= key= limit=
/                 the console, in a browser
"""
_STATUSES = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: HTTPStatus.NOT_FOUND,
    ErrorCode.GROUP_ID_NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorCode.RESOURCE_NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorCode.OFFSET_OUT_OF_RANGE: HTTPStatus.NOT_FOUND,
    ErrorCode.INVALID_REQUEST: HTTPStatus.BAD_REQUEST,
    ErrorCode.INVALID_TOPIC_EXCEPTION: HTTPStatus.BAD_REQUEST,
    ErrorCode.INVALID_CONFIG: HTTPStatus.BAD_REQUEST,
    ErrorCode.INVALID_PARTITIONS: HTTPStatus.BAD_REQUEST,
    ErrorCode.INVALID_REPLICATION_FACTOR: HTTPStatus.BAD_REQUEST,
    ErrorCode.POLICY_VIOLATION: HTTPStatus.BAD_REQUEST,
    ErrorCode.TOPIC_ALREADY_EXISTS: HTTPStatus.CONFLICT,
    ErrorCode.NON_EMPTY_GROUP: HTTPStatus.CONFLICT,
    ErrorCode.TOPIC_AUTHORIZATION_FAILED: HTTPStatus.FORBIDDEN,
    ErrorCode.GROUP_AUTHORIZATION_FAILED: HTTPStatus.FORBIDDEN,
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED: HTTPStatus.FORBIDDEN,
}
_FOR_ANY_HOST = ("/health/", "/metrics")
_HEALTH = "/health/"
_UNTOLD = "the reasons are for users who may Describe the cluster"
_SHUTDOWN_S = 1.0
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="raftlog", charset="UTF-8"'}


class HttpAddress:
    """Serves what `ask` says of this node, and what the cluster answers a client of the node at `node`."""

    def __init__(
        self,
        node: Endpoint,
        data: str,
        ask: Callable[[], Awaitable[NodeReport]],
        *,
        read_only: bool,
        logins: HttpLogins | None = None,
    ) -> None:
        """`data`: the node's directory, for what is free there. `read_only`: whoever asks can change nothing.
        `logins`: who asks has to say who he is, under TLS; None: nobody is asked.
        """
        self._ask = ask
        self._data = data
        self._read_only = read_only
        self._logins = logins
        self._connections: TlsConnections | None = None
        self._questions = Questions(node)
        self._processes = Processes()
        self._asking: asyncio.Future[NodeReport] | None = None
        self._pages = ConsolePages()
        self._on_loopback = True
        records = RecordRoutes(self._questions)
        middlewares = [self._refuse_others, self._ask_who, _answer_errors]
        app = web.Application(middlewares=middlewares, client_max_size=HTTP_BODY_BYTES_MAX)
        app.add_routes(
            [
                web.get("/", self._index),
                *self._pages.routes(),
                web.get("/health/live", self._live),
                web.get("/health/ready", self._ready),
                web.get("/metrics", self._metrics),
                web.get("/api/cluster", _json(self._questions.cluster)),
                web.get("/api/doctor", _json(self._questions.doctor)),
                web.get("/api/topics", _json(self._questions.topics)),
                web.get("/api/topics/{name:.+}", _named(self._questions.topic)),
                web.get("/api/console", self._about),
                web.get("/api/throttled", self._throttled),
                web.get("/api/summaries", _json(self._questions.summaries)),
                web.get("/api/records/{topic}", _found(records.find)),
                web.get("/api/records/{topic}/{partition}/{offset}/{part:key|value}", records.part),
                web.post("/api/acts/{name}", self._act),
                web.get("/api/users", _json(self._questions.users)),
                web.get("/api/acls", _json(self._questions.acls)),
                web.get("/api/groups", _json(self._questions.groups)),
                web.get("/api/groups/{name:.+}", _named(self._questions.group)),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)

    async def open(self, listener: socket.socket) -> None:
        self._on_loopback = ipaddress.ip_address(listener.getsockname()[0]).is_loopback
        await self._runner.setup()
        if self._logins is None:
            await web.SockSite(self._runner, listener).start()
            return
        assert self._runner.server is not None, "it is set up"
        self._connections = TlsConnections(listener, self._logins.credentials, self._runner.server)
        self._connections.open()

    async def close(self) -> None:
        if self._connections is not None:
            await self._connections.close()
        await self._runner.cleanup()
        self._questions.close()
        self._processes.close()
        if self._logins is not None:
            self._logins.close()

    async def _report(self) -> NodeReport:
        """One question to the supervisor for all who ask at the same time. Raises TimeoutError: it hangs."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(asyncio.wait_for(self._ask(), HTTP_REPORT_S))
        return await asyncio.shield(self._asking)

    @web.middleware
    async def _refuse_others(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Health is for load balancers, which give a name of their own."""
        if not request.path.startswith(_FOR_ANY_HOST):
            why = why_refused(request.method, request.headers, on_loopback=self._on_loopback)
            if why:
                self._note(request, why)
                return _forbidden(why)
        return await handler(request)

    @web.middleware
    async def _ask_who(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Probes of health need no user: they are told less."""
        if self._logins is None:
            return await handler(request)
        assert self._connections is not None, "it is open"
        try:
            transport = request.transport
            certificate = transport.get_extra_info("peercert") if transport is not None else None
            request[ASKER] = await self._logins.who(request.headers, certificate or {}, request.remote or "")
            self._connections.know(transport)
            return await handler(request)
        except NotLoggedInError as error:
            if request.path.startswith(_HEALTH):
                answer = await handler(request)
            else:
                headers = {**_HEADERS, **(_CHALLENGE if error.status == HTTPStatus.UNAUTHORIZED else {})}
                body = {"error": "UNAUTHORIZED", "text": str(error)}
                answer = _encoded(body, error.status, headers)
        answer.force_close()  # one answer for each connection of somebody who is not known
        return answer

    def _may_describe_cluster(self, request: web.Request) -> bool:
        """Whoever asks, where nobody has to say who he is."""
        if self._logins is None:
            return True
        asker = asker_of(request)
        return asker is not None and self._logins.may_describe_cluster(asker)

    def _note(self, request: web.Request, why: str = "") -> None:
        if self._logins is not None:
            what = f"{request.method} {request.path}"
            self._logins.note_refused(asker_of(request), request.remote or "", what, why)

    async def _index(self, request: web.Request) -> web.Response:
        if "text/html" in request.headers.get("Accept", ""):
            return self._pages.document()
        return web.Response(text=_PATHS, headers=_HEADERS)

    async def _about(self, request: web.Request) -> web.Response:
        report = await self._report()
        asker = asker_of(request)
        return _encoded(
            {
                "node": report.node_id,
                "version": raftlog.__version__,
                "read_only": self._read_only,
                "principal": asker.principal if asker else "",
            }
        )

    async def _throttled(self, request: web.Request) -> web.Response:
        """It names users: none to who may not see the cluster."""
        report = await self._report()
        throttled = report.figures.throttled() if self._may_describe_cluster(request) else []
        return _encoded({"node": report.node_id, "throttled": throttled})

    async def _act(self, request: web.Request) -> web.Response:
        if self._read_only:
            why = "nothing can be changed at this address: it is --http-read-only"
            self._note(request, why)
            return _forbidden(why)
        name = request.match_info["name"]
        carry_out = parse_act(name, await request.read())
        asker = asker_of(request)
        effect = await self._questions.act(asker, carry_out)
        if effect.done:
            who = f"{asker.principal} at {request.remote}" if asker else request.remote
            log.info("%s, from %s: %s", name, who, " ".join(effect.says))
        return _encoded(effect)

    async def _live(self, _: web.Request) -> web.Response:
        report = await self._report()
        return _encoded({"live": True, "node": report.node_id})

    async def _ready(self, request: web.Request) -> web.Response:
        report = await self._report()
        reasons = why_not_ready(report)
        if reasons and not self._may_describe_cluster(request):
            reasons = [_UNTOLD]  # they name topics
        status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        return _encoded({"ready": not reasons, "node": report.node_id, "reasons": reasons}, status)

    async def _metrics(self, request: web.Request) -> web.Response:
        if not self._may_describe_cluster(request):
            self._note(request)
            return _forbidden("metrics name topics, groups and clients: they are for who may Describe the cluster")
        asked_ns = time.time_ns()  # BEFORE all that takes time: Prometheus dates what it gets by when it asked
        report = await self._report()
        scrape = Scrape(
            report=report,
            ready=not why_not_ready(report),
            lags=await self._questions.lags(report.node_id) if report.cluster_id else None,
            usages=self._processes.look(report.processes),
            disk=_volume(self._data),
            now_ms=asked_ns // 1_000_000,
        )
        body, content_type = render(scrape, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": content_type})


def _volume(directory: str) -> tuple[int, int] | None:
    try:
        volume = os.statvfs(directory)
    except OSError:
        return None
    return volume.f_frsize * volume.f_blocks, volume.f_frsize * volume.f_bavail


def _json(ask: Callable[[Asker | None], Awaitable[object]]) -> Handler:
    return _found(lambda request: ask(asker_of(request)))


def _named(ask: Callable[[Asker | None, str], Awaitable[object]]) -> Handler:
    return _found(lambda request: ask(asker_of(request), request.match_info["name"]))


def _found(ask: Callable[[web.Request], Awaitable[object]]) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        return _encoded(await ask(request))

    return answer


def _forbidden(why: str) -> web.Response:
    return _encoded({"error": "FORBIDDEN", "text": why}, HTTPStatus.FORBIDDEN)


def _encoded(value: object, status: int = HTTPStatus.OK, headers: Mapping[str, str] = _HEADERS) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value) + b"\n", status=status, content_type="application/json", headers=headers
    )


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What goes wrong is an answer that says why."""
    try:
        return await handler(request)
    except RaftlogError as error:
        status = _STATUSES.get(error.code, HTTPStatus.SERVICE_UNAVAILABLE)
        return _encoded({"error": error.code.name, "text": str(error)}, status)
    except TimeoutError:
        text = f"the node's main process did not answer within {HTTP_REPORT_S:.0f} s"
        return _encoded({"error": ErrorCode.REQUEST_TIMED_OUT.name, "text": text}, HTTPStatus.SERVICE_UNAVAILABLE)
