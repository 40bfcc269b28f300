"""Runs out of a program's own transaction: with its commit they are in the queue, with its rollback they never were.

The connection is the caller's: asyncpg or psycopg. The role needs EXECUTE on the two functions and no more (role
`jobsd_enqueuer` of sql/roles.sql). What is refused is raised by the driver, worded by the database.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol, cast

import orjson

from jobsd.client.asks import Run

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
MANY = "SELECT id FROM {schema}.enqueue_many({job}::text, {runs}::text::jsonb, {reason}::text) AS id"


class AsyncpgConnection(Protocol):
    """asyncpg: a connection, or one of a pool."""

    async def fetch(self, query: str, *args: Any) -> Any: ...


class AsyncCursor(Protocol):
    async def fetchall(self) -> Any: ...


class PsycopgAsyncConnection(Protocol):
    """psycopg 3: `psycopg.AsyncConnection`."""

    async def execute(self, query: Any, params: Any = None) -> Any: ...


class PsycopgConnection(Protocol):
    """psycopg 3: `psycopg.Connection`."""

    def execute(self, query: Any, params: Any = None) -> Any: ...


AsyncConnection = AsyncpgConnection | PsycopgAsyncConnection


async def enqueue(
    con: AsyncConnection,
    job: str,
    params: Mapping[str, Any] | None = None,
    *,
    priority: int | None = None,
    due_at: datetime | None = None,
    key: str | None = None,
    tags: Mapping[str, str] | None = None,
    dry_run: bool = False,
    reason: str | None = None,
    schema: str = "jobsd",
) -> int:
    """Put one run into the queue within the transaction of `con`; its id.

    `key`: an idempotency key; the same one again gives the run that there is.
    """
    run = Run(params or {}, priority, due_at, key, tags or {}, dry_run)
    return (await enqueue_many(con, job, [run], reason=reason, schema=schema))[0]


async def enqueue_many(
    con: AsyncConnection, job: str, runs: Iterable[Run], *, reason: str | None = None, schema: str = "jobsd"
) -> list[int]:
    """Put up to 10,000 runs of one job into the queue, all or none; their ids in the order of `runs`."""
    text = _text(runs)
    if hasattr(con, "fetchval"):  # asyncpg
        rows = await cast(AsyncpgConnection, con).fetch(_numbered(schema), job, text, reason)
    else:
        cursor = await cast(PsycopgAsyncConnection, con).execute(_marked(schema), (job, text, reason))
        rows = await cursor.fetchall()
    return [_id(row) for row in rows]


def enqueue_sync(
    con: PsycopgConnection,
    job: str,
    params: Mapping[str, Any] | None = None,
    *,
    priority: int | None = None,
    due_at: datetime | None = None,
    key: str | None = None,
    tags: Mapping[str, str] | None = None,
    dry_run: bool = False,
    reason: str | None = None,
    schema: str = "jobsd",
) -> int:
    """`enqueue` for a connection that waits."""
    run = Run(params or {}, priority, due_at, key, tags or {}, dry_run)
    return enqueue_many_sync(con, job, [run], reason=reason, schema=schema)[0]


def enqueue_many_sync(
    con: PsycopgConnection, job: str, runs: Iterable[Run], *, reason: str | None = None, schema: str = "jobsd"
) -> list[int]:
    """`enqueue_many` for a connection that waits."""
    return [_id(row) for row in con.execute(_marked(schema), (job, _text(runs), reason)).fetchall()]


def _text(runs: Iterable[Run]) -> str:
    return orjson.dumps([each.said() for each in runs]).decode()


def _numbered(schema: str) -> str:
    return MANY.format(schema=_quoted(schema), job="$1", runs="$2", reason="$3")


def _marked(schema: str) -> str:
    return MANY.format(schema=_quoted(schema), job="%s", runs="%s", reason="%s")


def _quoted(schema: str) -> str:
    if not _NAME.fullmatch(schema):
        raise ValueError(f'schema: expected a name like "jobsd", got {schema!r}')
    return f'"{schema}"'


def _id(row: Any) -> int:
    """Of a row as a tuple, a mapping or a record, whatever the connection's row factory makes."""
    return int(row["id"] if isinstance(row, Mapping) else row[0])
