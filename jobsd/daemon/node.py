"""A node put together: the engine's loops with what each needs of the others. What it does when, `serve` says."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobsd.daemon.duties import duties
from jobsd.daemon.fencing import Fencing
from jobsd.daemon.prepared import Prepared
from jobsd.domain.events import DatabaseTrouble, LoopBlocked, Noted, Observe
from jobsd.domain.outcome import AlertRow
from jobsd.domain.run import CANARY
from jobsd.engine import canary
from jobsd.engine.alerter import Alerter
from jobsd.engine.canary import Canary
from jobsd.engine.claimer import Claimer
from jobsd.engine.dependencies import Dependencies
from jobsd.engine.executors.guardians import Guardians
from jobsd.engine.here import Here
from jobsd.engine.housekeeper import Housekeeper
from jobsd.engine.keeper import Keeper, Where
from jobsd.engine.pulse import Pulse
from jobsd.engine.rescuer import Rescuer
from jobsd.engine.scheduler import Scheduler
from jobsd.engine.sealer import Sealer
from jobsd.engine.settler import Settler
from jobsd.engine.spool import Spool
from jobsd.engine.stale import StaleSweep
from jobsd.engine.stall import StallWatch, blocked_alert
from jobsd.engine.steward import Steward
from jobsd.engine.worker import Workers
from jobsd.observe import channels
from jobsd.observe.metrics import Metrics
from jobsd.observe.redact import Redactor, secrets_of
from jobsd.registry.load import Registry
from jobsd.store import alerts, jobs, nodes, queue, wake
from jobsd.store.db import Db, Row, Unavailable
from jobsd.store.history import Ended
from jobsd.store.nodes import Identity

GAUGES_S = 15.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What a node is made of that outlives it."""

    db: Db
    lock_url: str  # past a pooler, if there is one: for what needs a session of its own
    who: Identity
    state_dir: Path
    metrics: Metrics
    redactor: Redactor
    observe: Observe


