"""The daemon's life: prove everything, open, tell that it is ready, run, drain, close."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from traceback import format_exception
from typing import NoReturn

from jobsd import handlers
from jobsd.daemon import core_dumps, signals, state
from jobsd.daemon.drain import drain
from jobsd.daemon.dump import dump
from jobsd.daemon.node import Node, Parts
from jobsd.daemon.reload import Reloader
from jobsd.daemon.signals import Bell, Stage, Stop
from jobsd.domain.errors import Exit, JobsdError
from jobsd.domain.events import Event, Noted, Observe
from jobsd.observe import logs
from jobsd.observe.metrics import Metrics
from jobsd.observe.redact import Redactor, secrets_of
from jobsd.observe.systemd import Systemd
from jobsd.operations.enqueue import trigger
from jobsd.operations.run_requests import TriggerRequest
from jobsd.registry.load import Registry
from jobsd.registry.settings import Settings
from jobsd.store import durability, migrate
from jobsd.store.db import Db, Unavailable
from jobsd.store.reach import cannot_reach, no_database
from jobsd.web import app
from jobsd.web.api.events import FEED
from jobsd.web.deps import Deps
from jobsd.web.listen import Addresses, listening
from jobsd.web.patience import Patience
from jobsd.web.vitals import LoopAge, Unwritten, Vitals

STATUS_S = 5.0
LAST_WORDS_S = 1.0  # for a slow reader of the log, at the end
SOCKET = Path("/run/jobsd/jobsd.sock")


@dataclass(frozen=True, slots=True)
class Ready:
    """What there is to say once everything is proved."""

    addresses: Addresses
    registry: Registry
    node: str
    took_s: float


async def serve(load: Callable[[], Registry], on_ready: Callable[[Ready], None] = lambda _ready: None) -> int:
    """Run the daemon until it is told to stop; returns the exit status. Raises `JobsdError` when it cannot start.

    `load` reads the configuration and finds the handlers, now in this thread and at a reload in another.
    """
    began_s = monotonic()
    core_dumps.forbid()
    registry = load()
    handlers.packs()  # one that cannot be imported is told now, not when somebody looks
    settings = registry.settings
    redactor = logs.setup(settings.log, Redactor(registry.secrets | secrets_of(settings, os.environ)))
    metrics = Metrics(registry.jobs)
    observe = _both(logs.LogObserver(), metrics)
    url = database_url(registry)
    async with AsyncExitStack() as stack:
        folder = state.state_dir(settings)
        instance = stack.enter_context(state.held(folder))
        lock_url = settings.database.direct_url.get_secret_value() if settings.database.direct_url else url
        await _schema_is_current(lock_url, settings, observe)
        who = state.identity(settings, instance)
        db = await stack.enter_async_context(_open(url, settings, who.name))
        node = Node(Parts(db, lock_url, who, folder, metrics, redactor, observe), registry)
        return await _Daemon(node, load, on_ready, began_s).live(stack)


def database_url(registry: Registry) -> str:
    """Raises E0301 when none is configured."""
    url = registry.settings.database.url
    if url is None:
        raise no_database(str(registry.files[0]) if registry.files else None)
    return url.get_secret_value()


def _both(*observers: Observe) -> Observe:
    def tell(event: Event) -> None:
        for observer in observers:
            observer(event)

    return tell


def _open(url: str, settings: Settings, node: str) -> AbstractAsyncContextManager[Db]:
    name = f"jobsd work {node}"
    limit_s = settings.database.statement_timeout.total_seconds()
    return Db.open(url, settings.database.schema_name, settings.database.pool, name, limit_s)


async def _schema_is_current(url: str, settings: Settings, observe: Observe) -> None:
    """Reach the server, for a while if need be, and compare migrations. Raises E0302 to E0308."""
    began_s, tries, wait_s = monotonic(), 0, 0.2
    limit_s = settings.database.connect_timeout.total_seconds()
    while True:
        tries += 1
        try:
            status = await migrate.status(url, settings.database.schema_name)
            return status.require_current()
        except Unavailable as gone:
            if gone.refused or monotonic() - began_s + wait_s > limit_s:
                raise cannot_reach(url, gone, tries, monotonic() - began_s) from gone
            if tries == 1:
                observe(Noted("waiting_for_database", "warning", {"error": str(gone), "limit_s": limit_s}))
            await asyncio.sleep(wait_s)
            wait_s = min(5.0, wait_s * 2)


class _Daemon:
    """Everything from the opening of a node to its end."""

    def __init__(
        self, node: Node, load: Callable[[], Registry], on_ready: Callable[[Ready], None], began_s: float
    ) -> None:
        self.node = node
        self.systemd = Systemd()
        self.reloader = Reloader(node, load)
        self.started_at = datetime.now(UTC)
        self.stop = Stop()
        self._on_ready = on_ready
        self._began_s = began_s
        self._observe = node.parts.observe
        self._errands: set[asyncio.Task[None]] = set()

    async def live(self, stack: AsyncExitStack) -> int:
        node, settings = self.node, self.node.registry.settings
        signals.listen(self.stop, self._on_hup, self._on_usr1)
        bell = Bell(self._on_bell)
        try:
            await node.open()
            for reason in await durability.losses(node.parts.db):
                self._observe(Noted("commits_may_be_lost", "warning", {"reason": reason}))
            socket = Path(settings.http.socket) if settings.http.socket else SOCKET if SOCKET.parent.is_dir() else None
            web = app.build(self._deps())
            node.on_change = web[FEED].wake
            addresses = await stack.enter_async_context(listening(web, settings.http.host, settings.http.port, socket))
            bell.listen(node.registry.jobs)
            self.reloader.on_loaded = lambda registry: bell.listen(registry.jobs)
            return await self._run(addresses)
        except Unavailable as gone:
            raise cannot_reach(node.parts.db.url, gone, 1, monotonic() - self._began_s) from gone
        finally:
            await node.close()

    async def _run(self, addresses: Addresses) -> int:
        """Until told to stop; a loop that ends takes the process down."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(_never_ends(name, run), name=name) for name, run in self.node.loops().items()
                ]
                tasks.append(group.create_task(self._tell_systemd(), name="systemd"))
                self._tell_ready(addresses)
                await self.stop.asked
                if not await drain(self.node, self.stop, self.systemd):
                    self._leave("work_does_not_end", runs=list(self.node.workers.held()))
                for task in tasks:
                    task.cancel()
        except BaseExceptionGroup as dead:
            for error in dead.exceptions:
                told = "".join(format_exception(error))
                self._observe(
                    Noted("loop_died", "error", {"error": f"{type(error).__name__}: {error}", "traceback": told})
                )
            self._leave("left", runs=len(self.node.workers.held()))
        self._observe(Noted("stopped", "info", {"node": self.node.parts.who.name}))
        logs.flush(LAST_WORDS_S)
        return Exit.OK

    def _tell_ready(self, addresses: Addresses) -> None:
        took_s = monotonic() - self._began_s
        jobs = len(self.node.registry.jobs)
        socket = str(addresses.socket) if addresses.socket else None
        facts = {"url": addresses.url, "socket": socket, "jobs": jobs, "took_s": round(took_s, 3)}
        self._observe(Noted("ready", "info", {"node": self.node.parts.who.name, "pid": os.getpid(), **facts}))
        self.systemd.ready(f"ready: {jobs} jobs, {addresses.url}")
        self._on_ready(Ready(addresses, self.node.registry, self.node.parts.who.name, took_s))

    def _leave(self, event: str, **facts: object) -> NoReturn:
        """End the process with all that it holds: its locks must not go before work that may still go on.

        Guardians end the commands; the next start, or another node, settles what is not settled.
        """
        self._observe(Noted(event, "error", facts))
        logs.flush(LAST_WORDS_S)
        os._exit(Exit.FAILED)

    async def _tell_systemd(self) -> None:
        """The watchdog is pinged only while every loop advances (P12)."""
        every_s = min(STATUS_S, self.systemd.ping_every_s or STATUS_S)
        while True:
            await asyncio.sleep(every_s)
            beats = self.node.here.pulse.beats()
            hung = [loop for loop, beat in beats.items() if not beat.alive]
            if hung:
                self._observe(Noted("loop_hung", "error", {"loops": hung}))
            elif self.systemd.ping_every_s:
                self.systemd.watchdog()
            if self.stop.stage is Stage.RUNNING:
                self.systemd.status(self._status())

    def _status(self) -> str:
        session = "" if self.node.here.keeper.up else "; no lock session: nothing new starts"
        return f"{len(self.node.workers.running)} running, {len(self.node.registry.jobs)} jobs{session}"

    # -- what the web side asks -------------------------------------------------------------------------------------

    def _deps(self) -> Deps:
        node, http = self.node, self.node.registry.settings.http
        return Deps(
            db=node.parts.db,
            registry=lambda: node.registry,
            vitals=self._vitals,
            metrics=self._metrics,
            reload=self.reloader.reload,
            wake=node.wake,
            observe=self._observe,
            node=node.parts.who.name,
            started_at=self.started_at,
            host=http.host,
            hosts=http.hosts,
            rate=http.rate,
            patience=Patience(body_bytes=http.max_body),
            redactor=node.parts.redactor,
            node_id=lambda: node.here.keeper.node,
            ended=node.ended_elsewhere,
        )

    def _metrics(self) -> tuple[bytes, str]:
        metrics = self.node.parts.metrics
        metrics.loops({loop: beat.age_s for loop, beat in self.node.here.pulse.beats().items()})
        metrics.canary(self.node.canary.latency_s)
        metrics.unwritten(self.node.settler.unwritten, self.node.spool.kept)
        return metrics.render()

    def _vitals(self) -> Vitals:
        beats = self.node.here.pulse.beats()
        return Vitals(
            loops={loop: LoopAge(beat.age_s, beat.allowed_s) for loop, beat in beats.items()},
            lock_session_up=self.node.here.keeper.up,
            draining=self.stop.stage is not Stage.RUNNING,
            state_dir=self.node.parts.state_dir,
            reload=self.reloader.last,
            log_lines_lost=logs.lost_recently(),
            unwritten=self._unwritten(),
            canary_s=self.node.canary.latency_s,
        )

    def _unwritten(self) -> Unwritten:
        settler, spool = self.node.settler, self.node.spool
        return Unwritten(settler.unwritten, settler.oldest_s, spool.kept, settler.refused, spool.error)

    # -- signals ----------------------------------------------------------------------------------------------------

    def _on_hup(self) -> None:
        self._errand(self._reload())

    async def _reload(self) -> None:
        self.systemd.reloading()
        try:
            with suppress(JobsdError):  # told in log, audit, metric and alert
                await self.reloader.reload("signal:SIGHUP")
        finally:
            self.systemd.ready(self._status())

    def _on_usr1(self) -> None:
        self._observe(Noted("state", "info", dump(self.node)))

    def _on_bell(self, job: str, name: str) -> None:
        self._errand(self._trigger(job, name))

    async def _trigger(self, job: str, name: str) -> None:
        asked = TriggerRequest(reason=f"signal {name}")
        await trigger(self.node.parts.db, self.node.registry, job, asked, f"signal:{name}")
        self.node.wake()

    def _errand(self, work: Awaitable[None]) -> None:
        async def done() -> None:
            try:
                await work
            except (JobsdError, Unavailable) as error:
                self._observe(Noted("signal_not_served", "error", {"error": str(error)}))

        task = asyncio.create_task(done())
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)


async def _never_ends(name: str, run: Callable[[], Awaitable[None]]) -> None:
    await run()
    raise RuntimeError(f"the loop {name} has ended")
