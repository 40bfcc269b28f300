"""What is to be done every now and then, by any node, with no leader: each duty at its own period, beside the others.

A duty must bear that another node does the same at the same time: it takes rows with `SKIP LOCKED`, or moves them by
compare-and-set. What a duty does is in a file of its own (`stale`, `retention`, …).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from jobsd.domain.events import DatabaseTrouble
from jobsd.engine.here import Here
from jobsd.engine.nap import nap
from jobsd.store.db import Unavailable

RETRY_S = 5.0
ROUND_S = 10.0  # it shows that it lives, besides its duties, each of which does too
LONGEST_S = 120.0  # a round that takes longer counts as hung: duties bound their own rounds


@dataclass(frozen=True, slots=True)
class Duty:
    """One thing to do. `work` raises `Unavailable` without the database, and is then done again soon."""

    name: str  # as health and the log call it
    every_s: Callable[[], float]  # asked anew each time: settings change with a reload
    work: Callable[[], Awaitable[None]]
    awake: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Do it now."""
        self.awake.set()


class Housekeeper:
    """Does its duties, each in a task of its own, so that a long one holds up no other."""

    def __init__(self, here: Here, duties: Sequence[Duty]) -> None:
        self._here = here
        self._duties = duties

    async def run(self) -> None:
        """Go on for ever; an error of a duty that nobody foresaw ends the process, as of every loop."""
        async with asyncio.TaskGroup() as group:
            for duty in self._duties:
                group.create_task(self._keep(duty), name=f"duty {duty.name}")
            while True:
                self._here.pulse.advance("housekeeper")
                await asyncio.sleep(ROUND_S)

    async def _keep(self, duty: Duty) -> None:
        while True:
            wait_s = await self._round(duty)
            self._here.pulse.advance(duty.name, allowed_s=wait_s + LONGEST_S)
            await nap(duty.awake, wait_s)

    async def _round(self, duty: Duty) -> float:
        """Do it once, unless this node is fenced; how long to wait for the next time. Seconds."""
        every_s = duty.every_s()
        if not self._here.keeper.up:
            return min(RETRY_S, every_s)
        try:
            await duty.work()
        except Unavailable as gone:
            self._here.observe(DatabaseTrouble(duty.name, str(gone)))
            return min(RETRY_S, every_s)
        return every_s
