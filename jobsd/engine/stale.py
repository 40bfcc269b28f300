"""The sweep for runs that nobody hears of: one that another program does is failed, one that runs here is told of.

Work that runs here has its own timeout and its node's heartbeat; that it says nothing for a while is worth a look only.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from jobsd.domain import stale
from jobsd.domain.events import RunEnded
from jobsd.domain.job import JobDefinition
from jobsd.domain.lifecycle import SettlePolicy
from jobsd.engine.here import Here
from jobsd.store import external, history
from jobsd.store.alerts import raise_alerts
from jobsd.store.db import Row
from jobsd.store.external import Silent
from jobsd.store.history import Ended

BATCH = 100


class StaleSweep:
    """A duty of the housekeeper. Nodes that sweep at once take different runs."""

    def __init__(self, here: Here, policy: Callable[[str], SettlePolicy]) -> None:
        self.on_swept: Callable[[Sequence[Ended]], object] = lambda _ended: None
        self.on_alert: Callable[[], object] = lambda: None
        self._here = here
        self._policy = policy
        self._stale_after: Mapping[str, timedelta] = {}
        self._told: set[tuple[int, datetime]] = set()  # runs that are silent, and since when

    def load(self, jobs: Mapping[str, JobDefinition]) -> None:
        """Go by these definitions from now on."""
        self._stale_after = {name: job.stale_after for name, job in jobs.items() if job.shows_progress}

    async def sweep(self) -> None:
        """Once. Raises `Unavailable`."""
        while len(await self._fail_silent()) == BATCH:
            pass
        await external.tidy(self._here.db)
        await self._tell_of_quiet()

    async def _fail_silent(self) -> list[Ended]:
        """Fail a batch of attempts of other programs that are silent or over their limit; which."""
        async with self._here.db.transaction() as tx:
            found = await external.silent(tx, self._here.keeper.node, BATCH)
            ended = [self._ended(each) for each in found]
            if ended:
                await history.settle_within(tx, ended, self._here.actor)
        for each in ended:
            self._tell(each)
        if ended:
            self.on_swept(ended)
        return ended

    def _ended(self, each: Silent) -> Ended:
        words = stale.lateness if each.late else stale.silence
        error = words(each.for_, each.allowed)
        settlement = stale.given_up(each.run, self._policy(each.run.job), error, each.now)
        return Ended(each.run, each.node, settlement, each.now)

    def _tell(self, each: Ended) -> None:
        took_s = (each.ended_at - each.run.started_at).total_seconds()
        self._here.observe(RunEnded(each.run, each.settlement, took_s))

    async def _tell_of_quiet(self) -> None:
        """Tell of each silence once, however many sweeps it lasts."""
        rows = await external.quiet_here(self._here.db, self._here.keeper.node, self._stale_after)
        new = [row for row in rows if (row["id"], row["heard_at"]) not in self._told]
        if new:
            told = [stale.alert_of(row["job"], row["id"], self._silence(row), row["attempt"]) for row in new]
            await raise_alerts(self._here.db, told)
            self.on_alert()
        self._told = {(row["id"], row["heard_at"]) for row in rows}

    def _silence(self, row: Row) -> str:
        return stale.silence(row["silent_for"], self._stale_after[row["job"]])
