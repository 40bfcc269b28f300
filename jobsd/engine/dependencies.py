"""Slots that depend on other jobs: `needs` (a due slot first waits) and schedules of the form `after`.

Looked at when a run that others wait for has ended, when a wait is over, and now and then all the same.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from jobsd.domain.duration import format_duration
from jobsd.domain.events import DatabaseTrouble, SlotDecided
from jobsd.domain.job import JobDefinition
from jobsd.domain.run import RunState
from jobsd.domain.schedule import After
from jobsd.domain.slot import Decision, SlotDecision
from jobsd.engine.entry import Entry
from jobsd.engine.here import Here
from jobsd.engine.nap import nap
from jobsd.engine.scheduler import Scheduler
from jobsd.store import slots
from jobsd.store.db import Row, Unavailable
from jobsd.store.slots import Move

POLL_S = 15.0
NONE_S = 20.0  # it shows that it lives, with no job that depends on another
RETRY_S = 1.0
LONG_AGO = timedelta(days=366)


class Dependencies:
    """Lets dependent slots go when what they wait for is there, or says why they do not run."""

    def __init__(self, here: Here, scheduler: Scheduler) -> None:
        self.on_run: Callable[[int], None] = lambda _run: None
        self._here = here
        self._scheduler = scheduler
        self._wake = asyncio.Event()
        self._wait_s: float | None = None

    def wake(self) -> None:
        self._wake.set()

    def watched(self) -> frozenset[str]:
        """The jobs whose ends others wait for."""
        entries = self._scheduler.entries.values()
        return frozenset(name for entry in entries for name in (*entry.definition.needs, *_upstream(entry)))

    async def run(self) -> None:
        """Look for ever; sleeps until told, if no job depends on another."""
        while True:
            self._here.pulse.advance("dependencies", allowed_s=60)
            await nap(self._wake, NONE_S if self._wait_s is None else self._wait_s)
            try:
                self._wait_s = await self._look()
            except Unavailable as gone:
                self._here.observe(DatabaseTrouble("dependencies", str(gone)))
                self._wait_s = RETRY_S

    async def _look(self) -> float | None:
        """One look at all dependent jobs; returns when to look again without being told. Seconds."""
        needing = [entry for entry in self._scheduler.entries.values() if entry.definition.needs]
        following = [entry for entry in self._scheduler.entries.values() if isinstance(entry.schedule, After)]
        if self._scheduler.paused or not self._here.keeper.up:
            return RETRY_S
        for entry in following:
            await self._follow(entry)
        ends = await self._end_waits({entry.definition.name: entry for entry in needing}) if needing else []
        if not needing and not following:
            return None
        now = self._here.keeper.now()
        return min([POLL_S, *(max(0.1, (end - now).total_seconds()) for end in ends)])

    # -- needs ------------------------------------------------------------------------------------------------------

    async def _end_waits(self, entries: dict[str, Entry]) -> list[datetime]:
        """Decide the waiting slots that can be; returns when the waits of the others end."""
        left = []
        for row in await slots.waiting(self._here.db, list(entries)):
            entry = entries[row["job"]]
            verdict, reason = await self._verdict(entry.definition, row["slot_at"])
            over = row["wait_until"] <= self._here.keeper.now()
            if verdict is None and not over:
                left.append(row["wait_until"])
                continue
            if verdict is None:
                reason = f"waited {format_duration(entry.definition.needs_within)} in vain: {reason}"
            await self._decide_wait(entry, row, bool(verdict), reason)
        return left

    async def _verdict(self, job: JobDefinition, slot_at: datetime) -> tuple[bool | None, str]:
        """True when all it needs has completed, False when that can no longer be, None while it may; and why."""
        open_reason = ""
        for name in job.needs:
            done, reason = await self._completed(name, slot_at)
            if done is False:
                return False, reason
            if done is None:
                open_reason = open_reason or reason
        return (None, open_reason) if open_reason else (True, "")

    async def _completed(self, name: str, slot_at: datetime) -> tuple[bool | None, str]:
        """Whether `name` has completed for its same or latest slot; a job without a schedule: its latest run."""
        entry = self._scheduler.entries.get(name)
        if entry is None:
            run = await slots.latest_run(self._here.db, name)
            return _state(name, None if run is None else run["id"], None if run is None else run["state"])
        target = slot_at
        if not isinstance(entry.schedule, After):
            latest = entry.schedule.latest(slot_at - LONG_AGO, slot_at, 1)
            if not latest:
                return None, f"{name} has had no slot yet"
            target = latest[0]
        else:
            target = (await self._latest_slot(name)) or slot_at
        row = await slots.covering(self._here.db, name, target)
        if row is None:
            return None, f"{name}'s slot {target:%Y-%m-%d %H:%M:%S} UTC is not decided"
        if row["run"] is None:
            waiting = row["decision"] == Decision.WAITING
            reason = f"{name} did not run for {target:%Y-%m-%d %H:%M:%S} UTC: {row['decision']}"
            return (None if waiting else False), reason
        return _state(name, row["run"], row["state"])

    async def _latest_slot(self, name: str) -> datetime | None:
        row = (await slots.latest_of(self._here.db, [name])).get(name)
        return None if row is None else row["slot_at"]

    async def _decide_wait(self, entry: Entry, row: Row, runs: bool, reason: str) -> None:
        decision = Decision.RAN if runs else Decision.NEEDS
        ended = SlotDecision(decision, row["slot_at"], row["slot_at"], 1, reason)
        wanted = replace(self._scheduler.wanted(entry, ended), decision=decision, reason=reason, wait_until=None)
        run = await slots.end_wait(self._here.db, wanted, self._here.keeper.node)
        lag_s = (self._here.keeper.now() - row["slot_at"]).total_seconds()
        self._here.observe(SlotDecided(row["job"], decision, row["slot_at"], 1, lag_s, reason, run))
        if run is not None:
            self.on_run(run)

    # -- after ------------------------------------------------------------------------------------------------------

    async def _follow(self, entry: Entry) -> None:
        """Start a job of the form `after` when all it follows has completed for its latest slot."""
        upstream = _upstream(entry)
        latest = await slots.latest_of(self._here.db, upstream)
        decided_to = entry.decided.decided_to
        if len(latest) < len(upstream):
            return
        last, slot_at = max(((name, row["slot_at"]) for name, row in latest.items()), key=lambda each: each[1])
        if slot_at <= decided_to:
            return
        if any(row["state"] != RunState.COMPLETED for row in latest.values()):
            return
        decisions = [self._decision(entry, slot_at)]
        over = await slots.passed_over(self._here.db, last, decided_to, slot_at)
        if over is not None and over["count"]:
            reason = f"not all of {', '.join(upstream)} completed for it before the next one"
            passed = SlotDecision(Decision.NEEDS, over["first"], over["last"], over["count"], reason)
            decisions.insert(0, passed)
        move = Move(entry.definition.name, decided_to, slot_at, None)
        await self._scheduler.write([move], [self._scheduler.wanted(entry, decision) for decision in decisions])

    def _decision(self, entry: Entry, slot_at: datetime) -> SlotDecision:
        if not entry.enabled:
            return SlotDecision(Decision.DISABLED, slot_at, slot_at, reason="the job is switched off")
        return SlotDecision(Decision.RAN, slot_at, slot_at, due_at=self._here.keeper.now())


def _upstream(entry: Entry) -> tuple[str, ...]:
    return entry.schedule.jobs if isinstance(entry.schedule, After) else ()


def _state(name: str, run: int | None, state: str | None) -> tuple[bool | None, str]:
    if state == RunState.COMPLETED:
        return True, ""
    if run is None:
        return None, f"{name} has not run yet"
    if state in (RunState.QUEUED, RunState.RUNNING):
        return None, f"run {run} of {name} is {state}"
    return False, f"run {run} of {name} is {state}"
