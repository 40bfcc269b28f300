"""Writes settlements, grouped: whatever waits is written in one statement, durable before any lock goes.

An outcome that the database cannot take just now stays here, with its lock, and is written later (P5): a finished run
is never executed again for that. Meanwhile it is in the spool too, for the next start, should this process end.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from time import monotonic

from jobsd.domain.events import DatabaseTrouble, Noted, RunEnded, RunRefused
from jobsd.domain.outcome import Committed, Settlement
from jobsd.domain.run import ClaimedRun, Fence, RunState
from jobsd.engine.here import Here
from jobsd.engine.nap import nap
from jobsd.engine.spool import Spool
from jobsd.store import effects, history, nodes
from jobsd.store.db import Unavailable
from jobsd.store.history import Ended
from jobsd.store.locks import Key

BATCH = 500
RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
ROUND_S = 10.0  # it shows that it lives, with nothing to write
ONE_TRY_S = 120.0  # one that takes longer than this is hung: every call to the database has a shorter deadline


@dataclass(frozen=True, slots=True)
class _Waiting:
    ended: Ended
    keys: Sequence[Key]  # given back once it is durable; empty where the work goes on
    written: bool  # the job's own transaction has done it (P9)
    done: "asyncio.Future[bool]"
    since_s: float = field(default_factory=monotonic)


class Settler:
    """`settle` returns once the settlement is committed and its locks are given back."""

    def __init__(self, here: Here, spool: Spool | None = None) -> None:
        self.on_ended: Callable[[Sequence[Ended]], None] = lambda _ended: None
        self.on_refused: Callable[[], None] = lambda: None  # the run had moved on, which has raised an alert
        self.spool = spool  # None: in memory alone
        self.refused = ""  # why the database took nothing at the last try; empty when it did
        self._here = here
        self._waiting: deque[_Waiting] = deque()
        self._writing: Sequence[_Waiting] = ()
        self._wake = asyncio.Event()
        self._open: Counter[Fence] = Counter()  # runs of each claim that are not settled

    @property
    def unwritten(self) -> int:
        """Settlements that the database has not taken yet."""
        return len(self._writing) + len(self._waiting)

    @property
    def oldest_s(self) -> float:
        """For how long the oldest of them has waited; 0 when there is none."""
        return max((monotonic() - each.since_s for each in (*self._writing, *self._waiting)), default=0.0)

    def took(self, fence: Fence) -> None:
        """A run of this claim will be settled here; with its last one the claim's row goes."""
        self._open[fence] += 1

    async def settle(self, ended: Ended, keys: Sequence[Key], *, written: bool = False) -> bool:
        """Write it, however long the database is away; False when it was refused because the run had moved on.

        `written`: the job's own transaction has; what remains is to drop the claim, give back the locks, and tell.
        """
        waiting = _Waiting(ended, keys, written, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._wake.set()
        if self.refused or not self._here.keeper.up:
            await self._keep([waiting])
        return await waiting.done

    async def find_out(self, run: ClaimedRun) -> Committed | None:
        """Whether a COMMIT whose answer was lost was done, asked of the database however long that is away."""
        tries = 0
        while True:
            try:
                return await effects.find_out(self._here.db, run.id, run.fence)
            except Unavailable as gone:
                self._here.observe(DatabaseTrouble("settler", str(gone)))
                await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
                tries += 1

    async def recover(self) -> None:
        """Write what an earlier start kept in the spool, before its runs count as lost. Raises `Unavailable`."""
        left = await self.spool.left() if self.spool else []
        known = await nodes.earlier(self._here.db, self._here.who, [each.node for each in left]) if left else set()
        earlier = known - {self._here.keeper.node}
        ours = [each for each in left if each.node in earlier]
        foreign = [each for each in left if each.node not in earlier]
        if self.spool and foreign:  # the state directory was used with another database
            self._here.observe(Noted("spooled_outcomes_foreign", "error", {"runs": [each.run.id for each in foreign]}))
            await self.spool.set_aside(foreign)
        for start in range(0, len(ours), BATCH):
            batch = ours[start : start + BATCH]
            moved = await self._recovered(batch)
            if self.spool:
                self.spool.drop(batch)
            for each in batch:
                self._tell(each, (each.run.id, each.run.fence) in moved)
            self.on_ended(batch)

    async def _recovered(self, ended: Sequence[Ended]) -> set[tuple[int, int]]:
        try:
            return await self._take(ended, [])
        except Unavailable as gone:
            if not gone.blocked:
                raise
            return await self._take(ended, [])  # way has been made

    async def run(self) -> None:
        """Write batches for ever."""
        while True:
            self._here.pulse.advance("settler", allowed_s=ROUND_S + ONE_TRY_S)
            await nap(self._wake, ROUND_S)
            while self._waiting:
                self._writing = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                await self._write(self._writing)
                self._here.pulse.advance("settler", allowed_s=ROUND_S + ONE_TRY_S)

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        self._open.subtract(each.ended.run.fence for each in batch)
        over = [fence for fence in {each.ended.run.fence for each in batch} if self._open[fence] <= 0]
        for fence in over:
            del self._open[fence]
        moved = await self._until_taken([each.ended for each in batch if not each.written], over)
        for node in {each.ended.node for each in batch}:
            keys = [key for each in batch if each.ended.node == node for key in each.keys]
            await self._here.keeper.unlock(keys, node)
        self._writing = ()
        for each in batch:
            self._answer(each, each.written or (each.ended.run.id, each.ended.run.fence) in moved)
        self.on_ended([each.ended for each in batch])

    async def _until_taken(self, batch: Sequence[Ended], over: list[Fence]) -> set[tuple[int, int]]:
        tries = 0
        while True:
            try:
                moved = await self._take(batch, over)
            except Unavailable as gone:
                self.refused = str(gone)
                self._here.observe(DatabaseTrouble("settler", self.refused))
                await self._keep([*self._writing, *self._waiting])
                await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
                self._here.pulse.advance("settler", allowed_s=ROUND_S + ONE_TRY_S)
                tries += 1
            else:
                self.refused = ""
                if self.spool:
                    self.spool.drop(batch)
                return moved

    async def _keep(self, waiting: Sequence[_Waiting]) -> None:
        if self.spool:
            await self.spool.keep([each.ended for each in waiting if not each.written])

    async def _take(self, batch: Sequence[Ended], over: list[Fence]) -> set[tuple[int, int]]:
        """Try once; what alone cannot be stored is made fit. Raises `Unavailable`."""
        try:
            return await history.settle(self._here.db, batch, self._here.actor, over)
        except Unavailable as gone:
            if gone.blocked:
                await self._make_way(batch)
            raise
        except Exception as refused:  # a value that PostgreSQL will not store: one must not stop all
            return await self._one_by_one(batch, over, refused)

    async def _make_way(self, batch: Sequence[Ended]) -> None:
        """End sessions that still stand on runs whose attempt is over, such as one left open by what a job started."""
        with suppress(Unavailable):
            await effects.end_sessions(self._here.db, [(each.run.id, each.run.fence) for each in batch])

    async def _one_by_one(self, batch: Sequence[Ended], over: list[Fence], refused: Exception) -> set[tuple[int, int]]:
        if len(batch) > 1:
            parts = [await self._take([each], over if each is batch[-1] else []) for each in batch]
            return set().union(*parts)
        ended = batch[0]
        self._here.observe(Noted("settlement_not_storable", "error", {"run": ended.run.id, "error": str(refused)}))
        poor = replace(ended, settlement=_storable(ended.settlement, refused))
        return await history.settle(self._here.db, [poor], self._here.actor, over)

    def _answer(self, each: _Waiting, moved: bool) -> None:
        self._tell(each.ended, moved)
        if not each.done.done():
            each.done.set_result(moved)

    def _tell(self, ended: Ended, moved: bool) -> None:
        if moved:
            took_s = (ended.ended_at - ended.run.started_at).total_seconds()
            self._here.observe(RunEnded(ended.run, ended.settlement, took_s))
        else:
            self._here.observe(RunRefused(ended.run, ended.settlement))
            self.on_refused()


def _storable(settlement: Settlement, refused: Exception) -> Settlement:
    """The same decision without what cannot be stored; a completed run whose result is lost has failed."""
    completed = settlement.state is RunState.COMPLETED
    return Settlement(
        RunState.FAILED if completed else settlement.state,
        "failed" if completed else settlement.outcome,
        "failed" if completed else settlement.act,
        "result",
        f"the outcome could not be stored: {refused}",
        due_at=settlement.due_at,
        retry=settlement.retry,
    )
