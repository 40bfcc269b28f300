"""A front end's side of a stream: events as they come, and the id to come back with."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

PATIENCE_S = 30.0


@dataclass(frozen=True)
class Event:
    name: str
    data: Any


@dataclass
class Stream:
    """One connection. `last_id` is what the next one begins with."""

    response: aiohttp.ClientResponse
    last_id: str = ""
    ended: bool = False
    names: list[str] = field(default_factory=list)  # of all events so far

    async def next(self) -> Event | None:
        """The next event; None at the end."""
        while (block := await self.block()) is not None:
            if "data" in block:
                self.names.append(block["event"])
                return Event(block["event"], json.loads(block["data"]))
        return None

    async def until(self, name: str, **facts: Any) -> list[Event]:
        """All events up to the next one of this name whose data holds `facts`."""
        seen: list[Event] = []
        while (event := await self.next()) is not None:
            seen.append(event)
            if event.name == name and facts.items() <= event.data.items():
                return seen
        raise AssertionError(f"the stream ended before {name} {facts}: {seen}")

    async def placed(self) -> str:
        """Wait until the stream has told where it is; the id."""
        while not self.last_id:
            await self.block()
        return self.last_id

    async def block(self) -> Mapping[str, str] | None:
        """The fields of the next block, one without an event too; None at the end."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(PATIENCE_S):
            while line := (await self.response.content.readline()).decode():
                if line == "\n":
                    self.last_id = fields.get("id", self.last_id)
                    return fields
                key, _, value = line.rstrip("\n").partition(":")
                fields[key] = value.removeprefix(" ")
        self.ended = True
        return None


@asynccontextmanager
async def stream(socket: Path | None, path: str, last_id: str = "") -> AsyncIterator[Stream]:
    """Follow `path` (below /api/v1) through the Unix socket."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    connector = aiohttp.UnixConnector(str(socket), force_close=True)
    limit = aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE_S)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=limit, read_bufsize=1 << 20) as session,
        session.get(f"http://localhost/api/v1{path}", headers=headers) as response,
    ):
        assert response.status == 200, await response.text()
        yield Stream(response, last_id)
