"""Decides every due slot of every job, on time (P1, P2). What is decided `domain.decide` says; `store.slots` writes it.

Every node does this; the compare-and-set on how far a schedule is decided lets one of them win, so there is no leader.
Waiting for other jobs is in `engine.dependencies`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush

from pydantic import ValidationError

from jobsd.domain.decide import Down, decide
from jobsd.domain.events import DatabaseTrouble, Noted, SlotDecided
from jobsd.domain.job import JobDefinition
from jobsd.domain.lock_key import lock_key_of
from jobsd.domain.schedule import schedule_of
from jobsd.domain.slot import MAKES_A_RUN, Decision, SlotDecision
from jobsd.engine.entry import Entry, extended, move_of
from jobsd.engine.here import Here
from jobsd.engine.nap import nap
from jobsd.store import jobs, nodes, slots
from jobsd.store.db import Row, Unavailable
from jobsd.store.slots import Move, Wanted

LONGEST_SLEEP_S = 5.0  # the monotonic clock stands still while the machine is suspended
RETRY_S = 0.5
HELD = timedelta(seconds=0.2)  # until the next look at a job whose slots somebody's transaction keeps from us
HELD_TRIES = 25
REFRESH_S = 30.0  # what other nodes decided and switched is read again so often, also without being told
BATCH = 1000


class Scheduler:
    def __init__(self, here: Here) -> None:
        self.paused = False  # draining, or switched off: nothing is decided
        self.on_runs: Callable[[Sequence[Row]], None] = lambda _made: None
        self.dry_run = False
        self._here = here
        self.entries: dict[str, Entry] = {}
        self._heap: list[tuple[datetime, str]] = []
        self._held: set[str] = set()  # jobs whose slots nobody decided, we neither
        self._wake = asyncio.Event()
        self._refresh = False
        self._turn = asyncio.Lock()  # a registry is loaded, or slots are decided, never both at once
        self._down: Down | None = None

    def wake(self, *, refresh: bool = False) -> None:
        """Look again now; with `refresh` after reading what others decided and switched."""
        self._refresh = self._refresh or refresh
        self._wake.set()

    async def load(self, definitions: Mapping[str, JobDefinition]) -> None:
        """Register a registry. Slots that the schedules so far leave undecided are decided first, by those.

        Raises `Unavailable`; then the schedules so far go on.
        """
        async with self._turn:
            before = self.entries
            try:
                await self._load(definitions)
            except BaseException:
                self.entries = before
                raise
            self._rebuild()

    async def _load(self, definitions: Mapping[str, JobDefinition]) -> None:
        known = await jobs.hashes(self._here.db, list(definitions))
        changed = [job for name, job in definitions.items() if known.get(name) != job.hash]
        await self._decide_changed({job.name: job for job in changed if job.name in known})
        async with self._here.db.transaction() as session:
            await jobs.register(session, changed)
        timed = [job for job in definitions.values() if job.schedule is not None]
        self.entries = await self._entries(timed)

    async def _decide_changed(self, changed: Mapping[str, JobDefinition]) -> None:
        """A schedule that changed while no node was up still owes its old slots their decisions."""
        old = [self._old(text) for text in await jobs.definitions(self._here.db, list(changed))]
        gone = [job for job in old if job and job.schedule and job.schedule_hash != changed[job.name].schedule_hash]
        if gone:
            self.entries = await self._entries(gone)
            for _ in range(HELD_TRIES):
                await self._decide(list(self.entries))
                if not self._held:
                    return
                await asyncio.sleep(HELD.total_seconds())
            raise Unavailable(TimeoutError(f"slots of {', '.join(sorted(self._held))} are kept from being decided"))

    def _old(self, text: str) -> JobDefinition | None:
        """A definition as it was registered; None for one of another version of jobsd that this one cannot read."""
        try:
            return JobDefinition.model_validate_json(text)
        except ValidationError as error:
            self._here.observe(Noted("old_definition_not_readable", "warning", {"error": str(error)[:500]}))
            return None

    async def _entries(self, definitions: Sequence[JobDefinition]) -> dict[str, Entry]:
        decided = await jobs.decided(self._here.db, [job.name for job in definitions])
        keys = {job.name: lock_key_of(job.key_template, job.params) for job in definitions}
        ids = await jobs.lock_keys(self._here.db, [key for key in keys.values() if key is not None])
        await jobs.add_caps(self._here.db, [job.name for job in definitions if job.max_active is not None])
        return {
            job.name: Entry(job, schedule_of(job.schedule), ids.get(keys[job.name] or ""), decided[job.name])
            for job in definitions
            if job.name in decided
        }

    def _rebuild(self) -> None:
        self._heap = [(at, name) for name, entry in self.entries.items() if (at := entry.next_at()) is not None]
        heapify(self._heap)
        self._wake.set()

    async def note_downtime(self) -> None:
        """Find out since when no node was up, so that slots of that time get their reason."""
        since = await nodes.down_since(self._here.db, self._here.keeper.node)
        self._down = None if since is None else Down(since, self._here.keeper.now())

    async def run(self) -> None:
        """Decide for ever."""
        refreshed_s = asyncio.get_running_loop().time()
        while True:
            self._here.pulse.advance("scheduler")
            await nap(self._wake, self._sleep_s())
            if self.paused or not self._here.keeper.up:
                await asyncio.sleep(RETRY_S)
                continue
            try:
                async with self._turn:
                    now_s = asyncio.get_running_loop().time()
                    if self._refresh or now_s - refreshed_s > REFRESH_S:
                        self._refresh, refreshed_s = False, now_s
                        await self._read_again()
                    await self._tick()
            except Unavailable as gone:
                self._here.observe(DatabaseTrouble("scheduler", str(gone)))
                await asyncio.sleep(RETRY_S)

    def _sleep_s(self) -> float:
        if not self._heap or self._here.keeper.node == 0:
            return LONGEST_SLEEP_S
        return min(LONGEST_SLEEP_S, max(0.0, (self._heap[0][0] - self._here.keeper.now()).total_seconds()))

    async def _read_again(self) -> None:
        """Slots of a job that was just switched are decided by the switch as it was, up to the moment we hear of it."""
        fresh = await jobs.decided(self._here.db, list(self.entries))
        switched = [name for name, seen in fresh.items() if seen.enabled != self.entries[name].decided.enabled]
        if switched:
            await self._decide(switched)
            fresh = {**fresh, **await jobs.decided(self._here.db, switched)}
        for name, seen in fresh.items():
            self.entries[name].decided = seen
        self._rebuild()

    async def _tick(self) -> None:
        now = self._here.keeper.now()
        due: list[str] = []
        while self._heap and self._heap[0][0] <= now and len(due) < BATCH:
            due.append(heappop(self._heap)[1])
        if not due:
            return
        try:
            await self._decide(due)
        finally:
            for name in due:
                if name in self.entries and (at := self.entries[name].next_at()) is not None:
                    heappush(self._heap, (max(at, now + HELD) if name in self._held else at, name))

    async def _decide(self, names: Sequence[str]) -> None:
        """Decide all slots of these jobs that are due, in one statement."""
        now = self._here.keeper.now()
        moves: list[Move] = []
        wanted: list[Wanted] = []
        self._held.clear()
        for name in names:
            entry = self.entries[name]
            if decisions := self._decisions(entry, now):
                moves.append(move_of(entry, decisions))
                wanted.append(replace(self.wanted(entry, decisions[0]), extends=extended(entry, decisions[0])))
                wanted.extend(self.wanted(entry, decision) for decision in decisions[1:])
        if moves:
            await self.write(moves, wanted)

    async def write(self, moves: Sequence[Move], wanted: Sequence[Wanted]) -> None:
        """Write decisions; of jobs that another node decided meanwhile, what it wrote stands."""
        rows = await slots.decide(self._here.db, moves, wanted, self._here.keeper.node)
        await self._settle_moves(moves, rows)
        self._tell(rows)

    def wanted(self, entry: Entry, decision: SlotDecision) -> Wanted:
        """A decision with what its run needs. A job that needs others first waits for them."""
        job = entry.definition
        spec = job.schedule
        waits = bool(job.needs) and decision.decision in MAKES_A_RUN
        since = max(decision.slot_at, self._here.keeper.now())
        return Wanted(
            job=job.name,
            slot_at=decision.slot_at,
            to_at=decision.to_at,
            count=decision.count,
            decision=Decision.WAITING if waits else decision.decision,
            reason=f"waits for {', '.join(job.needs)}" if waits else decision.reason,
            due_at=decision.due_at,
            wait_until=since + job.needs_within if waits else None,
            extends=None,
            lock_key=entry.lock_key,
            may_overlap=entry.lock_key is None or spec is None or spec.overlap == "wait" or spec.missed == "all",
            priority=job.priority,
            params=job.plain_params,
            dry_run=self.dry_run or job.dry_run,
            permanent=job.permanent,
            max_active=job.max_active,
        )

    def _decisions(self, entry: Entry, now: datetime) -> list[SlotDecision]:
        if entry.definition.schedule is None:
            return []
        return decide(
            entry.schedule,
            entry.definition.schedule,
            entry.definition.name,
            enabled=entry.enabled,
            decided_to=entry.decided.decided_to,
            now=now,
            down=self._down,
        )

    async def _settle_moves(self, moves: Sequence[Move], rows: Sequence[Row]) -> None:
        """Go on from what was written; where another node was first, from what it wrote."""
        won = {row["job"] for row in rows}
        latest = {row["job"]: row for row in rows if row["slot_at"] is not None}
        for move in moves:
            entry = self.entries.get(move.job)
            if entry is not None and move.job in won:
                row = latest.get(move.job)
                entry.decided = replace(
                    entry.decided,
                    decided_to=move.new_to,
                    stretch_from=move.stretch_from,
                    stretch_decision=row["decision"] if row else None,
                    stretch_reason=row["reason"] if row else None,
                )
        lost = [move.job for move in moves if move.job not in won and move.job in self.entries]
        if lost:
            await self._follow_others(lost)

    async def _follow_others(self, names: Sequence[str]) -> None:
        """Go on from what another node wrote; a schedule that is gone was removed by one with a newer registry."""
        seen = await jobs.decided(self._here.db, names)
        for name in names:
            entry = self.entries.get(name)
            if entry is not None and name in seen:
                if seen[name].decided_to == entry.decided.decided_to:
                    self._held.add(name)
                entry.decided = replace(seen[name], enabled=entry.decided.enabled)
            elif entry is not None:
                del self.entries[name]
                self._here.observe(Noted("schedule_removed_elsewhere", "warning", {"job": name}))

    def _tell(self, rows: Sequence[Row]) -> None:
        made = []
        now = self._here.keeper.now()
        for row in rows:
            if row["slot_at"] is None:
                continue
            lag_s = max(0.0, (now - row["to_at"]).total_seconds())
            self._here.observe(
                SlotDecided(row["job"], row["decision"], row["slot_at"], row["count"], lag_s, row["reason"], row["run"])
            )
            if row["decision"] in MAKES_A_RUN or row["decision"] == Decision.WAITING:
                made.append(row)
        if made:
            self.on_runs(made)
