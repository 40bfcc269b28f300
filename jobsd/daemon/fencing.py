"""What the lock session's losses mean for what runs here: end what is no longer ours, or everything, and begin anew."""

import asyncio
import time
from collections.abc import Callable, Sequence

from jobsd.domain.errors import JobsdError
from jobsd.domain.events import DatabaseTrouble
from jobsd.domain.outcome import Lost
from jobsd.domain.run import ClaimedRun
from jobsd.engine.here import Here
from jobsd.engine.nap import jittered
from jobsd.engine.rescuer import Rescuer
from jobsd.engine.worker import Workers
from jobsd.store.db import Unavailable
from jobsd.store.history import Ended
from jobsd.store.locks import Key

FENCED_S = 60.0  # work that does not end for so long after the node was fenced ends the process
ROUND_S = 10.0  # it shows that it lives
WRITE_S = 5.0  # then another look whether the new session still stands


class Fencing:
    """`on_change` is called whenever `fenced` has changed."""

    def __init__(self, here: Here, workers: Workers, rescuer: Rescuer, on_change: Callable[[], None]) -> None:
        self._here = here
        self._workers = workers
        self._rescuer = rescuer
        self._on_change = on_change
        self._lease: asyncio.TimerHandle | None = None
        self._anew = False  # between being fenced and standing again
        self._fenced: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def fenced(self) -> bool:
        return self._anew or self._fenced.done()

    def renewed(self, until_ns: int) -> None:
        """The lease goes to this instant of CLOCK_BOOTTIME: its end is watched from here, besides by the guardians."""
        if self._lease is not None:
            self._lease.cancel()
        left_s = (until_ns - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) / 1e9
        self._lease = asyncio.get_running_loop().call_later(max(0.0, left_s), self._lease_over)

    def _lease_over(self) -> None:
        """The process stood still for so long: end what it runs before that does one more step than it must.

        The lock session's thread may be quicker: then this node is known to live, or is fenced.
        """
        if self._here.keeper.lease_left_s() <= 0:
            self._workers.stop(Lost("its lease was over: the process stood still", {"proof": "the lease's end"}))

    async def recheck(self, missing: frozenset[Key], running: Sequence[ClaimedRun]) -> Sequence[Ended]:
        """After a new lock session: end what no longer is ours. `running`: here, as the database has it.

        Returns what settles claims whose answer was lost. Whatever broke the session may have broken the others.
        """
        self._here.db.mistrust(self._here.keeper.timeline)
        theirs = {run.id: run for run in running}
        ours = self._workers.held()
        without_key = {run_id for run_id, keys in ours.items() if missing.intersection(keys)}
        moved_on = {run_id for run_id in ours if run_id not in theirs and not self._workers.is_settled(run_id)}
        self._workers.stop(Lost("its lock could not be taken again after the lock session was lost"), list(without_key))
        self._workers.stop(Lost("it had moved on when the lock session was back"), list(moved_on))
        return self._rescuer.unstarted([run for run_id, run in theirs.items() if run_id not in ours])

    def on_fenced(self, reason: str) -> None:
        if not self._fenced.done():
            self._fenced.set_result(reason)

    async def run(self) -> None:
        """Each time the node is fenced: end everything it runs, wait until it is gone and settled, register anew."""
        while True:
            self._advance(ROUND_S)
            await asyncio.wait({self._fenced}, timeout=ROUND_S)
            if self._fenced.done():
                await self._begin_anew(self._fenced.result())

    async def _begin_anew(self, reason: str) -> None:
        self._anew = True
        self._on_change()
        self._advance(FENCED_S)
        self._here.pulse.advance("lock session", FENCED_S)
        self._workers.stop(Lost(f"the node fenced itself: {reason}"))
        async with asyncio.timeout(FENCED_S):
            await self._workers.ended()
        wait_s = 0.2
        while not await self._registered():
            self._advance(wait_s)
            await asyncio.sleep(jittered(wait_s))
            wait_s = min(5.0, wait_s * 2)
        self._anew = False
        self._on_change()

    async def _registered(self) -> bool:
        """Whether a new node stands, which takes as long as the server does not let us in.

        What the old one ran is settled first, by those who know how it ended.
        """
        keeper = self._here.keeper
        try:
            if not keeper.registered:
                self._fenced = asyncio.get_running_loop().create_future()
                await keeper.open()
            self._here.db.mistrust(keeper.timeline)
            async with asyncio.timeout(WRITE_S):
                await self._workers.idle()
            await self._rescuer.rescue_predecessors()
        except TimeoutError:  # the settler says what it waits for
            return False
        except (Unavailable, JobsdError) as gone:
            self._here.observe(DatabaseTrouble("fence", str(gone)))
            return False
        return True

    def _advance(self, within_s: float) -> None:
        self._here.pulse.advance("fence", allowed_s=within_s + 30.0)
