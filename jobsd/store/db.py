"""Connections to PostgreSQL, each call with a deadline of its own that ends in `terminate()`.

asyncpg's own timeouts and its pool can hang for ever on a stalled link, so both are replaced here
(docs/decisions/0002-own-connection-pool.md). What is asked of the database is in the other files of `store`.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from time import monotonic
from typing import Any, Self, TypeVar

import asyncpg

from jobsd.store.connect import CONNECT_TIMEOUT_S, MARGIN_S, OUR_PATH, connect
from jobsd.store.deadline import ReadOnly, Unavailable, begun, bounded, is_passing
from jobsd.store.servers import Connection, servers_of

__all__ = [
    "MARGIN_S",
    "Connection",
    "Db",
    "ReadOnly",
    "Row",
    "Session",
    "Unavailable",
    "begun",
    "bounded",
    "connect",
    "dedicated",
    "is_passing",
]

T = TypeVar("T")
Row = asyncpg.Record

CLOSE_S = 2.0
IDLE_S = 10.0  # a connection that nobody needed for so long is closed
_SCHEMA = re.compile(r"(?<!')\bjobsd\.")


@lru_cache(maxsize=1024)
def in_schema(sql: str, schema: str) -> str:
    """`sql` with `jobsd.` replaced by the installation's schema; not after a quote, where it names a setting."""
    return sql if schema == "jobsd" else _SCHEMA.sub(f'"{schema}".', sql)


