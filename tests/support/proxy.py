"""A TCP proxy before a PostgreSQL that does to its connections what networks do, each kind of connection by itself.

The kind is the beginning of the `application_name` that a connection starts with: "jobsd lock", "jobsd work two", ""
for all. It lives in a thread and event loop of its own; its calls are for the test's.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

T = TypeVar("T")
CHUNK = 1 << 16
SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
FIRST_S = 5.0  # for a connection's first message


@dataclass(frozen=True)
class Line:
    """What a connection is like: which directions pass anything, how late, how many bytes a second."""

    up: bool = True  # from the client to the server
    down: bool = True
    latency_s: float = 0.0
    bytes_per_s: float = float("inf")


GOOD = Line()


@dataclass(eq=False)
class Link:
    """One connection through the proxy."""

    kind: str
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    line: Line
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    forgotten: bool = False  # the server's side is gone, and nobody has told the client

    def become(self, line: Line) -> None:
        self.line = line
        self.changed.set()


class Proxy:
    """Listens on `port` of 127.0.0.1. `upstream`: a Unix socket's path, or host and port."""

    def __init__(self, upstream: str | tuple[str, int]) -> None:
        self.upstream = upstream
        self._lines: dict[str, Line] = {}  # of kinds, for connections to come
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._there(self._listen())
        self.port = int(self._server.sockets[0].getsockname()[1])

    # -- called by the test -----------------------------------------------------------------------------------------

    def url(self, of: str) -> str:
        """The URL `of` a database, through here."""
        parts = urlsplit(of)
        return f"postgresql://{parts.username or 'postgres'}@127.0.0.1:{self.port}{parts.path}"

    def count(self, kind: str = "") -> int:
        """How many connections of a kind are open."""
        return self._there(self._each(kind, lambda _link: None))

    def reset(self, kind: str = "") -> int:
        """End connections with an RST to both sides; how many."""
        return self._there(self._each(kind, _reset))

    def cut(self, kind: str = "") -> int:
        """End connections as if the other side had closed them; how many."""
        return self._there(self._each(kind, _close))

    def half_open(self, kind: str = "") -> int:
        """The server's side of connections is gone; the client hears nothing of it, now or ever. How many."""
        return self._there(self._each(kind, _forget))

    def stall(self, kind: str = "", *, up: bool = True, down: bool = True) -> int:
        """Let nothing pass (or in one direction only) but ACKs, on connections that are and that come, until `mend`."""
        return self._become(kind, Line(up=not up, down=not down))

    def slow(self, kind: str = "", *, latency_s: float = 0.15, bytes_per_s: float = 64_000) -> int:
        return self._become(kind, Line(latency_s=latency_s, bytes_per_s=bytes_per_s))

    def mend(self, kind: str = "") -> int:
        """What was held back passes now; connections of the kind are good again."""
        return self._become(kind, GOOD)

    def close(self) -> None:
        self._there(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _become(self, kind: str, line: Line) -> int:
        async def become() -> int:
            self._lines = {k: v for k, v in self._lines.items() if not k.startswith(kind)}
            self._lines[kind] = line
            return await self._each(kind, lambda link: link.become(line))

        return self._there(become())

    def _there(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(FIRST_S * 2)

    # -- in the proxy's thread --------------------------------------------------------------------------------------

    async def _each(self, kind: str, act: Callable[[Link], None]) -> int:
        links = [link for link in self._links if link.kind.startswith(kind) and not link.forgotten]
        for link in links:
            act(link)
        return len(links)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def _close(self) -> None:
        self._server.close()
        for link in list(self._links):
            _reset(link)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._carry(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(FIRST_S):
            first = await _startup(reader, writer)
        kind = _application(first)
        from_server, to_server = await self._connect()
        link = Link(kind, writer, to_server, self._line_of(kind))
        self._links.add(link)
        try:
            await asyncio.gather(
                _pump(link, reader, to_server, "up", first), _pump(link, from_server, writer, "down", b"")
            )
        finally:
            self._links.discard(link)
            to_server.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.upstream, str):
            return await asyncio.open_unix_connection(self.upstream)
        return await asyncio.open_connection(*self.upstream)

    def _line_of(self, kind: str) -> Line:
        """That of the most particular rule for it."""
        rules = [rule for rule in self._lines if kind.startswith(rule)]
        return self._lines[max(rules, key=len)] if rules else GOOD


async def _pump(
    link: Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter, direction: str, first: bytes
) -> None:
    """Carry one direction to its end, as the line is at each moment."""
    loop = asyncio.get_running_loop()
    data = first
    free_s = loop.time()  # when the line has carried all that it was given so far
    while True:
        while not getattr(link.line, direction):
            link.changed.clear()
            await link.changed.wait()
        if data:
            free_s = max(free_s, loop.time()) + len(data) / link.line.bytes_per_s
            await asyncio.sleep(max(0.0, free_s + link.line.latency_s - loop.time()))
            with suppress(OSError):
                sink.write(data)
                await sink.drain()
        try:
            data = await source.read(CHUNK)
        except OSError:
            data = b""
        if not data:
            break
    if link.forgotten:
        await asyncio.Event().wait()
    sink.close()


def _reset(link: Link) -> None:
    for side in (link.client, link.server):
        plug: socket.socket = side.get_extra_info("socket")
        with suppress(OSError):
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        side.transport.abort()


def _close(link: Link) -> None:
    for side in (link.client, link.server):
        side.close()


def _forget(link: Link) -> None:
    link.forgotten = True
    link.become(replace(link.line, up=False, down=False))
    link.server.transport.abort()


async def _startup(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The start-up packet, whole; encryption is declined."""
    while True:
        head = await reader.readexactly(8)
        length, code = struct.unpack("!ii", head)
        if code not in (SSL_REQUEST, GSS_REQUEST):
            return head + await reader.readexactly(length - 8)
        writer.write(b"N")


def _application(packet: bytes) -> str:
    if struct.unpack("!i", packet[4:8])[0] == CANCEL_REQUEST:
        return "cancel"
    words = packet[8:].split(b"\0")
    return dict(zip(words[::2], words[1::2], strict=False)).get(b"application_name", b"").decode()


def unix_socket(url: str) -> str:
    """The path of the Unix socket that a URL names."""
    options = parse_qs(urlsplit(url).query)
    return f"{options['host'][0]}/.s.PGSQL.{options['port'][0]}"


@contextmanager
def proxy(url: str) -> Iterator[Proxy]:
    """A proxy before the server of `url`."""
    made = Proxy(unix_socket(url))
    try:
        yield made
    finally:
        made.close()
