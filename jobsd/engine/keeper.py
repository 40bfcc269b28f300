"""The keeper of the lock session: a thread and event loop of its own, so that no job can starve it.

It beats, claims, unlocks; when the session is lost it gets a new one within `adopt` and takes the same locks again, or
else the node is fenced (P6). What that means for the runs is told to the main loop, which ends or keeps them.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from jobsd.domain.errors import JobsdError
from jobsd.domain.events import Event, LockSession, Noted, Observe
from jobsd.domain.run import ClaimedRun, NodeId, RunId
from jobsd.engine.nap import jittered, nap
from jobsd.engine.pulse import Pulse
from jobsd.registry.settings import LeaseSettings
from jobsd.store import history, locks, nodes
from jobsd.store.db import Unavailable
from jobsd.store.history import Ended
from jobsd.store.locks import Key, LockConnection
from jobsd.store.runs import Claim, ClaimRequest, claim, running_on

T = TypeVar("T")
Recheck = Callable[[frozenset[Key], Sequence[ClaimedRun]], Awaitable[Sequence[Ended]]]
RETRY_S = 0.1
RETAKE_S = 0.5  # a dying backend may still hold a key for so long


@dataclass(frozen=True, slots=True)
class Where:
    """How to reach the database for the lock session, and who asks."""

    url: str
    schema: str
    who: nodes.Identity
    pools: tuple[str, ...]
    registry: str


async def _nothing(_missing: frozenset[Key], _running: Sequence[ClaimedRun]) -> Sequence[Ended]:
    return ()


class Keeper:
    """Owns the lock session. Its public calls are for the main loop; what starts with `_` runs in its own thread."""

    def __init__(self, where: Where, lease: LeaseSettings, pulse: Pulse, observe: Observe) -> None:
        self.where = where
        self.node = NodeId(0)
        self.up = False
        self.on_lease: Callable[[int], None] = lambda _ns: None  # called in the keeper's thread
        self.recheck: Recheck = _nothing  # these two in the main loop
        self.begun: Callable[[], Set[RunId]] = frozenset  # what the main loop executes, read in the keeper's thread
        self.on_fenced: Callable[[str], None] = lambda _reason: None
        self._lease = lease
        self._pulse = pulse
        self._main = asyncio.get_running_loop()
        self._tell = observe
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="jobsd lock session", daemon=True)
        self._turn = asyncio.Lock()
        self._lock: LockConnection | None = None
        self._held: set[Key] = set()
        self._good_s = 0.0
        self._timeline = 0
        self._clock: tuple[datetime, float] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._broken = asyncio.Event()

    # -- called in the main loop ------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, prove the session, register this node and take its lock. Raises `Unavailable` or `JobsdError`."""
        if not self._thread.is_alive():
            self._thread.start()
        await self._there(self._open())

    async def claim(self, request: ClaimRequest) -> Claim:
        """Take due runs. Raises `Unavailable` when there is no session, or the answer was lost."""
        return await self._there(self._with_session(lambda lock: self._claim(lock, request)))

    async def unlock(self, keys: Iterable[Key], node: NodeId) -> None:
        """Give keys back that were taken as `node`; those of a session, or of a node, that is gone are gone with it."""
        given = list(keys)
        try:
            await self._there(self._with_session(lambda lock: self._unlock(lock, given, node)))
        except Unavailable:
            self._loop.call_soon_threadsafe(self._held.difference_update, given)

    async def ask(self, work: Callable[[LockConnection], Awaitable[T]]) -> T:
        """Do something else on the lock session. Raises `Unavailable`."""
        return await self._there(self._with_session(work))

    async def close(self) -> None:
        """End the session, which gives every lock back, and the thread."""
        if self._thread.is_alive():
            await self._there(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            await asyncio.to_thread(self._thread.join, 5)
        if not self._thread.is_alive():
            self._loop.close()

    def serves(self, node: NodeId) -> bool:
        """Whether what was claimed as `node` may still run; not once it is fenced."""
        return self._lock is not None and self.node == node

    @property
    def registered(self) -> bool:
        """Whether this node has its row and, but for a session that is just being replaced, its lock."""
        return self._lock is not None

    def lease_left_s(self) -> float:
        """How long what was claimed here may still run, unless the node beats again. Seconds; below 0: no more."""
        return self._good_s + self._lease.lease.total_seconds() - time.clock_gettime(time.CLOCK_BOOTTIME)

    @property
    def timeline(self) -> int:
        """That of the server which the lock session was last on; 0 before there was one."""
        return self._timeline

    def now(self) -> datetime:
        """The database's clock as of the last beat, carried on by the monotonic one."""
        if self._clock is None:
            raise Unavailable(ConnectionError("no beat yet"))
        at, seen_s = self._clock
        return at + timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME) - seen_s)

    async def _there(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the keeper's thread and await it here."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _recheck(self, missing: frozenset[Key], running: Sequence[ClaimedRun]) -> Sequence[Ended]:
        return await self.recheck(missing, running)

    def _observe(self, event: Event) -> None:
        self._main.call_soon_threadsafe(self._tell, event)

    # -- in the keeper's thread -------------------------------------------------------------------------------------

    async def _open(self) -> None:
        self._pulse.advance("lock session")  # it does not hang: it tries
        lock = await self._connect(alone=True)
        try:
            self.node = await nodes.register(lock.session, self.where.who, self.where.pools, self.where.registry)
            if not await locks.try_node(lock, self.node):
                raise Unavailable(ConnectionError(f"the lock of node {self.node} is held by another session"))
            await self._beat(lock)
            self._lock, self._held = lock, set()
        finally:
            self._cut_unless_kept(lock)
        self._pulse.advance("lock session")
        self.up = True
        self._beating = asyncio.get_running_loop().create_task(self._beat_forever())
        self._observe(LockSession("up"))

    def _cut_unless_kept(self, lock: LockConnection) -> None:
        """A session that did not become ours gives up what it has taken: the next one is to have it."""
        if lock is not self._lock:
            lock.session.con.terminate()

    async def _connect(self, *, alone: bool = False) -> LockConnection:
        name = f"jobsd lock {self.where.who.name}"
        deadline_s = self._lease.deadline.total_seconds()
        lock = await locks.open_lock_connection(self.where.url, self.where.schema, name, deadline_s, alone=alone)
        self._broken.clear()
        self._timeline = lock.server.timeline
        lock.session.con.add_termination_listener(lambda _con: self._broken.set())
        return lock

    async def _with_session(self, work: Callable[[LockConnection], Awaitable[T]]) -> T:
        if self._lock is None or not self.up:
            raise Unavailable(ConnectionError("the lock session is down"))
        async with self._turn:
            if self._lock is None or not self.up:
                raise Unavailable(ConnectionError("the lock session is down"))
            return await work(self._lock)

    async def _claim(self, lock: LockConnection, request: ClaimRequest) -> Claim:
        if self._adopt_left_s() <= 0:
            raise Unavailable(ConnectionError("the lease is over"))
        try:
            taken = await claim(lock, request)
        except Unavailable:
            await self._give_back_strays(lock)
            raise
        self._held.update(key for keys in taken.keys.values() for key in keys)
        if taken.surplus:
            await locks.unlock(lock, taken.surplus)
        return taken

    async def _give_back_strays(self, lock: LockConnection) -> None:
        """A claim that failed may have left locks: they outlive the statement's rollback."""
        if not lock.session.con.is_closed():
            strays = await locks.held(lock) - self._held
            await locks.unlock(lock, strays)

    async def _unlock(self, lock: LockConnection, keys: list[Key], node: NodeId) -> None:
        if node != self.node:  # fenced since then: such a key may be held again, for other work
            return
        self._held.difference_update(keys)
        if missing := await locks.unlock(lock, keys):
            self._observe(Noted("unlock_of_a_lock_not_held", "error", {"count": missing}))

    async def _beat_forever(self) -> None:
        while True:
            await nap(self._broken, self._lease.beat.total_seconds())
            try:
                async with self._turn:
                    if self._lock is None or not await self._beat(self._lock):
                        return self._fence("this node has been declared dead")
            except Unavailable as gone:
                if not await self._recover(gone):
                    return None
            self._pulse.advance("lock session")

    async def _beat(self, lock: LockConnection) -> bool:
        """One heartbeat. The lease runs from when it was sent."""
        lock.require_newest()
        sent_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        now = await nodes.beat(lock.session, self.node)
        if now is None:
            return False
        back_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._good_s = sent_s
        self._clock = (now, (sent_s + back_s) / 2)
        self.on_lease(round((sent_s + self._lease.lease.total_seconds()) * 1e9))
        return True

    def _adopt_left_s(self) -> float:
        return self._good_s + self._lease.adopt.total_seconds() - time.clock_gettime(time.CLOCK_BOOTTIME)

    async def _recover(self, cause: Unavailable) -> bool:
        """Get a new session with the same locks before `adopt` is over; else fence. True when it worked."""
        self.up = False
        self._observe(LockSession("lost", str(cause)))
        if self._lock is not None:
            self._lock.session.con.terminate()
        while self._adopt_left_s() > 0:
            self._pulse.advance("lock session")
            try:
                async with asyncio.timeout(self._adopt_left_s()):
                    return await self._adopt()
            except (Unavailable, TimeoutError):
                await asyncio.sleep(jittered(RETRY_S))
            except JobsdError as refused:
                self._fence(str(refused))
                return False
        self._fence(f"no lock session for {self._lease.adopt.total_seconds():g} s: {cause}")
        return False

    async def _adopt(self) -> bool:
        lock = await self._connect()
        try:
            return await self._take_over(lock)
        finally:
            self._cut_unless_kept(lock)

    async def _take_over(self, lock: LockConnection) -> bool:
        if not await self._beat(lock):
            self._fence("this node has been declared dead")
            return False
        until_s = time.monotonic() + RETAKE_S
        while not await locks.try_node(lock, self.node):  # our own half-dead session may still hold it
            await locks.terminate_holder(lock, self.node)
            await asyncio.sleep(RETRY_S)
        missing = self._held - await locks.retake(lock, self._held)
        while missing and time.monotonic() < until_s:
            await asyncio.sleep(RETRY_S)
            missing -= await locks.retake(lock, missing)
        self._held -= missing
        await self._check(lock, frozenset(missing))
        self._lock, self.up = lock, True
        self._observe(LockSession("adopted", runs=len(self._held)))
        return True

    async def _check(self, lock: LockConnection, missing: frozenset[Key]) -> None:
        """Have what runs here compared with the database, all on this session: the others may be as dead as the last.

        What the main loop answers are claims that never began; they are put back.
        """
        begun = self.begun()  # before the database is asked: meanwhile some may end, and be settled
        running = await running_on(lock.session, self.node)
        checking = asyncio.run_coroutine_threadsafe(self._recheck(missing, running), self._main)
        if unstarted := [each for each in await asyncio.wrap_future(checking) if each.run.id not in begun]:
            never = {each.run.id for each in unstarted}
            at_work = {run.fence for run in running if run.id not in never}
            over = {each.run.fence for each in unstarted} - at_work  # claims of which nothing began
            await history.settle_within(lock.session, unstarted, f"node:{self.where.who.name}", list(over))

    def _fence(self, reason: str) -> None:
        self.up = False
        self._held.clear()
        if self._lock is not None:
            self._lock.session.con.terminate()
            self._lock = None
        self._observe(LockSession("fenced", reason))
        self._main.call_soon_threadsafe(self.on_fenced, reason)

    async def _close(self) -> None:
        self.up = False
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait({self._beating})
        if self._lock is not None:
            self._lock.session.con.terminate()
            self._lock = None
            await asyncio.sleep(0)  # the transport closes in the loop's next round
