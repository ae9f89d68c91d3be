"""What the HTTP address asks its supervisor, over a real socket."""

from __future__ import annotations

import asyncio
import socket

import aiohttp

from raftlog.http.address import HttpAddress
from raftlog.protocol.report import NodeReport
from raftlog.types import Endpoint

REPORT = NodeReport(node_id=7, cluster_id="", obstacles=["it is starting"], replicas=[])


def test_those_who_ask_at_the_same_time_share_one_question() -> None:
    asked = 0
    may_answer = asyncio.Event()

    async def ask() -> NodeReport:
        nonlocal asked
        asked += 1
        await may_answer.wait()
        return REPORT

    async def get(url: str) -> tuple[int, object]:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status, await answer.json()

    async def check() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/health/"
        address = HttpAddress(Endpoint("127.0.0.1", 1), ".", ask, read_only=True)
        await address.open(listener)
        waiting = [asyncio.create_task(get(url + "ready")) for _ in range(20)]
        while not asked:
            await asyncio.sleep(0.01)
        waiting.append(asyncio.create_task(get(url + "live")))
        await asyncio.sleep(0.1)
        assert asked == 1
        may_answer.set()
        *ready, live = await asyncio.gather(*waiting)
        assert live == (200, {"live": True, "node": 7})
        assert set(map(str, ready)) == {str((503, {"ready": False, "node": 7, "reasons": ["it is starting"]}))}
        assert (await get(url + "live"))[0] == 200
        assert asked == 2, "what was said before is not said again"
        await address.close()

    asyncio.run(check())
