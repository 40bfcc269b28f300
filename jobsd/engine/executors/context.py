"""The contexts that handlers get: in the daemon's loop, or in a process of their own, where reports go over a pipe."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from jobsd.sdk import Connection

TEXT_CHARS = 16 * 1024


class AsyncReport(Protocol):
    async def progress(self, fraction: float, note: str) -> None: ...
    async def message(self, level: str, text: str) -> None: ...


class PlainReport(Protocol):
    def progress(self, fraction: float, note: str) -> None: ...
    def message(self, level: str, text: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """Which execution this is."""

    job: str
    run_id: int
    attempt: int
    fence: int
    slot_at: datetime | None
    dry_run: bool
    params: Mapping[str, Any]
    idempotency_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(Who):
    """For an async handler."""

    report: AsyncReport
    open_connection: Callable[[], AbstractAsyncContextManager[Connection]]

    async def progress(self, fraction: float, note: str = "") -> None:
        await self.report.progress(share(fraction), storable(note))

    async def info(self, text: str) -> None:
        await self.report.message("info", storable(text))

    async def warning(self, text: str) -> None:
        await self.report.message("warning", storable(text))

    async def error(self, text: str) -> None:
        await self.report.message("error", storable(text))

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        return self.open_connection()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainContext(Who):
    """For a plain function."""

    report: PlainReport

    def progress(self, fraction: float, note: str = "") -> None:
        self.report.progress(share(fraction), storable(note))

    def info(self, text: str) -> None:
        self.report.message("info", storable(text))

    def warning(self, text: str) -> None:
        self.report.message("warning", storable(text))

    def error(self, text: str) -> None:
        self.report.message("error", storable(text))


def share(fraction: float) -> float:
    """`fraction` within 0 and 1: sums of parts miss by a little. Raises `ValueError` for what is no number."""
    if math.isnan(fraction):
        raise ValueError("expected a share from 0 to 1, got nan")
    return float(min(1.0, max(0.0, fraction)))


def storable(text: str) -> str:
    """`text` as PostgreSQL takes it, at most `TEXT_CHARS` long."""
    return str(text)[:TEXT_CHARS].replace("\0", "").encode(errors="backslashreplace").decode()
