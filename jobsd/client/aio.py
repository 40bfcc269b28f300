"""The API for a program on asyncio. `jobsd.client.http` says more about each call."""

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
from yarl import URL

from jobsd.client import asks
from jobsd.client.answers import OVER, NotOver, Unreachable, decoded, pauses_s
from jobsd.client.asks import Ask, Json, Run
from jobsd.client.http import TIMEOUT_S, headers_of


class AsyncHttpClient:
    """One daemon, by its Unix socket or by URL and token: `async with AsyncHttpClient(socket=…) as jobsd: …`.

    Every call raises `Refused` or `Unreachable`. Answers are the API's JSON.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        socket: str | Path | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        if (url is None) == (socket is None):
            raise ValueError("expected either a url or a socket")
        self.url = (url or "http://localhost").rstrip("/")
        self.token = token
        self.socket = str(socket) if socket is not None else None
        self.timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.UnixConnector(self.socket) if self.socket else aiohttp.TCPConnector()
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(self.timeout_s), raise_for_status=False
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def enqueue(self, job: str, run: Run | None = None, *, reason: str | None = None) -> Json:
        """Ask for a run; `created` is false when its key had made it before."""
        return await self._send(asks.enqueue(job, run or Run(), reason))

    async def enqueue_many(
        self, job: str, runs: Iterable[Run], *, key: str | None = None, reason: str | None = None
    ) -> Json:
        """Ask for up to 10,000 runs, all or none; `ids` in their order. `key` numbers those that have none."""
        return await self._send(asks.enqueue_many(job, runs, key, reason))

    async def run(self, run: int) -> Json:
        """One run, whole."""
        return await self._send(asks.show(run))

    async def retry(self, run: int, *, reason: str | None = None) -> Json:
        """Queue a failed run again."""
        return await self._send(asks.act(run, "retry", reason=reason))

    async def cancel(self, run: int, *, reason: str | None = None) -> Json:
        """Cancel a queued or failed run."""
        return await self._send(asks.act(run, "cancel", reason=reason))

    async def wait(self, run: int, timeout_s: float | None = None) -> Json:
        """Stay until a run is over; the run. Raises `NotOver` after `timeout_s` seconds."""
        seen = await self.run(run)
        try:
            async with asyncio.timeout(timeout_s):
                for pause_s in pauses_s():
                    if seen["state"] in OVER:
                        break
                    await asyncio.sleep(pause_s)
                    seen = await self.run(run)
        except TimeoutError:
            raise NotOver(seen) from None
        return seen

    async def start(self, job: str, run: Run | None = None, *, reason: str | None = None) -> Json:
        """Ask for a run of an external job and begin it; `id` and `fence` of the answer go into every report."""
        return await self._send(asks.enqueue(job, run or Run(), reason, start=True))

    async def start_queued(self, run: int, *, reason: str | None = None) -> Json:
        """Begin a run that is queued."""
        return await self._send(asks.act(run, "start", reason=reason))

    async def heartbeat(self, run: int, fence: int) -> Json:
        """Say that the work lives."""
        return await self._send(asks.act(run, "heartbeat", fence=fence))

    async def progress(
        self,
        run: int,
        fence: int,
        progress: float | None = None,
        *,
        note: str | None = None,
        step: str | None = None,
        steps: Mapping[str, float] | None = None,
    ) -> Json:
        """Say how far it is, 0 to 1: of `step` if one is named. `steps`, once: the pipeline's names and weights."""
        return await self._send(
            asks.act(run, "progress", fence=fence, progress=progress, note=note, step=step, steps=steps)
        )

    async def message(self, run: int, fence: int, text: str, level: str = "info") -> Json:
        """Say what happens: info, warning or error."""
        return await self._send(asks.act(run, "messages", fence=fence, text=text, level=level))

    async def complete(self, run: int, fence: int, result: Any = None) -> Json:
        """The work is done."""
        return await self._send(asks.act(run, "complete", fence=fence, result=result))

    async def fail(self, run: int, fence: int, error: str, *, kind: str | None = None, final: bool = False) -> Json:
        """The work failed, with its error word for word; `final`: no declared retry follows."""
        return await self._send(asks.act(run, "fail", fence=fence, error=error, kind=kind, final=final or None))

    async def _send(self, ask: Ask) -> Json:
        if self._session is None:
            raise RuntimeError("expected: async with AsyncHttpClient(…) as jobsd")
        body = None if ask.body is None else orjson.dumps(ask.body)
        target = URL(f"{self.url}/api/v1{ask.path}", encoded=True)
        try:
            async with self._session.request(
                ask.method, target, data=body, headers=headers_of(ask, self.token)
            ) as response:
                status, raw = response.status, await response.read()
        except (aiohttp.ClientError, OSError) as error:  # a deadline is an OSError too
            raise Unreachable(f"{self.socket or self.url}: {error or type(error).__name__}") from error
        return decoded(status, raw)
