"""Writes settlements, grouped: whatever waits is written in one statement, durable before any lock goes.

An outcome that the database cannot take just now stays here, with its lock, and is written later (P5): a finished run
is never executed again for that.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from jobsd.domain.events import DatabaseTrouble, Noted, RunEnded, RunRefused
from jobsd.domain.outcome import Committed, Settlement
from jobsd.domain.run import ClaimedRun, Fence, RunState
from jobsd.engine.here import Here
from jobsd.store import effects, history
from jobsd.store.db import Unavailable
from jobsd.store.history import Ended
from jobsd.store.locks import Key

BATCH = 500
RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class _Waiting:
    ended: Ended
    keys: Sequence[Key]  # given back once it is durable; empty where the work goes on
    written: bool  # the job's own transaction has done it (P9)
    done: "asyncio.Future[bool]"


class Settler:
    """`settle` returns once the settlement is committed and its locks are given back."""

    def __init__(self, here: Here) -> None:
        self.on_ended: Callable[[Sequence[Ended]], None] = lambda _ended: None
        self.on_refused: Callable[[], None] = lambda: None  # the run had moved on, which has raised an alert
        self._here = here
        self._waiting: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self.unwritten = 0  # settlements that the database has not taken yet
        self._open: Counter[Fence] = Counter()  # runs of each claim that are not settled

    def took(self, fence: Fence) -> None:
        """A run of this claim will be settled here; with its last one the claim's row goes."""
        self._open[fence] += 1

    async def settle(self, ended: Ended, keys: Sequence[Key], *, written: bool = False) -> bool:
        """Write it, however long the database is away; False when it was refused because the run had moved on.

        `written`: the job's own transaction has; what remains is to drop the claim, give back the locks, and tell.
        """
        waiting = _Waiting(ended, keys, written, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self.unwritten += 1
        self._wake.set()
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

    async def run(self) -> None:
        """Write batches for ever."""
        while True:
            self._here.pulse.advance("settler", allowed_s=float("inf"))
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                await self._write(batch)

    async def _write(self, batch: list[_Waiting]) -> None:
        self._open.subtract(each.ended.run.fence for each in batch)
        over = [fence for fence in {each.ended.run.fence for each in batch} if self._open[fence] <= 0]
        for fence in over:
            del self._open[fence]
        moved = await self._taken([each for each in batch if not each.written], over)
        for node in {each.ended.node for each in batch}:
            keys = [key for each in batch if each.ended.node == node for key in each.keys]
            await self._here.keeper.unlock(keys, node)
        self.unwritten -= len(batch)
        for each in batch:
            self._tell(each, each.written or (each.ended.run.id, each.ended.run.fence) in moved)
        self.on_ended([each.ended for each in batch])

    async def _taken(self, batch: list[_Waiting], over: list[Fence]) -> set[tuple[int, int]]:
        try:
            return await self._until_taken([each.ended for each in batch], over)
        except Exception as refused:  # a value that PostgreSQL will not store: one must not stop all
            return await self._one_by_one(batch, over, refused)

    async def _until_taken(self, ended: Sequence[Ended], over: list[Fence]) -> set[tuple[int, int]]:
        """Write them, however long the database is away. Raises what it has against them."""
        tries = 0
        while True:
            try:
                return await history.settle(self._here.db, ended, self._here.actor, over)
            except Unavailable as gone:
                self._here.observe(DatabaseTrouble("settler", str(gone)))
                if gone.blocked:
                    await self._make_way(ended)
                await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
                tries += 1

    async def _make_way(self, ended: Sequence[Ended]) -> None:
        """End sessions that still stand on runs whose attempt is over, such as one left open by what a job started."""
        with suppress(Unavailable):
            await effects.end_sessions(self._here.db, [(each.run.id, each.run.fence) for each in ended])

    async def _one_by_one(self, batch: list[_Waiting], over: list[Fence], refused: Exception) -> set[tuple[int, int]]:
        if len(batch) > 1:
            parts = [await self._taken([each], over if each is batch[-1] else []) for each in batch]
            return set().union(*parts)
        ended = batch[0].ended
        self._here.observe(Noted("settlement_not_storable", "error", {"run": ended.run.id, "error": str(refused)}))
        poor = replace(ended, settlement=_storable(ended.settlement, refused))
        return await self._until_taken([poor], over)

    def _tell(self, each: _Waiting, moved: bool) -> None:
        ended = each.ended
        if moved:
            took_s = (ended.ended_at - ended.run.started_at).total_seconds()
            self._here.observe(RunEnded(ended.run, ended.settlement, took_s))
        else:
            self._here.observe(RunRefused(ended.run, ended.settlement))
            self.on_refused()
        if not each.done.done():
            each.done.set_result(moved)


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
