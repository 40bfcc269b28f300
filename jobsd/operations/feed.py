"""One feed a node: it looks for what has happened while somebody follows, once for all who do, and else never.

A follower is told in batches, each with the position that it leads to: who comes back with that position misses
nothing, though it may be told twice. What there is to tell is `news`'.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import NamedTuple

from jobsd.domain.errors import JobsdError, problem
from jobsd.domain.events import DatabaseTrouble, Noted, Observe
from jobsd.operations import runs
from jobsd.operations.news import MOST, Reset, Told, Wanted, gather, told
from jobsd.store import feed
from jobsd.store.db import Db, Unavailable
from jobsd.store.feed import Position, Stretch

LOOK_S = 0.5  # between two looks when nobody wakes it
SHARE = 4  # a pause lasts so many times as long as the look before: looks take a fifth of the time at most
PAUSE_S = 0.1  # between two looks at the least
LAST_LOOK_S = 1.0  # for what is told when the daemon stops
BACKLOG = 20  # batches that a follower may be behind
BEGINNING = Position(0, frozenset())


class Batch(NamedTuple):
    events: Sequence[Told]
    position: Position  # what is told once all of them are


class TooSlow(Exception):
    """The follower took its batches so slowly that it was given up; it may come back with its last position."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Followers at once, and seconds between two looks."""

    followers: int = 100
    look_s: float = LOOK_S


USUAL = Limits()


class Follower:
    """Somebody who follows. `batch` is theirs to call, the rest is the feed's."""

    def __init__(self, wanted: Wanted, position: Position) -> None:
        self.wanted = wanted
        self.position = position
        self._batches: deque[Batch] = deque()
        self._news = asyncio.Event()
        self._over = False
        self._lost = False

    async def batch(self, at_most_s: float) -> Batch | None:
        """The next batch; one without events when there was none for so long; None when the feed is over.

        Raises `TooSlow`.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._news.wait()
        if self._lost:
            raise TooSlow
        if self._batches:
            return self._taken()
        return None if self._over else Batch((), self.position)

    def _taken(self) -> Batch:
        batch = self._batches.popleft()
        if not self._batches and not self._over:
            self._news.clear()
        return batch

    def begin(self, events: Sequence[Told], position: Position) -> None:
        """What comes before all that it was told since it joined."""
        self._batches.appendleft(Batch(events, position))
        self._news.set()

    def tell(self, events: Sequence[Told], position: Position) -> None:
        """Everything up to `position` that concerns it."""
        self.position = position
        if not events:
            return
        if len(self._batches) >= BACKLOG:
            self._lost = True
            self._batches.clear()
        else:
            self._batches.append(Batch(events, position))
        self._news.set()

    def end(self) -> None:
        self._over = True
        self._news.set()


class Feed:
    """`async with feed.follow(wanted, after) as follower`, as many as `limits` allow."""

    def __init__(self, db: Db, observe: Observe, limits: Limits = USUAL) -> None:
        self._db = db
        self._observe = observe
        self._limits = limits
        self._followers: set[Follower] = set()
        self._looking = asyncio.Lock()
        self._woken = asyncio.Event()
        self._position = BEGINNING
        self._shown: dict[int, datetime | None] = {}
        self._loop: asyncio.Task[None] | None = None
        self._closed = False
        self._troubled = False  # the database did not answer the last look

    def wake(self) -> None:
        """Something has happened: look soon."""
        self._woken.set()

    async def close(self) -> None:
        """Let every follower go, told up to now: also how the runs ended that the daemon waited for."""
        self._closed = True
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        if self._followers:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_LOOK_S):
                    await self._look_if_possible()
        self._let_go()

    def _let_go(self) -> None:
        for follower in self._followers:
            follower.end()

    @asynccontextmanager
    async def follow(self, wanted: Wanted, after: Position | None = None) -> AsyncIterator[Follower]:
        """Be told what happens from now on: to runs of a list; or to one run, which is told from its beginning.

        With `after`, all that has happened since is told first. Raises E0503, E0508, E0528, `Unavailable`.
        """
        if wanted.run is not None:
            await runs.show(self._db, wanted.run)
        follower = await self._joined(wanted)
        try:
            joined = follower.position
            follower.begin(await self._before(wanted, after or (None if wanted.run is None else BEGINNING)), joined)
            yield follower
        finally:
            self._followers.discard(follower)
            self.wake()

    async def _joined(self, wanted: Wanted) -> Follower:
        """A follower from the position of the last look on; between two looks, so that none is half told to it."""
        async with self._looking:
            if self._closed:
                raise problem("E0508", "the daemon is stopping", "come back with the last id")
            if len(self._followers) >= self._limits.followers:
                raise problem("E0528", f"{self._limits.followers} streams are open already", "close one, or poll")
            if self._loop is None or self._loop.done():
                async with feed.looking(self._db) as session:
                    self._position = await feed.now(session)
                self._loop = asyncio.create_task(self._run(), name="feed")
            follower = Follower(wanted, self._position)
            self._followers.add(follower)
            return follower

    async def _before(self, wanted: Wanted, start: Position | None) -> list[Told]:
        """What it has missed: up to now, and so a little of what it will be told again."""
        if start is None:
            return []
        async with feed.looking(self._db) as session:
            now = await feed.now(session)
            if start.next > now.next:
                return [Told("reset", Reset(reason="the id is of another database"))]
            return told(wanted, await gather(session, Stretch(start, now), [wanted]), {})

    # -- looking ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Look until nobody follows any more."""
        try:
            pause_s = PAUSE_S
            while await self._woken_or_time(pause_s):
                began = monotonic()
                await self._look_if_possible()
                pause_s = max(PAUSE_S, SHARE * (monotonic() - began))
        except Exception as error:
            self._observe(Noted("feed_failed", "error", {"error": f"{type(error).__name__}: {error}"}))
            self._let_go()

    async def _woken_or_time(self, pause_s: float) -> bool:
        """Wait for the next look; False when there is none to be told."""
        await asyncio.sleep(pause_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.look_s):
                await self._woken.wait()
        self._woken.clear()
        return bool(self._followers)

    async def _look_if_possible(self) -> None:
        """A look that the database does not answer is done again: its stretch is only longer then."""
        try:
            await self._look()
            self._troubled = False
        except (Unavailable, JobsdError) as gone:
            if not self._troubled:
                self._observe(DatabaseTrouble("feed", str(gone)))
            self._troubled = True

    async def _look(self) -> None:
        async with self._looking, feed.looking(self._db) as session:
            stretch = Stretch(self._position, await feed.now(session))
            wanted = [follower.wanted for follower in self._followers]
            lists = any(each.run is None for each in wanted)
            news = await gather(session, stretch, wanted, await feed.advanced(session, MOST) if lists else ())
            for follower in self._followers:
                follower.tell(told(follower.wanted, news, self._shown), stretch.end)
            self._position = stretch.end
            self._shown = {run: far.at for run, far in news.progress.items()}
