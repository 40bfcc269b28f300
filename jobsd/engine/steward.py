"""Does here what people asked for elsewhere: ends runs that are to be failed by force, and disabled times when they
are over.

What was asked for is a row, a notification only wakes; so it does not matter through which node it was asked.
"""

import asyncio
from collections.abc import Callable

from jobsd.domain.events import DatabaseTrouble, Noted
from jobsd.domain.outcome import by_force
from jobsd.engine.here import Here
from jobsd.engine.nap import nap
from jobsd.engine.worker import Workers
from jobsd.store import forced, standing
from jobsd.store.db import Unavailable
from jobsd.store.forced import Forced

POLL_S = 5.0
AGAIN_S = 0.5  # while something that was asked for is not done with


class Steward:
    def __init__(self, here: Here, workers: Workers) -> None:
        self.on_enabled: Callable[[], None] = lambda: None  # jobs are enabled again
        self._here = here
        self._workers = workers
        self._wake = asyncio.Event()
        self._told: set[tuple[int, int]] = set()  # attempts that are being ended

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    async def run(self) -> None:
        """Look for ever. Also while nothing new starts: what runs can be ended up to the last."""
        wait_s = 0.0
        while True:
            self._here.pulse.advance("steward")
            await nap(self._wake, wait_s)
            try:
                wait_s = await self._look()
            except Unavailable as gone:
                self._here.observe(DatabaseTrouble("steward", str(gone)))
                wait_s = AGAIN_S

    async def _look(self) -> float:
        """One round; returns when the next is due. Seconds."""
        await self._end_windows()
        asked = await forced.asked_for(self._here.db)
        for each in asked:
            if each.running and each.node == self._here.keeper.node:
                self._end(each)
        if any(not each.running for each in asked):
            await forced.done_with(self._here.db)
        self._told &= {(each.run, each.fence) for each in asked}
        return AGAIN_S if asked else POLL_S

    def _end(self, asked: Forced) -> None:
        """Have its work ended. One that has not begun here yet is met at the next look."""
        self._workers.stop(by_force(asked.actor, asked.reason), [asked.run])
        if (asked.run, asked.fence) not in self._told:
            self._told.add((asked.run, asked.fence))
            facts = {"run": asked.run, "fence": asked.fence, "actor": asked.actor, "reason": asked.reason}
            self._here.observe(Noted("run_forced", "warning", facts))

    async def _end_windows(self) -> None:
        over = await standing.end_windows(self._here.db)
        for job in over:
            self._here.observe(Noted("job_enabled_again", "info", {"job": job}))
        if over:
            self.on_enabled()
