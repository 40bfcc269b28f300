"""How long and how many clients may keep us waiting. aiohttp itself waits for ever on a body or a reader that drips."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Patience:
    """Limits of one listener, in seconds, connections and bytes."""

    head_s: float = 10.0  # for a whole head, from the connection's start or the answer before
    body_s: float = 10.0
    answer_s: float = 30.0  # for the client to take an answer
    connections: int = 200  # over TCP; the Unix socket has `reserved` more, so that a flood locks no operator out
    reserved: int = 50
    body_bytes: int = 1024 * 1024


USUAL = Patience()
PATIENCE = web.AppKey("patience", Patience)


async def sent(request: web.Request, response: web.StreamResponse, limit_s: float) -> bool:
    """Send the answer within `limit_s`; a client that does not take it loses its connection, and this is False."""
    try:
        async with asyncio.timeout(limit_s):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        return False
    except ConnectionError:
        return True  # it has gone: nobody waits, and that is no mistake of ours
    return True


TURNED = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Turned(asyncio.Protocol):
    """One connection too many: told so, and closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(TURNED)  # no isinstance: uvloop's transports are no subclass
        transport.close()


def at_most(
    connections: int, server: web.Server, make: Callable[[], asyncio.Protocol]
) -> Callable[[], asyncio.Protocol]:
    """A protocol factory that turns clients away while there are so many connections."""
    return lambda: Turned() if len(server.connections) >= connections else make()
