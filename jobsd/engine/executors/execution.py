"""What an executor gets to work on, and what it may tell meanwhile. Which executor it is, `base` says."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import quote

from jobsd.domain.job import JobDefinition
from jobsd.domain.outcome import NO_USAGE, Usage
from jobsd.domain.run import ClaimedRun
from jobsd.engine.executors.clock import utc_now
from jobsd.engine.executors.effects import Effects
from jobsd.engine.executors.guardians import End, Guarded, Guardians
from jobsd.engine.executors.pipeline import Progress
from jobsd.handlers import Handler
from jobsd.sdk import Connection, Transaction


class Report(Protocol):
    """Where a run's own words go. Each names the attempt's fence when it is written."""

    async def progress(self, told: Progress) -> None: ...
    async def heartbeat(self) -> None: ...
    async def message(self, level: str, text: str) -> None: ...


@dataclass(slots=True)
class Execution:
    """One attempt at a run. `usage` is what is known of it so far: it stays when the execution is cancelled."""

    run: ClaimedRun
    definition: JobDefinition
    handler: Handler | None  # None: there is none by that name, or the job is of another kind
    params: Mapping[str, Any]  # the run's over the job's defaults
    report: Report
    connect: Callable[[], AbstractAsyncContextManager[Connection]]
    guardians: Guardians
    database_url: str | None = None  # for handlers in a process of their own
    schema: str = "jobsd"
    dry_run: bool = False  # besides the run's and the job's
    usage: Usage = NO_USAGE
    effects: Effects = field(default_factory=Effects)
    clock: Callable[[], datetime] = utc_now  # what `ctx.now()` answers, in the daemon's own process

    @property
    def is_dry(self) -> bool:
        return self.dry_run or self.run.dry_run or self.definition.dry_run

    @property
    def label(self) -> str:
        """For lists of tasks and processes."""
        return f"run {self.run.id} {self.run.job}"

    @property
    def idempotency_key(self) -> str:
        """The same for all attempts at the run, and fit for a header."""
        key = self.run.idempotency_key
        return f"{self.run.job}:run:{self.run.id}" if key is None else f"{self.run.job}:{quote(key, safe='')}"

    @property
    def progress_refused(self) -> str | None:
        """Why the job may not show progress; None where it may."""
        if self.definition.shows_progress:
            return None
        why = "it is atomic" if self.definition.atomic else "it declares progress = false"
        return f"E0516: {self.definition.name} shows no progress, since {why}; ctx.heartbeat() is always taken"

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """The job's own transaction, in which its run is completed."""
        from jobsd.engine.executors.transaction import transaction  # noqa: PLC0415  # see `inside`: its driver

        run = self.run
        return transaction(self.connect, self.schema, run.id, run.fence, self.effects, dry_run=self.is_dry)

    def who(self) -> dict[str, Any]:
        """The fields of `context.Who`."""
        return {
            "job": self.run.job,
            "run_id": self.run.id,
            "attempt": self.run.attempt,
            "fence": self.run.fence,
            "slot_at": self.run.slot_at,
            "dry_run": self.is_dry,
            "params": dict(self.params),
            "idempotency_key": self.idempotency_key,
            "progress_refused": self.progress_refused,
        }

    async def attend(self, guarded: Guarded) -> End:
        """Wait for the end of a tree. Cancelled, it ends the tree (TERM, grace, KILL) and waits on."""
        try:
            await asyncio.wait({guarded.over})
        except asyncio.CancelledError:
            guarded.kill(guarded.work.grace_s)
            self.usage = guarded.usage
            await _to_the_end(guarded.over)
            raise
        finally:
            self.usage = guarded.usage
        return guarded.over.result()


async def _to_the_end(future: "asyncio.Future[Any]") -> None:
    """Wait until `future` is done, however often the wait is cancelled."""
    while not future.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({future})
