"""Server-sent events: blocks of text on an answer that stays open, written with the limits that every answer has.

Not a library's: a block that carries nothing but an id moves the client's place on without an event, and the limits
and the heartbeat are ours to keep (docs/decisions/0018-a-feed-of-snapshots.md).
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import orjson
from aiohttp import web

from jobsd.operations.feed import TooSlow

HEADERS = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
RETRY_MS = 2000  # what a client waits before it comes back
HEARTBEAT_S = 15.0


class EventStream:
    """One open answer. A write raises `ConnectionError` when the client has gone, `TooSlow` when it does not read."""

    def __init__(self, request: web.Request, limit_s: float) -> None:
        self.response = web.StreamResponse(headers=HEADERS)
        self._request = request
        self._limit_s = limit_s

    async def open(self) -> None:
        await self.response.prepare(self._request)
        await self._write(f"retry: {RETRY_MS}\n\n".encode())

    async def send(self, events: Iterable[tuple[str, Any]], position: str) -> None:
        """Names with what is told, as JSON. The last one leads to `position`; without any the client is only moved on.

        A client that loses the connection in between comes back with the position before, and is told again.
        """
        blocks = [b"event: %b\ndata: %b\n" % (name.encode(), orjson.dumps(data)) for name, data in events]
        await self._write(b"\n".join([*blocks[:-1], (blocks or [b":\n"])[-1] + b"id: %b\n\n" % position.encode()]))

    async def _write(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(self._limit_s):
                await self.response.write(data)
        except TimeoutError as late:
            if self._request.transport is not None:
                self._request.transport.abort()
            raise TooSlow from late
