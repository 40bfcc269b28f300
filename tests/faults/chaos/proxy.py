"""A node's way to the server: TCP on loopback in front of its Unix socket, which can be cut, stalled, made one-way."""

import asyncio
from contextlib import suppress
from typing import Self


class Proxy:
    """Heals back to passing everything on. What a stall held back goes through afterwards."""

    def __init__(self, socket: str) -> None:
        self.port = 0
        self._socket = socket
        self._to_server, self._to_client = asyncio.Event(), asyncio.Event()
        self._closed = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> Self:
        self.heal()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def cut(self) -> None:
        """End all connections with a reset, and refuse new ones."""
        self._closed = True
        self.reset()

    def reset(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def stall(self) -> None:
        """Nothing passes, and nobody is told."""
        self._to_server.clear()
        self._to_client.clear()

    def one_way(self, *, to_server: bool) -> None:
        """Only questions pass, or only answers."""
        (self._to_client if to_server else self._to_server).clear()

    def heal(self) -> None:
        self._closed = False
        self._to_server.set()
        self._to_client.set()

    async def close(self) -> None:
        self.cut()
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        try:
            if not self._closed:
                await self._connect(reader, writer)
        except OSError:  # the server is down
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, server = await asyncio.open_unix_connection(self._socket)
        self._writers.add(server)
        try:
            there = asyncio.create_task(_pump(reader, server, self._to_server))
            back = asyncio.create_task(_pump(theirs, writer, self._to_client))
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            for each in (there, back):
                each.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
        finally:
            self._writers.discard(server)
            server.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: asyncio.Event) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            await passes.wait()
            writer.write(data)
            await writer.drain()
        await passes.wait()