class Session:
    """One connection with deadlines: `fetch`, `fetchrow`, `fetchval`, `execute`. The schema is put into the text."""

    def __init__(self, con: Connection, schema: str, timeout_s: float) -> None:
        self.con = con
        self.schema = schema
        self.timeout_s = timeout_s

    def text(self, sql: str) -> str:
        return in_schema(sql, self.schema)

    async def fetch(self, sql: str, *args: Any, timeout: float | None = None) -> list[Row]:
        return await self._alone(self.con.fetch, timeout, self.text(sql), *args)

    async def fetchrow(self, sql: str, *args: Any, timeout: float | None = None) -> Row | None:
        return await self._alone(self.con.fetchrow, timeout, self.text(sql), *args)

    async def fetchval(self, sql: str, *args: Any, timeout: float | None = None) -> Any:
        return await self._alone(self.con.fetchval, timeout, self.text(sql), *args)

    async def execute(self, sql: str, *args: Any, timeout: float | None = None) -> str:
        return await self._alone(self.con.execute, timeout, self.text(sql), *args)

    async def executemany(self, sql: str, rows: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        await self._alone(self.con.executemany, timeout, self.text(sql), rows)

    async def _alone(self, call: Callable[..., Awaitable[T]], timeout: float | None, *args: Any) -> T:
        """One statement; behind a pooler in a transaction, without which its limits would not hold."""
        if not self.con.opening or self.con.is_in_transaction():
            return await bounded(self.con, timeout or self.timeout_s, call, *args)
        async with self.transaction():
            return await bounded(self.con, timeout or self.timeout_s, call, *args)

    @asynccontextmanager
    async def transaction(self, **how: Any) -> AsyncIterator[Self]:
        """All or nothing. A deadline cuts the connection, which rolls back. `how`: the driver's isolation, readonly."""
        block = await bounded(self.con, self.timeout_s, begun, self.con, how)
        try:
            if self.con.opening:
                await bounded(self.con, self.timeout_s, self.con.execute, self.con.opening)
            yield self
        except BaseException:
            if not self.con.is_closed():
                await bounded(self.con, self.timeout_s, block.rollback)
            raise
        await bounded(self.con, self.timeout_s, block.commit)


PLAN_EACH = """
    SET LOCAL plan_cache_mode = force_custom_plan
"""


class Db:
    """A few work connections to one database and schema. Opened lazily, replaced when they break, closed when idle."""

    idle_s = IDLE_S

    path: str | None = OUR_PATH  # the search_path of its sessions; None: as the database has it

    def __init__(self, url: str, schema: str, size: int, application_name: str, statement_timeout_s: float) -> None:
        self.url = url
        self.schema = schema
        self._application_name = application_name
        self._statement_timeout_s = statement_timeout_s
        self._places = asyncio.Semaphore(size)
        self._idle: deque[tuple[Connection, float]] = deque()  # the longest idle first, with since when
        self._used: set[Connection] = set()
        self._closed = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        schema: str = "jobsd",
        size: int = 4,
        application_name: str = "jobsd work",
        statement_timeout_s: float = 10.0,
    ) -> AsyncIterator["Db"]:
        """Give a pool of at most `size` connections, closed at the end of the block."""
        db = cls(url, schema, size, application_name, statement_timeout_s)
        try:
            yield db
        finally:
            await db.close()

    def text(self, sql: str) -> str:
        return in_schema(sql, self.schema)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """One connection for the block. Not for a job's work: that has connections of its own (`dedicated`)."""
        async with self._places:
            con = await self._take()
            self._used.add(con)
            try:
                yield Session(con, self.schema, self._statement_timeout_s + MARGIN_S)
            finally:
                self._used.discard(con)
                self._give_back(con)

    async def _take(self) -> Connection:
        while self._idle:
            con, _ = self._idle.pop()
            if not con.is_closed() and not con.superseded:
                return con
            con.terminate()
        ms = self._statement_timeout_s * 1000
        return await connect(
            self.url,
            application_name=self._application_name,
            settings={
                "statement_timeout": str(round(ms)),
                "lock_timeout": str(round(0.8 * ms)),  # first, so that one is told from the other
                "idle_in_transaction_session_timeout": str(round(ms)),  # a frozen node's rows are waited for by others
            },
            path=self.path,
        )

    def _give_back(self, con: Connection) -> None:
        if self._closed or con.is_closed() or con.is_in_transaction() or con.superseded:
            con.terminate()
        else:
            self._idle.append((con, monotonic()))
        while self._idle and self._idle[0][1] < monotonic() - self.idle_s:
            self._idle.popleft()[0].terminate()

    async def fetch(self, sql: str, *args: Any, timeout: float | None = None) -> list[Row]:
        async with self.session() as session:
            return await session.fetch(sql, *args, timeout=timeout)

    async def fetchrow(self, sql: str, *args: Any, timeout: float | None = None) -> Row | None:
        async with self.session() as session:
            return await session.fetchrow(sql, *args, timeout=timeout)

    async def fetchval(self, sql: str, *args: Any, timeout: float | None = None) -> Any:
        async with self.session() as session:
            return await session.fetchval(sql, *args, timeout=timeout)

    async def execute(self, sql: str, *args: Any, timeout: float | None = None) -> str:
        async with self.session() as session:
            return await session.execute(sql, *args, timeout=timeout)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        async with self.session() as session, session.transaction():
            yield session

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Session]:
        """Several questions about one and the same state of the database, each planned for its own arguments."""
        async with self.session() as session, session.transaction(isolation="repeatable_read", readonly=True):
            await session.execute(PLAN_EACH)
            yield session

    def mistrust(self, timeline: int = 0) -> None:
        """Cut what is idle: another connection was lost, and these may be as dead without knowing it.

        Its successor is on a server of this `timeline`: what is in use on a former primary is cut as well.
        """
        servers = servers_of(self.url)
        servers.timeline = max(servers.timeline, timeline)
        idle, self._idle = self._idle, deque()
        for con in (*(con for con, _ in idle), *(con for con in self._used if con.superseded)):
            con.terminate()

    async def close(self) -> None:
        """Close what is idle, at once; connections in use are cut when they come back."""
        self._closed = True
        idle, self._idle = self._idle, deque()
        for con, _ in idle:
            try:
                await bounded(con, CLOSE_S, con.close)
            except Unavailable:
                con.terminate()


IDENTIFY = """
    SELECT set_config('jobsd.fence', $1, false), set_config('jobsd.run_id', $2, false)
"""


@asynccontextmanager
async def dedicated(url: str, *, application_name: str, fence: int, run_id: int) -> AsyncIterator[asyncpg.Connection]:
    """A connection for one execution of a job: never pooled, its fence in its session, cut at the end of the block."""
    con = await connect(url, application_name=application_name, path=None, pooled=False)
    try:
        await bounded(con, CONNECT_TIMEOUT_S, con.execute, IDENTIFY, str(fence), str(run_id))
        yield con
    finally:
        con.terminate()
