"""Connections to PostgreSQL, each call with a deadline of its own that ends in `terminate()`.

asyncpg's own timeouts and its pool can hang for ever on a stalled link, so both are replaced here
(docs/decisions/0002-own-connection-pool.md). What is asked of the database is in the other files of `store`.
"""

import asyncio
import os
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Self, TypeVar

import asyncpg
from asyncpg.transaction import Transaction

from jobsd.domain.errors import Exit, JobsdError, problem

T = TypeVar("T")
Row = asyncpg.Record

CONNECT_TIMEOUT_S = 5.0
CLOSE_S = 2.0
OUR_PATH = "pg_catalog, pg_temp"  # so that nothing in `public` can pass for a function or operator of PostgreSQL's
MARGIN_S = 2.0  # the client gives up so long after the server should have
_SCHEMA = re.compile(r"(?<!')\bjobsd\.")


class Unavailable(Exception):
    """The database could not do it just now; the same call may work later. `unknown` if it may have been done.

    `refused`: it does not know the user, the password or the database, and lets nobody in until somebody mends that.
    """

    def __init__(self, cause: BaseException, *, unknown: bool = False) -> None:
        super().__init__(_told(cause))
        self.unknown = unknown
        self.blocked = isinstance(cause, asyncpg.LockNotAvailableError)  # somebody holds a row or table for too long
        self.refused = isinstance(
            cause, (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)
        )


def _told(cause: BaseException) -> str:
    """What the operating system says in its own words ("connection refused"), all else with the error's name."""
    numbered = isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError)  # whose numbers are its own
    if isinstance(cause, OSError) and numbered and cause.errno and cause.strerror:
        words = cause.strerror if cause.errno < 0 else os.strerror(cause.errno)  # below 0: a name not resolved
        return words[0].lower() + words[1:]
    return f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__


# SQLSTATE classes that pass: connection, resources, operator intervention, deadlock, system, internal (a full disk)
_PASSING = ("08", "53", "57P", "40001", "40P01", "58", "XX000", "25006", "57014", "55P03")


def is_passing(error: BaseException) -> bool:
    """Whether an error of the driver may be gone at the next try."""
    if isinstance(error, asyncpg.InvalidCachedStatementError):  # a migration has changed what it gives
        return True
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate or "").startswith(_PASSING)
    lost = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, TimeoutError, asyncio.IncompleteReadError)
    return isinstance(error, lost)  # InternalClientError: told that the server ends it, not yet that it is closed