class Node:
    """Open it, run its loops, end it."""

    def __init__(self, parts: Parts, registry: Registry) -> None:
        settings = registry.settings
        pulse = Pulse()
        where = Where(parts.lock_url, parts.db.schema, parts.who, settings.daemon.pools, registry.hash)
        keeper = Keeper(where, settings.lease, pulse, parts.observe)
        self.parts = parts
        self.registry = registry
        told = canary.unheard(parts.observe)
        self.here = Here(parts.db, keeper, pulse, told, parts.who, parts.redactor.known)
        self.spool = Spool(parts.state_dir / "spool", parts.observe)
        self.settler = Settler(self.here, self.spool)
        self.guardians = Guardians(parts.state_dir)
        self.workers = Workers(settings.daemon.slots, keeper, self.settler, self.here.observe)
        self.claimer = Claimer(self.here, self.workers)
        self.scheduler = Scheduler(self.here)
        self.dependencies = Dependencies(self.here, self.scheduler)
        self.rescuer = Rescuer(self.here, settings.lease)
        self.steward = Steward(self.here, self.workers)
        tellers = channels.build(settings.alerts, parts.redactor)
        self.alerter = Alerter(parts.db, tellers, settings.alerts, parts.observe, registry.jobs)
        self.listener = wake.Listener(parts.lock_url, parts.db.schema, parts.who.name, self._heard, self._deaf)
        self.stall = StallWatch(asyncio.get_running_loop(), parts.observe, parts.metrics.loop_lag, self._blocked)
        self.canary = Canary(self.here)
        self.prepared = Prepared(self.here, self.guardians, parts.lock_url, lambda: self.registry, self.canary)
        self.fencing = Fencing(self.here, self.workers, self.rescuer, self._pause)
        self.sweep = StaleSweep(self.here, self.prepared.policy)
        self.sealer = Sealer(self.here)
        self.housekeeper = Housekeeper(self.here, duties(self.here, self.sweep, self.sealer, lambda: self.registry))
        self.on_change: Callable[[], object] = lambda: None  # runs have moved, here or elsewhere
        self._loop = asyncio.get_running_loop()
        self._draining = False
        self._errands: set[asyncio.Task[None]] = set()
        self._join()

    def _join(self) -> None:
        """Tell each part whom to tell."""
        keeper = self.here.keeper
        keeper.on_lease = self._renew
        keeper.recheck = self.fencing.recheck
        keeper.begun = self.workers.begun
        keeper.on_fenced = self.fencing.on_fenced
        self.workers.mask = self.here.mask
        self.workers.prepare = self.prepared.execution
        self.workers.policy = self.rescuer.policy = self.prepared.policy
        self.rescuer.in_hand = self.workers.will_settle
        self.workers.on_free = self.rescuer.on_rescued = self.claimer.wake
        self.workers.on_alert = lambda alert: self._errand(self._raise(alert))
        self.settler.on_ended = self._on_settled
        self.claimer.canary = lambda: self.canary.to_take
        self.canary.places = lambda: self.workers.free
        self.canary.excuse = self._idle
        self.canary.on_silent = lambda row: self._errand(self._raise(row))
        self.workers.on_round = lambda: self.here.pulse.advance("workers")
        self.listener.on_round = lambda: self.here.pulse.advance("listener")
        self.alerter.on_round = lambda: self.here.pulse.advance("alerter", allowed_s=60.0)
        self.settler.on_refused = self.alerter.wake
        self.sweep.on_swept = self.ended_elsewhere
        self.sweep.on_alert = self.sealer.on_alert = self.alerter.wake
        self.scheduler.on_runs = self._on_runs
        self.steward.on_enabled = self._on_enabled
        self.dependencies.on_run = lambda _run: self.wake()

    # -- life -------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Prove the lock session, settle what earlier starts left, register the jobs."""
        await self.here.keeper.open()
        await self.settler.recover()
        await self.scheduler.note_downtime()
        await self.rescuer.rescue_predecessors()
        await self.load(self.registry)
        if not await nodes.live(self.here.db, self.here.keeper.node):
            gone = await jobs.registered(self.here.db) - set(self.registry.jobs)
            await jobs.remove(self.here.db, sorted(gone))
        self.parts.metrics.successes(await jobs.successes(self.here.db, list(self.registry.jobs)))
        self.stall.start()

    async def load(self, registry: Registry) -> None:
        """Go on with this registry: schedules, claims, alerts and metrics.

        Raises `Unavailable`, then all goes on with the old one: what needs the database is done first.
        """
        daemon, alerting = registry.settings.daemon, registry.settings.alerts
        self.parts.redactor.add(registry.secrets | secrets_of(registry.settings, os.environ))
        tellers = channels.build(alerting, self.parts.redactor)
        seats = await self.claimer.seats(registry.jobs)
        await self.scheduler.load(registry.jobs)
        self.registry = registry
        self.scheduler.dry_run = daemon.dry_run
        self._pause()
        self.parts.metrics.know(registry.jobs)
        self.claimer.load(registry.jobs, daemon.pools, seats)
        self.alerter.reload(tellers, alerting, registry.jobs)
        self.sweep.load(registry.jobs)
        self.dependencies.wake()

    def loops(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """Each runs for ever; the first to end takes the process down."""
        return {
            "settler": self.settler.run,
            "workers": self.workers.run,
            "claimer": self.claimer.run,
            "scheduler": self.scheduler.run,
            "dependencies": self.dependencies.run,
            "rescuer": self.rescuer.run,
            "steward": self.steward.run,
            "alerter": self.alerter.run,
            "listener": self.listener.run,
            "fence": self.fencing.run,
            "housekeeper": self.housekeeper.run,
            "gauges": self._gauge,
            "canary": self.canary.run,
        }

    async def rest(self) -> None:
        """Start nothing new from here on; what is being claimed just now still starts."""
        self._draining = True
        self._pause()
        await self.claimer.between_claims()

    def _pause(self) -> None:
        """Decide slots and claim runs, or not: switched off, draining, or fenced."""
        off = self._draining or not self.registry.settings.daemon.enabled
        self.scheduler.paused = off
        self.claimer.paused = off or self.fencing.fenced
        self.claimer.wake()

    async def close(self) -> None:
        """Say goodbye and give every lock back."""
        self.stall.stop()
        try:
            if self.here.keeper.node:
                await nodes.stop(self.here.db, self.here.keeper.node)
        except Unavailable as gone:
            self.here.observe(Noted("goodbye_not_written", "warning", {"error": str(gone)}))
        await self.here.keeper.close()

    # -- what one part tells another --------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something may be claimable: here, and on other nodes if this one has no place or does not serve its pool."""
        self.claimer.wake()
        self.on_change()
        self._errand(self._tell_others("run"))

    def ended_elsewhere(self, ended: Sequence[Ended]) -> None:
        """Attempts that another program executed are over, and their keys are free."""
        self._on_ended(ended)
        self.wake()

    def _renew(self, until_ns: int) -> None:
        """In the lock session's thread: guardians hear it though the main loop may stand still."""
        self.guardians.renew(until_ns)
        self._loop.call_soon_threadsafe(self.fencing.renewed, until_ns)

    def _idle(self) -> str:
        """Why nothing is claimed, or settled, just now, for a reason that is known and told elsewhere."""
        if not self.here.keeper.up:
            return "the lock session is down"
        if self.claimer.paused:
            return "nothing is to be claimed"
        return self.claimer.refused or self.settler.refused

    def _on_settled(self, ended: Sequence[Ended]) -> None:
        self.canary.ended(ended)
        if runs := [each for each in ended if each.run.job != CANARY]:
            self._on_ended(runs)

    def _on_ended(self, ended: Sequence[Ended]) -> None:
        self.on_change()
        names = {each.run.job for each in ended}
        if any(each.settlement.alert for each in ended):
            self.alerter.wake()
        for name in sorted(names & self.dependencies.watched()):
            self.dependencies.wake()
            self._errand(self._tell_others(f"ended:{name}"))

    def _on_runs(self, made: Sequence[Row]) -> None:
        self.claimer.wake()
        self.on_change()
        self.dependencies.wake()
        ours = self.registry.settings.daemon.pools
        elsewhere = any(
            self.registry.jobs[row["job"]].pool not in ours for row in made if row["job"] in self.registry.jobs
        )
        if elsewhere or self.workers.free < len(made):
            self._errand(self._tell_others("run"))

    def _on_enabled(self) -> None:
        self.scheduler.wake(refresh=True)
        self.claimer.wake()
        self._errand(self._tell_others("job"))

    def _heard(self, what: str) -> None:
        """A notification; the empty one stands for some that may have been missed."""
        if what.startswith("canary:"):
            if what == f"canary:{self.here.keeper.node}":
                self.claimer.wake()
            return
        self.on_change()
        if what in ("", "run"):
            self.claimer.wake()
        if what in ("", "job"):
            self.scheduler.wake(refresh=True)
            self.claimer.wake()
        if what in ("", "force"):
            self.steward.wake()
        if what == "" or what.startswith("ended:"):
            self.dependencies.wake()

    def _deaf(self, why: str) -> None:
        self.here.observe(Noted("listen_session_lost", "warning", {"error": why}))

    def _blocked(self, blocked: LoopBlocked) -> None:
        self._errand(self._raise(blocked_alert(blocked)))

    async def _raise(self, row: AlertRow) -> None:
        await alerts.raise_alerts(self.here.db, [row])
        self.alerter.wake()

    async def _tell_others(self, what: str) -> None:
        await wake.notify(self.here.db, what)

    def _errand(self, work: Awaitable[None]) -> None:
        """Something small to be done beside; what the database refuses just now, the others' polling makes up for."""

        async def done() -> None:
            try:
                await work
            except Unavailable as gone:
                self.here.observe(Noted("errand_not_done", "warning", {"error": str(gone)}))

        task = asyncio.create_task(done())
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def _gauge(self) -> None:
        """Now and then, what no event tells: how deep the queue is."""
        while True:
            try:
                depth = await queue.depth(self.here.db)
                counts = {"queued": depth.due + depth.later, "running": depth.running}
                self.parts.metrics.queue(counts, depth.oldest_due_s)
            except Unavailable as gone:
                self.here.observe(DatabaseTrouble("gauges", str(gone)))
            self.here.pulse.advance("gauges", allowed_s=2 * GAUGES_S + 60.0)
            await asyncio.sleep(GAUGES_S)
