"""Rescue by evidence (P7): a node is dead when its beat stands still against our clock, or its death is proved.

It is declared dead by compare-and-set, so that it can never beat again; its lock session is ended, its lock taken, and
its runs are settled as lost, with the evidence.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic

from jobsd.domain.events import DatabaseTrouble, Noted, RunsLost
from jobsd.domain.lifecycle import SettlePolicy, fingerprint, settle
from jobsd.domain.outcome import AlertRow, Lost, Settlement, by_force
from jobsd.domain.run import ClaimedRun, NodeId, RunId
from jobsd.engine.here import Here
from jobsd.registry.settings import LeaseSettings
from jobsd.store import effects, forced, history, locks, nodes, runs
from jobsd.store.db import Unavailable
from jobsd.store.forced import Forced
from jobsd.store.history import Ended
from jobsd.store.locks import LockConnection
from jobsd.store.nodes import OtherNode

LOOK_S = 1.0  # the longest pause between two looks, so that a rescue comes at most so late; four fit into `rescue`


@dataclass(frozen=True, slots=True)
class Seen:
    """A node's beat, since when (monotonic) we have seen that one, and in how many looks."""

    beat: int
    since_s: float
    looks: int = 1


class Rescuer:
    def __init__(self, here: Here, lease: LeaseSettings) -> None:
        self.policy: Callable[[str], SettlePolicy]  # set by the daemon
        self.in_hand: Callable[[ClaimedRun], bool] = lambda _run: False  # this process settles it itself
        self.on_rescued: Callable[[], None] = lambda: None
        self._here = here
        self._rescue_s = lease.rescue.total_seconds()
        self._seen: dict[NodeId, Seen] = {}

    async def rescue_predecessors(self) -> None:
        """Settle at once what earlier starts here left: the state directory's lock proves that they are gone."""
        for other in await nodes.predecessors(self._here.db, self._here.who, self._here.keeper.node):
            proof = "a successor holds the state directory's lock and no process is left"
            await nodes.declare_dead(self._here.db, other, self._evidence(other, proof))
        await self._settle_dead()

    def unstarted(self, claimed: Sequence[ClaimedRun]) -> list[Ended]:
        """What puts back runs whose claim was done while its answer was lost: they never began here."""
        never = Lost("the answer to its claim was lost; it never began")
        policy, now = SettlePolicy(restartable=True), self._here.keeper.now()
        return [Ended(run, self._here.keeper.node, settle(run, policy, never, now), now) for run in claimed]

    async def run(self) -> None:
        """Watch the others for ever."""
        while True:
            try:
                if self._here.keeper.up:
                    await self._look()
                else:
                    self._seen.clear()  # a beat that could not be seen did not stand still
            except Unavailable as gone:
                self._seen.clear()
                self._here.observe(DatabaseTrouble("rescuer", str(gone)))
            self._here.pulse.advance("rescuer")
            await asyncio.sleep(min(LOOK_S, self._rescue_s / 4))

    async def _look(self) -> None:
        others = await nodes.live(self._here.db, self._here.keeper.node)
        now_s = monotonic()
        self._seen = {other.id: self._seen_at(other, now_s) for other in others}
        for other in others:
            still_s = now_s - self._seen[other.id].since_s
            if still_s >= self._rescue_s:
                await self._declare(other, still_s)
        await self._settle_dead()

    def _seen_at(self, other: OtherNode, now_s: float) -> Seen:
        seen = self._seen.get(other.id)
        if seen is None or seen.beat != other.beat:
            return Seen(other.beat, now_s)
        return replace(seen, looks=seen.looks + 1)

    async def _declare(self, other: OtherNode, still_s: float) -> None:
        evidence = self._evidence(other, "its heartbeat stood still")
        evidence |= {"for_s": round(still_s, 1), "looks": self._seen[other.id].looks, "rescue_s": self._rescue_s}
        down = AlertRow(
            type="NODE_DOWN",
            fingerprint=fingerprint("NODE_DOWN", other.name),
            summary=f"node {other.name} is down: its heartbeat stood still for {still_s:.1f} s",
            detail=evidence,
        )
        if await nodes.declare_dead(self._here.db, other, evidence, down):
            self._here.observe(Noted("node_declared_dead", "error", evidence))

    def _evidence(self, other: OtherNode, proof: str) -> dict[str, object]:
        """Who saw what of whom: its last beat by number and by the database's clock, and when it was found dead."""
        return {
            "proof": proof,
            "node": other.name,
            "beat": other.beat,
            "beat_at": other.beat_at.isoformat(timespec="milliseconds"),
            "seen_by": self._here.who.name,
            "declared_at": self._here.keeper.now().isoformat(timespec="milliseconds"),
        }

    async def _settle_dead(self) -> None:
        for node, name, evidence in await nodes.unsettled(self._here.db):
            await self._settle(node, name, evidence)

    async def _settle(self, node: NodeId, name: str, evidence: Mapping[str, object]) -> None:
        """With the dead node's lock in hand, so that its session is surely gone, settle all it ran.

        But for what this very process ran before it was fenced and has an outcome for: that is the settler's.
        """
        if not await self._here.keeper.ask(lambda lock: _take(lock, node)):
            return  # its session is just being ended, or another rescuer is at work: next look
        try:
            sessions = await self._end_sessions(node)
            reason = f"node {name} is gone: {evidence.get('proof', 'it stopped')}"
            now = self._here.keeper.now()
            ended = []
            running = await runs.running_on(self._here.db, node)  # some have just been committed by their own job
            left = [run for run in running if not self.in_hand(run)]
            asked = await forced.among(self._here.db, left)
            for run in left:
                lost = Lost(reason, {**evidence, **sessions.get(run.id, {})})
                ended.append(Ended(run, node, self._decided(run, lost, asked.get(run.id), now), now))
            if settled := await self._write(ended):
                self._here.observe(RunsLost(name, settled, reason))
            await nodes.drop_claims(self._here.db, node)
        finally:
            await self._here.keeper.ask(lambda lock: locks.free_node(lock, node))
        self.on_rescued()

    def _decided(self, run: ClaimedRun, lost: Lost, by: Forced | None, now: datetime) -> Settlement:
        """What somebody wanted to fail has failed, whatever its job says of lost runs."""
        if by is None:
            return settle(run, self.policy(run.job), lost, now)
        failed = settle(run, self.policy(run.job), by_force(by.actor, by.reason), now)
        return replace(failed, evidence=lost.evidence)

    async def _end_sessions(self, node: NodeId) -> dict[RunId, Mapping[str, object]]:
        """End the sessions in which its jobs still stand on their runs, however long they would; the evidence of each.

        A frozen process, or one behind a dead link, may be between the completion of its run and the COMMIT.
        """
        attempts = [(run.id, run.fence) for run in await runs.running_on(self._here.db, node)]
        ended = await effects.end_sessions(self._here.db, attempts) if attempts else []
        return {each.run: {"session_ended": f"{each.application_name} (pid {each.pid})"} for each in ended}

    async def _write(self, ended: Sequence[Ended]) -> int:
        """Settle them; where somebody holds a run's row, each by itself, so that only that one waits. How many."""
        if not ended:
            return 0
        try:
            await history.settle(self._here.db, ended, self._here.actor)
        except Unavailable as gone:
            if not gone.blocked:
                raise
            if len(ended) == 1:
                fields = {"run": ended[0].run.id, "job": ended[0].run.job, "error": str(gone)}
                self._here.observe(Noted("run_not_rescued", "warning", fields))
                return 0
            return sum([await self._write([each]) for each in ended])
        return len(ended)


async def _take(lock: LockConnection, node: NodeId) -> bool:
    if await locks.try_node(lock, node):
        return True
    await locks.terminate_holder(lock, node)
    return await locks.try_node(lock, node)
