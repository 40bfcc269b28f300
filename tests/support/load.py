"""Somebody who asks for runs without a pause, whatever becomes of the database, and keeps what was acknowledged."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from time import monotonic

import aiohttp

from tests.support.daemon import Daemon
from tests.support.eventually import eventually

PAUSE_S = 0.02


class Load:
    """One request at a time, each with a key of its own; one that was not answered is asked again with the same key."""

    def __init__(self, node: Daemon, job: str, params: Mapping[str, object]) -> None:
        self.acknowledged: dict[str, int] = {}
        self.refused: list[int] = []  # the statuses of what was not acknowledged
        self.longest_s = 0.0  # between two acknowledgements
        self.job = job
        self._node = node
        self._params = params

    async def run(self) -> None:
        number, last_s = 0, monotonic()
        while True:
            number += 1
            await self._ask(f"load-{number}")
            self.longest_s, last_s = max(self.longest_s, monotonic() - last_s), monotonic()
            await asyncio.sleep(PAUSE_S)

    async def _ask(self, key: str) -> None:
        while key not in self.acknowledged:
            body = {"key": key, "params": self._params}
            with suppress(aiohttp.ClientError, TimeoutError):
                status, answer = await self._node.request("POST", f"/api/v1/jobs/{self.job}/runs", body)
                if status in (200, 201):
                    self.acknowledged[key] = int(answer["id"])
                    return
                self.refused.append(status)
            await asyncio.sleep(PAUSE_S)

    async def grows(self, by: int = 3) -> None:
        """Wait until so many more were acknowledged."""
        enough = len(self.acknowledged) + by

        async def so_many() -> bool:
            return len(self.acknowledged) >= enough

        await eventually(so_many, True, 90)


@asynccontextmanager
async def load(node: Daemon, job: str, **params: object) -> AsyncIterator[Load]:
    """Ask for runs of `job` throughout the block."""
    asking = Load(node, job, params)
    task = asyncio.create_task(asking.run())
    try:
        yield asking
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
