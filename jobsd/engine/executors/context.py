"""The contexts that handlers get: in the daemon's loop, or in a process of their own, where reports go over a pipe."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from jobsd.engine.executors.clock import utc_now
from jobsd.engine.executors.pipeline import AsyncPipeline, PlainPipeline, Progress, Steps, share, storable
from jobsd.sdk import Connection, ProgressRefused, SyncTransaction, Transaction


class AsyncReport(Protocol):
    async def progress(self, told: Progress) -> None: ...
    async def heartbeat(self) -> None: ...
    async def message(self, level: str, text: str) -> None: ...


class PlainReport(Protocol):
    def progress(self, told: Progress) -> None: ...
    def heartbeat(self) -> None: ...
    def message(self, level: str, text: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """Which execution this is. `progress_refused`: why it may not show progress, None where it may."""

    job: str
    run_id: int
    attempt: int
    fence: int
    slot_at: datetime | None
    dry_run: bool
    params: Mapping[str, Any]
    idempotency_key: str
    progress_refused: str | None = None
    clock: Callable[[], datetime] = utc_now

    def now(self) -> datetime:
        return self.clock()

    def told(self, fraction: float, note: str) -> Progress:
        """Raises `ProgressRefused`; `ValueError` for what is no number."""
        self.require_progress()
        return Progress(share(fraction), storable(note))

    def require_progress(self) -> None:
        if self.progress_refused:
            raise ProgressRefused(self.progress_refused)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(Who):
    """For an async handler."""

    report: AsyncReport
    open_connection: Callable[[], AbstractAsyncContextManager[Connection]]
    open_transaction: Callable[[], AbstractAsyncContextManager[Transaction]]

    async def progress(self, fraction: float, note: str = "") -> None:
        await self.report.progress(self.told(fraction, note))

    def pipeline(self, weights: Mapping[str, float]) -> AsyncPipeline:
        self.require_progress()
        return AsyncPipeline(Steps(weights), self.report.progress)

    async def heartbeat(self) -> None:
        await self.report.heartbeat()

    async def info(self, text: str) -> None:
        await self.report.message("info", storable(text))

    async def warning(self, text: str) -> None:
        await self.report.message("warning", storable(text))

    async def error(self, text: str) -> None:
        await self.report.message("error", storable(text))

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        return self.open_connection()

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        return self.open_transaction()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainContext(Who):
    """For a plain function."""

    report: PlainReport
    open_transaction: Callable[[], AbstractContextManager[SyncTransaction]]

    def progress(self, fraction: float, note: str = "") -> None:
        self.report.progress(self.told(fraction, note))

    def pipeline(self, weights: Mapping[str, float]) -> PlainPipeline:
        self.require_progress()
        return PlainPipeline(Steps(weights), self.report.progress)

    def heartbeat(self) -> None:
        self.report.heartbeat()

    def info(self, text: str) -> None:
        self.report.message("info", storable(text))

    def warning(self, text: str) -> None:
        self.report.message("warning", storable(text))

    def error(self, text: str) -> None:
        self.report.message("error", storable(text))

    def transaction(self) -> AbstractContextManager[SyncTransaction]:
        return self.open_transaction()
