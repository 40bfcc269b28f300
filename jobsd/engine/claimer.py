"""Claims due runs in batches as large as the node has free places, and hands them to the workers.

Woken by a notification, by the scheduler, by a place that becomes free and by the next run's time; polls underneath.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from jobsd.domain.events import DatabaseTrouble
from jobsd.domain.job import JobDefinition
from jobsd.domain.run import Fence
from jobsd.engine.here import Here
from jobsd.engine.nap import nap
from jobsd.engine.worker import Workers
from jobsd.store import jobs, runs, tickets
from jobsd.store.db import Unavailable
from jobsd.store.runs import ClaimRequest, Overtaken
from jobsd.store.tickets import Rates

POLL_S = 5.0
RETRY_S = 0.5
BATCH = 500


class Claimer:
    def __init__(self, here: Here, workers: Workers) -> None:
        self.canary: Callable[[], Fence | None] = lambda: None  # set by the daemon: one that is to be taken
        self.refused = ""  # why the database let nothing be claimed at the last try; empty when it did
        self.paused = False  # draining, fenced, or switched off: nothing is claimed
        self._here = here
        self._workers = workers
        self._jobs: Sequence[str] = ()
        self._seats: Sequence[tuple[str, int]] = ()
        self._rates: Rates = ()
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()  # from before a claim is sent until its runs have started

    async def seats(self, definitions: Mapping[str, JobDefinition]) -> Mapping[str, int]:
        """The lock ids of the seats of all jobs with a concurrency limit. What is missing is added, tickets too."""
        await tickets.fit(self._here.db, {job.name: job.rate for job in definitions.values() if job.rate})
        return await jobs.lock_keys(self._here.db, [name for job in definitions.values() for name in _seats(job)])

    def load(self, definitions: Mapping[str, JobDefinition], pools: Sequence[str], ids: Mapping[str, int]) -> None:
        """Serve the enabled jobs of these pools from now on, external ones left out; `ids`: of their `seats`."""
        served = [job for job in definitions.values() if job.enabled and job.pool in pools and not job.external]
        self._jobs = [job.name for job in served]
        self._seats = [(job.name, ids[seat]) for job in served for seat in _seats(job)]
        self._rates = [(job.name, job.rate.per) for job in served if job.rate]
        self.wake()

    def wake(self) -> None:
        """Look again now."""
        self._wake.set()

    async def between_claims(self) -> None:
        """Wait until no claim is under way: what was taken has started. With `paused` set, there will be no further."""
        async with self._turn:
            return

    async def run(self) -> None:
        """Claim for ever."""
        wait_s = 0.0
        while True:
            self._here.pulse.advance("claimer")
            await nap(self._wake, wait_s)
            try:
                wait_s = await self._round()
                self.refused = ""
            except Overtaken:
                wait_s = 0.0
            except Unavailable as gone:
                self.refused = str(gone)
                self._here.observe(DatabaseTrouble("claimer", self.refused))
                wait_s = RETRY_S

    async def _round(self) -> float:
        """Claim until nothing more is to be had; returns how long to wait for the next look. Seconds."""
        while not self.paused and self._here.keeper.up and self._workers.free > 0:
            async with self._turn:
                claimed = 0 if self.paused else await self._claim()
            if not claimed:
                return await self._until_due()
        return POLL_S if self._here.keeper.up else RETRY_S

    async def _claim(self) -> int:
        """Take as many runs as there are free places, and start them; how many."""
        keeper, node = self._here.keeper, self._here.keeper.node
        claim = await keeper.claim(self._request(min(self._workers.free, BATCH)))
        if not keeper.serves(node):  # fenced before we heard of it: lost with all the rest
            return 0
        for run in claim.runs:
            self._workers.start(run, claim.keys[run.id])
        return len(claim.runs)

    def _request(self, limit: int) -> ClaimRequest:
        kept, kept_runs = self._workers.kept()
        return ClaimRequest(
            self._jobs,
            self._seats,
            kept,
            kept_runs,
            limit,
            self._here.keeper.node,
            self._here.actor,
            self._rates,
            self.canary(),
        )

    async def _until_due(self) -> float:
        """Until the next run's time, or until a job that has used up its rate may start again. Seconds."""
        instants = await runs.next_due(self._here.db), await tickets.next_free(self._here.db, self._rates)
        waits_s = [(at - self._here.keeper.now()).total_seconds() for at in instants if at is not None]
        return min(POLL_S, max(0.0, min(waits_s, default=POLL_S)))


def _seats(job: JobDefinition) -> list[str]:
    return [f"seat:{job.name}:{number}" for number in range(1, (job.concurrency or 0) + 1)]
