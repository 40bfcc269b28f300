"""A webhook on the loopback that says what it was sent and answers as told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Webhook:
    """`posts` are the JSON bodies in the order of their arrival."""

    address: str = ""  # host:port
    posts: "asyncio.Queue[dict[str, Any]]" = field(default_factory=asyncio.Queue)
    status: int = 200
    hang: asyncio.Event = field(default_factory=asyncio.Event)  # answers only once it is set

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json() if request.method == "POST" else {}
        self.posts.put_nowait({**body, "path": request.path, "method": request.method})
        await self.hang.wait()
        return web.Response(status=self.status, headers={"Location": "/elsewhere"} if self.status == 302 else {})


@asynccontextmanager
async def webhook(*, hang: bool = False) -> AsyncIterator[Webhook]:
    hook = Webhook()
    if not hang:
        hook.hang.set()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", hook.answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    hook.address = f"{host}:{port}"
    try:
        yield hook
    finally:
        hook.hang.set()
        await runner.cleanup()
