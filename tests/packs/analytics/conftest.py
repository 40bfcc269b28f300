"""The pack's handlers as the engine calls them: real connections, every report kept."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

ROOT = Path(__file__).parents[3]
EXTRACT = ROOT / "config" / "demo" / "oulad"
WHOLE = ROOT.parent / "shared" / "data" / "oulad"


@dataclass
class Context:
    """A `JobContext` on a database of the test's own. `on_progress` lets a test act in the middle of a run."""

    url: str
    dry_run: bool = False
    on_progress: Callable[[float], Awaitable[None]] | None = None
    job: str = "test"
    run_id: int = 1
    attempt: int = 1
    fence: int = 1
    slot_at: datetime | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    idempotency_key: str = "test"
    reports: list[tuple[float, str]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    backends: list[int] = field(default_factory=list)

    async def progress(self, fraction: float, note: str = "") -> None:
        self.reports.append((fraction, note))
        if self.on_progress:
            await self.on_progress(fraction)

    async def info(self, text: str) -> None:
        self.messages.append(text)

    warning = error = info

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[asyncpg.Connection]:
        # A zone with daylight saving: nothing may depend on the session's
        connection = await asyncpg.connect(self.url, server_settings={"timezone": "America/New_York"})
        self.backends.append(connection.get_server_pid())
        try:
            yield connection
        finally:
            await connection.close()


@pytest.fixture
def ctx(database_url: str) -> Context:
    return Context(database_url)


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A session beside the job's."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture(params=[EXTRACT, WHOLE], ids=["extract", "whole"])
def oulad(request: pytest.FixtureRequest) -> Path:
    """The extract always; the whole set too, where it is."""
    folder: Path = request.param
    if not folder.is_dir():
        pytest.skip("the whole OULAD set is not on this machine")
    return folder


EVENT = """
    INSERT INTO analytics.event (source, source_key, course_id, learner_id, kind, value, occurred_at)
    VALUES ('test', coalesce($1, gen_random_uuid()::text), $2, $3, $4, $5::text::jsonb, $6)
"""


async def add_event(
    sql: asyncpg.Connection,
    at: datetime,
    *,
    course: str = "AAA/2026J",
    learner: str = "1",
    kind: str = "quiz_submitted",
    value: str = "{}",
    key: str | None = None,
) -> None:
    await sql.execute(EVENT, key, course, learner, kind, value, at)


async def table(sql: asyncpg.Connection, name: str) -> list[tuple[Any, ...]]:
    """Every row of a table of the pack, whole, in a stable order."""
    return [tuple(row) for row in await sql.fetch(f"SELECT t::text FROM analytics.{name} t ORDER BY 1")]
