"""A flood of clients that say nothing, or never end, keeps a daemon neither from its work nor from its operators."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import psutil
import pytest

from tests.support.daemon import Daemon
from tests.support.wire import wire

PLACES = 200  # over TCP
HEADS = (b"", b"GET /livez HT", b"POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
PIPELINED = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500
GROWTH = 64 << 20  # bytes; 250 connections and their buffers take far less


@pytest.mark.req("E13", "P11")
@pytest.mark.fault(42, 43)
async def test_a_flood_of_silent_and_endless_clients_holds_up_neither_work_nor_operators(
    daemon: Callable[..., Awaitable[Daemon]],
) -> None:
    node = await daemon('[jobs.work]\ncommand = ["true"]\n')
    url = (await node.seen("ready"))["url"]
    before = psutil.Process(node.pid).memory_info().rss

    async with AsyncExitStack() as stack:
        flood = [await stack.enter_async_context(wire(url)) for _ in range(PLACES + 50)]
        await asyncio.gather(*(one.send(HEADS[n % len(HEADS)]) for n, one in enumerate(flood)), return_exceptions=True)
        turned = await flood[-1].rest()
        alive, _ = await node.request("GET", "/livez")
        run = await node.trigger("work")
        await node.seen("run_completed", run=run)
        grown = psutil.Process(node.pid).memory_info().rss - before

    async with wire(url) as one:
        await one.send(PIPELINED)
        answer = await one.answer()

    assert turned.startswith(b"HTTP/1.1 503")
    assert alive == 200
    assert grown < GROWTH
    assert answer.split(b" ")[1] in (b"200", b"503")  # as the flood's places come free
    assert (await node.request("GET", "/readyz"))[0] == 200
