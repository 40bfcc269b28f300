"""A run's own words on their way to the database: progress a few times a second at most, messages one by one."""

import asyncio
from collections.abc import Awaitable
from time import monotonic

from jobsd.domain.events import Noted
from jobsd.domain.run import ClaimedRun
from jobsd.engine.executors.pipeline import Progress
from jobsd.engine.here import Here
from jobsd.store import reports
from jobsd.store.db import Unavailable

EVERY_S = 0.25
HEARTBEAT_EVERY_S = 1.0
LONGEST = 10_000  # characters of one message
MOST = 10_000  # messages of one attempt; what comes after is counted, not stored


class Reporter:
    """Of one attempt. What cannot be written because the run moved on, or the database is away, is told in the log."""

    def __init__(self, here: Here, run: ClaimedRun) -> None:
        self._here = here
        self._run = run
        self._latest: Progress | None = None
        self._written_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._lived_s = 0.0
        self._messages = 0

    async def progress(self, told: Progress) -> None:
        """Keep the latest; write it as soon as the one before was written long enough ago."""
        self._latest = told
        wait_s = self._written_s + EVERY_S - monotonic()
        if wait_s <= 0:
            await self._write()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._on_time)

    async def heartbeat(self) -> None:
        """Write that it lives, once a second at most."""
        if monotonic() - self._lived_s >= HEARTBEAT_EVERY_S:
            self._lived_s = monotonic()
            await self._try("heartbeat", reports.heartbeat(self._here.db, self._run.id, self._run.fence))

    async def message(self, level: str, text: str) -> None:
        self._messages += 1
        if self._messages == MOST:
            text = f"this attempt has told {MOST} messages; further ones are not kept"
        if self._messages <= MOST:
            write = reports.message(
                self._here.db, self._run.id, self._run.fence, level, self._here.mask(text[:LONGEST])
            )
            await self._try("message", write)

    async def flush(self) -> None:
        """Write the progress that was held back, now."""
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None:
            await asyncio.wait({self._writing})
        await self._write()

    def drop(self) -> None:
        """Forget it: the run is over, by its own transaction."""
        self._latest = None

    def _on_time(self) -> None:
        self._timer = None
        self._writing = asyncio.create_task(self._write(), name=f"progress of run {self._run.id}")

    async def _write(self) -> None:
        if self._latest is not None:
            told, self._latest = self._latest, None
            self._written_s = monotonic()
            which = (self._here.db, self._run.id, self._run.fence)
            note = self._here.mask(told.note[:LONGEST].replace("\0", ""))
            write = reports.progress(*which, told.fraction, note, step=told.step, steps=told.steps)
            await self._try("progress", write)

    async def _try(self, what: str, write: Awaitable[bool]) -> None:
        try:
            taken = await write
            why = "" if taken else "the run has moved on"
        except Unavailable as gone:
            why = str(gone)
        if why:
            fields = {"run": self._run.id, "job": self._run.job, "what": what, "why": why}
            self._here.observe(Noted("report_not_written", "warning", fields))