async def bounded(con: asyncpg.Connection, timeout_s: float, call: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Await `call(*args)` on `con` for `timeout_s` seconds at the most; past that, or cancelled, the connection is cut.

    Raises `Unavailable` for what may be gone at the next try; every other error of the driver as it is. The call is
    made in here: on a connection that is closed the driver complains before there is anything to await.
    """

    async def work() -> T:
        return await call(*args)

    task = asyncio.create_task(work())
    try:
        await asyncio.wait({task}, timeout=timeout_s)
        return _answer(task, f"no answer within {timeout_s:g} s")
    except asyncio.CancelledError:
        _cut(con, task)
        raise
    except Exception as error:
        if not task.done():
            _cut(con, task)
        told = isinstance(error, asyncpg.PostgresError)
        if is_passing(error) or (con.is_closed() and not told):  # then the driver's complaint may be any
            raise Unavailable(error, unknown=not told) from error
        raise


def _answer(task: "asyncio.Task[T]", late: str) -> T:
    """What the driver's call came to. Cancelled in the driver, it must not look as if its caller were cancelled."""
    if not task.done():
        raise TimeoutError(late)
    if task.cancelled():
        raise ConnectionError("the driver has given it up")
    return task.result()


async def begun(con: asyncpg.Connection, how: Mapping[str, Any] = MappingProxyType({})) -> Transaction:
    """A transaction, begun. `how`: the driver's isolation, readonly."""
    block = con.transaction(**how)
    await block.start()
    return block


def _cut(con: asyncpg.Connection, task: "asyncio.Future[Any]") -> None:
    con.terminate()
    task.cancel()
    task.add_done_callback(lambda late: late.cancelled() or late.exception())


@lru_cache(maxsize=1024)
def in_schema(sql: str, schema: str) -> str:
    """`sql` with `jobsd.` replaced by the installation's schema; not after a quote, where it names a setting."""
    return sql if schema == "jobsd" else _SCHEMA.sub(f'"{schema}".', sql)


async def connect(
    url: str,
    *,
    application_name: str,
    timeout_s: float = CONNECT_TIMEOUT_S,
    settings: Mapping[str, str] = MappingProxyType({}),
    path: str | None = OUR_PATH,
) -> asyncpg.Connection:
    """Open one connection. `path`: its search_path; None: as the database or role has it, for the code of jobs.

    Raises `Unavailable`, or `JobsdError` (E0302) when it cannot be tried with such a URL.
    """
    session = {"application_name": application_name, "timezone": "UTC", "jit": "off", **settings}
    if path is not None:
        session["search_path"] = path
    task = asyncio.ensure_future(asyncpg.connect(url, timeout=timeout_s, server_settings=session))
    try:
        await asyncio.wait({task}, timeout=timeout_s + MARGIN_S)
        return _answer(task, f"no connection within {timeout_s:g} s")
    except asyncio.CancelledError:
        task.cancel()
        raise
    except Exception as error:
        if not task.done():
            task.cancel()
        if isinstance(error, ValueError) and not isinstance(error, OSError):  # a bad certificate is both
            raise _unusable(error) from error
        if is_passing(error) or isinstance(error, asyncpg.PostgresError):  # whatever it says, others may mend it
            raise Unavailable(error) from error
        raise


def _unusable(error: ValueError) -> JobsdError:
    """E0302 for a URL that is none. A bare `ValueError` repeats a piece of it, which may be one of the password."""
    known = isinstance(error, asyncpg.ClientConfigurationError)
    reason = str(error) if known else "it has another form; are / ? # @ percent-encoded in user and password?"
    hint = "expected postgresql://user@host:5432/database"
    return problem("E0302", f"the database URL cannot be used: {reason}", hint, exit_code=Exit.CONFIGURATION)


class Session:
    """One connection with deadlines: `fetch`, `fetchrow`, `fetchval`, `execute`. The schema is put into the text."""

    def __init__(self, con: asyncpg.Connection, schema: str, timeout_s: float) -> None:
        self.con = con
        self.schema = schema
        self.timeout_s = timeout_s

    def text(self, sql: str) -> str:
        return in_schema(sql, self.schema)

    async def fetch(self, sql: str, *args: Any, timeout: float | None = None) -> list[Row]:
        limit = timeout or self.timeout_s
        return await bounded(self.con, limit, self.con.fetch, self.text(sql), *args)

    async def fetchrow(self, sql: str, *args: Any, timeout: float | None = None) -> Row | None:
        limit = timeout or self.timeout_s
        return await bounded(self.con, limit, self.con.fetchrow, self.text(sql), *args)

    async def fetchval(self, sql: str, *args: Any, timeout: float | None = None) -> Any:
        limit = timeout or self.timeout_s
        return await bounded(self.con, limit, self.con.fetchval, self.text(sql), *args)

    async def execute(self, sql: str, *args: Any, timeout: float | None = None) -> str:
        limit = timeout or self.timeout_s
        return await bounded(self.con, limit, self.con.execute, self.text(sql), *args)

    async def executemany(self, sql: str, rows: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        limit = timeout or self.timeout_s
        await bounded(self.con, limit, self.con.executemany, self.text(sql), rows)

    @asynccontextmanager
    async def transaction(self, **how: Any) -> AsyncIterator[Self]:
        """All or nothing. A deadline cuts the connection, which rolls back. `how`: the driver's isolation, readonly."""
        block = await bounded(self.con, self.timeout_s, begun, self.con, how)
        try:
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
    """A few work connections to one database and schema. Opened lazily, replaced when they break."""

    def __init__(self, url: str, schema: str, size: int, application_name: str, statement_timeout_s: float) -> None:
        self.url = url
        self.schema = schema
        self._application_name = application_name
        self._statement_timeout_s = statement_timeout_s
        self._places = asyncio.Semaphore(size)
        self._idle: list[asyncpg.Connection] = []
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
            try:
                yield Session(con, self.schema, self._statement_timeout_s + MARGIN_S)
            finally:
                self._give_back(con)

    async def _take(self) -> asyncpg.Connection:
        while self._idle:
            con = self._idle.pop()
            if not con.is_closed():
                return con
        ms = self._statement_timeout_s * 1000
        return await connect(
            self.url,
            application_name=self._application_name,
            settings={
                "statement_timeout": str(round(ms)),
                "lock_timeout": str(round(0.8 * ms)),  # first, so that one is told from the other
                "idle_in_transaction_session_timeout": "60000",
            },
        )

    def _give_back(self, con: asyncpg.Connection) -> None:
        if self._closed or con.is_closed() or con.is_in_transaction():
            con.terminate()
        else:
            self._idle.append(con)

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

    def mistrust(self) -> None:
        """Cut what is idle: another connection was lost, and these may be as dead without knowing it."""
        idle, self._idle = self._idle, []
        for con in idle:
            con.terminate()

    async def close(self) -> None:
        """Close what is idle, at once; connections in use are cut when they come back."""
        self._closed = True
        idle, self._idle = self._idle, []
        for con in idle:
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
    con = await connect(url, application_name=application_name, path=None)
    try:
        await bounded(con, CONNECT_TIMEOUT_S, con.execute, IDENTIFY, str(fence), str(run_id))
        yield con
    finally:
        con.terminate()
