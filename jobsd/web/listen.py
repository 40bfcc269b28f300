"""Opens the two listeners and closes them in order: no new connection, requests under way finish, the rest is cut."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from jobsd.web.connection import Connection
from jobsd.web.patience import PATIENCE, at_most
from jobsd.web.port import tcp_socket
from jobsd.web.unix import unix_socket

CLOSE_S = 3.0  # for requests under way
LOGGER = logging.getLogger("aiohttp.server.jobsd")


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a record is worth a line. What is no HTTP, or breaks off, is the client's doing, and might be a flood."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | ConnectionError)


LOGGER.addFilter(_is_ours)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where it listens: "http://127.0.0.1:8620", and the path of the Unix socket."""

    url: str
    socket: Path | None


@asynccontextmanager
async def listening(app: web.Application, host: str, port: int, socket: Path | None) -> AsyncIterator[Addresses]:
    """Serve `app` for the block. Port 0 is any free one. Raises E0401, E0404, E0405."""
    patience = app[PATIENCE]
    ways: dict[str, Any] = {
        "access_log": None,
        "logger": LOGGER,
        "keepalive_timeout": patience.head_s,  # also the limit of a first head, and of silence
        "lingering_time": patience.body_s,
    }
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=CLOSE_S, **ways)
    await runner.setup()
    loop, server = asyncio.get_running_loop(), runner.server
    if server is None:
        raise AssertionError("a runner that is set up has a server")
    make = partial(Connection, server, loop=loop, **ways)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(runner.cleanup)
        tcp = tcp_socket(host, port)
        name, bound = tcp.getsockname()[:2]
        _close_first(stack, await loop.create_server(at_most(patience.connections, server, make), sock=tcp))
        if socket is not None:
            unix = stack.enter_context(unix_socket(socket))
            most = patience.connections + patience.reserved
            _close_first(stack, await loop.create_unix_server(at_most(most, server, make), sock=unix))
        yield Addresses(f"http://{f'[{name}]' if ':' in name else name}:{bound}", socket)


def _close_first(stack: AsyncExitStack, server: asyncio.AbstractServer) -> None:
    stack.callback(server.close)
