"""Executes claimed runs, each in tasks of its own under `asyncio.timeout`, and hands what came of them to the settler.

Work that ignores its end is settled all the same; its place and its locks stay taken until it truly ends (P11).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from jobsd.domain.events import Noted, Observe, RunIgnoresCancellation, RunStarted
from jobsd.domain.lifecycle import SettlePolicy, fingerprint, settle
from jobsd.domain.outcome import AlertRow, Committed, Completed, Failed, Interrupted, Lost, Outcome, TimedOut
from jobsd.domain.run import CANARY, ClaimedRun, NodeId, RunId
from jobsd.engine.executors.base import Execution, execute
from jobsd.engine.executors.effects import Effects
from jobsd.engine.keeper import Keeper
from jobsd.engine.masking import Mask, masked
from jobsd.engine.reporter import Reporter
from jobsd.engine.settler import Settler
from jobsd.store.history import Ended
from jobsd.store.locks import Key

ROUND_S = 10.0
REAP_S = 3.0  # after the grace: for killing what is left and seeing that it is gone


@dataclass(slots=True)
class _Running:
    """One execution under way. `stop` is set from outside: what its outcome shall be once it has ended."""

    run: ClaimedRun
    node: NodeId  # as which it was claimed
    keys: Sequence[Key]
    stop: "asyncio.Future[Interrupted | Lost | Failed]"
    began_s: float = field(default_factory=monotonic)
    task: "asyncio.Task[Outcome] | None" = None
    effects: Effects = field(default_factory=Effects)  # of its own transaction
    settled: bool = False  # it ignored its end: only its place and its locks are still taken


class Workers:
    """The node's places for executions."""

    def __init__(self, places: int, keeper: Keeper, settler: Settler, observe: Observe) -> None:
        self.prepare: Callable[[ClaimedRun], tuple[Execution, Reporter]]  # set by the daemon
        self.policy: Callable[[str], SettlePolicy]  # set by the daemon: what the job declared
        self.on_free: Callable[[], None] = lambda: None
        self.on_alert: Callable[[AlertRow], None] = lambda _alert: None
        self.mask: Mask = str  # set by the daemon
        self.on_round: Callable[[], None] = lambda: None  # every ROUND_S seconds
        self._places = places
        self._keeper = keeper
        self._settler = settler
        self._observe = observe
        self._running: dict[RunId, _Running] = {}
        self._group: asyncio.TaskGroup | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Own the tasks of all executions; ends only by being cancelled."""
        async with asyncio.TaskGroup() as self._group:
            while True:
                self.on_round()
                await asyncio.sleep(ROUND_S)

    @property
    def free(self) -> int:
        return self._places - len(self._running)

    @property
    def running(self) -> list[tuple[ClaimedRun, float]]:
        """What is executed now, but for canaries, each with its age in seconds."""
        now = [each for each in self._running.values() if not each.settled and each.run.job != CANARY]
        return [(each.run, monotonic() - each.began_s) for each in now]

    def kept(self) -> tuple[list[int], list[int]]:
        """Lock ids, and runs, that must not be claimed here just now: the server would give us a lock twice.

        What is settled may be due again before its lock is given back, and work that ignored its end keeps it.
        """
        held = self._running.values()
        return [key.id for each in held for key in each.keys if not key.own], [each.run.id for each in held]

    def start(self, run: ClaimedRun, keys: Sequence[Key]) -> None:
        """Begin to execute a run that was just claimed."""
        if self._group is None:
            raise RuntimeError("the workers are not running")
        each = _Running(run, self._keeper.node, keys, asyncio.get_running_loop().create_future())
        self._running[run.id] = each
        self._idle.clear()
        self._settler.took(run.fence)
        self._observe(RunStarted(run, max(0.0, (run.started_at - run.due_at).total_seconds())))
        self._group.create_task(self._live(each), name=f"supervise run {run.id} {run.job}")

    def stop(self, why: Interrupted | Lost | Failed, runs: Sequence[RunId] | None = None) -> None:
        """End executions (default: all); each is settled with `why` as its outcome."""
        for run_id in list(self._running) if runs is None else runs:
            each = self._running.get(run_id)
            if each is not None and not each.stop.done():
                each.stop.set_result(why)

    async def idle(self) -> None:
        """Wait until nothing is executed any more."""
        await self._idle.wait()

    async def ended(self) -> None:
        """Wait until no execution is left that could still do something; what is settled may yet be written."""
        tasks = [each.task for each in self._running.values() if each.task is not None]
        if tasks:
            await asyncio.wait(tasks)

    def held(self) -> Mapping[RunId, Sequence[Key]]:
        """The locks of everything that has a place here."""
        return {run_id: each.keys for run_id, each in self._running.items()}

    def begun(self) -> Set[RunId]:
        """What has a place here. For any thread: made in one step."""
        return frozenset(self._running)

    def will_settle(self, run: ClaimedRun) -> bool:
        """Whether this attempt's outcome, known or still to come, is written from here."""
        each = self._running.get(run.id)
        return each is not None and each.run.fence == run.fence and not each.settled

    def is_settled(self, run_id: RunId) -> bool:
        """Whether it ignored its end: its run is settled, only its place and its locks are still taken."""
        each = self._running.get(run_id)
        return each is not None and each.settled

    async def _live(self, each: _Running) -> None:
        """From start to the place being free again."""
        run = each.run
        try:
            outcome = masked(await self._execute(each), self.mask)
            committed = await self._committed(each, outcome)
            each.settled = each.task is not None and not each.task.done()
            now = max(run.started_at, committed.ended_at if committed else self._now())  # that clock may step back
            true = Completed(committed.result) if committed else outcome
            ended = Ended(run, each.node, settle(run, self.policy(run.job), true, now), now)
            await self._settler.settle(ended, () if each.settled else each.keys, written=committed is not None)
            if each.settled:
                await self._outlive(each)
        finally:
            if each.task is not None:
                each.task.cancel()
            del self._running[run.id]
            if not self._running:
                self._idle.set()
            self.on_free()

    async def _committed(self, each: _Running, outcome: Outcome) -> Committed | None:
        """The end that the job's own transaction has given the run, whatever came of the attempt after it."""
        if each.effects.in_doubt:
            return await self._settler.find_out(each.run)
        if (end := each.effects.end) and not isinstance(outcome, Completed):
            fields = {"run": each.run.id, "job": each.run.job, "outcome": type(outcome).__name__}
            self._observe(Noted("ended_badly_after_its_commit", "warning", fields))
        return end

    async def _execute(self, each: _Running) -> Outcome:
        if self._keeper.lease_left_s() <= 0:  # this process slept since the claim
            return Lost("its lease was over before it could start")
        try:
            execution, reporter = self.prepare(each.run)
        except Exception as error:  # its job left the registry between the claim and here
            return Failed("start", f"the run could not be prepared: {type(error).__name__}: {error}")
        each.effects = execution.effects
        each.task = asyncio.create_task(execute(execution), name=f"run {each.run.id} {each.run.job}")
        outcome = await self._supervise(each, execution, each.task)
        if execution.effects.end is not None:
            reporter.drop()
        await reporter.flush()
        return outcome

    async def _supervise(self, each: _Running, execution: Execution, task: "asyncio.Task[Outcome]") -> Outcome:
        limit_s = execution.definition.timeout.total_seconds()
        either: set[asyncio.Future[Any]] = {task, each.stop}
        try:
            async with asyncio.timeout(limit_s):
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            pass
        late = monotonic() - each.began_s >= limit_s
        if task.done() and not late:
            return _outcome(task)
        task.cancel()
        await asyncio.wait({task}, timeout=execution.definition.grace.total_seconds() + REAP_S)
        return self._cut_short(each, execution, limit_s, still_running=not task.done())

    def _cut_short(self, each: _Running, execution: Execution, limit_s: float, *, still_running: bool) -> Outcome:
        if each.stop.done():
            why = each.stop.result()
            if isinstance(why, Lost):
                return why
            if isinstance(why, Failed):
                goes_on = "; it ignores that and is still running" if still_running else ""
                return replace(why, error=why.error + goes_on, usage=execution.usage)
            return Interrupted(why.reason, still_running, execution.usage)
        error = f"did not end within its timeout of {limit_s:g} s"
        if still_running:
            error += "; it ignored its cancellation and is still running: its lock and its place stay taken"
        return TimedOut(limit_s, error, still_running, execution.usage)

    async def _outlive(self, each: _Running) -> None:
        """Keep place and locks of work that ignored its end, until it does end."""
        self._observe(RunIgnoresCancellation(each.run, monotonic() - each.began_s))
        self.on_alert(ignored_alert(each.run))
        if each.task is not None:
            await asyncio.wait({each.task})
        self._observe(RunIgnoresCancellation(each.run, monotonic() - each.began_s, ended=True))
        await self._keeper.unlock(each.keys, each.node)

    def _now(self) -> datetime:
        """The database's clock; before the first beat, which no run precedes, the machine's."""
        return self._keeper.now() if self._keeper.node else datetime.now(UTC)


def ignored_alert(run: ClaimedRun) -> AlertRow:
    """Told at once: that its run has failed is told only when no retry is left, and that retry waits for this end."""
    return AlertRow(
        type="HEALTH",
        fingerprint=fingerprint("HEALTH", "ignores_cancellation", run.job),
        summary=f"run {run.id} of {run.job} ignores its end and is still running: its lock and its place stay taken",
        job=run.job,
        run=run.id,
    )


def _outcome(task: "asyncio.Task[Outcome]") -> Outcome:
    """What `execute` returned; it raises nothing but its own cancellation, which nobody asked for here."""
    if task.cancelled():
        return Failed("cancelled", "the job cancelled itself")
    if error := task.exception():
        return Failed(type(error).__name__, f"{type(error).__name__}: {error}")
    return task.result()
