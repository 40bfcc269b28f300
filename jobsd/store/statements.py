"""A job's own SQL: in one transaction on a connection of the job's, bounded, its errors worded, cancelled for good."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson

from jobsd.store.db import Unavailable, bounded
from jobsd.store.effects import Effect

ROWS_KEPT = 20
CELL_CHARS = 1000
BATCH = 1000  # rows in memory at once
CALL_S = 10.0  # for the small calls around the job's own statements

PREPARE_SESSION = """
    SELECT set_config('statement_timeout', $1, false), set_config('jobsd.params', $2, false)
"""
NOTICE_LOST_CLIENTS = "SET client_connection_check_interval = '2s'"
ROLLBACK = "ROLLBACK"
END_BACKEND = """
    SELECT pg_terminate_backend($1, 5000)
"""


class RefusedStatement(Exception):
    """PostgreSQL refused the job's statements, and nothing of them is done. Worded with detail, hint and place."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The last statement's status, or of a single one that gives rows their number and the first `ROWS_KEPT`."""

    status: str | None = None
    rows: int | None = None
    first: tuple[dict[str, Any], ...] = ()


async def prepare_session(con: Any, params: Mapping[str, Any], limit_s: float) -> None:
    """Bound each statement, let them see the parameters, let the server notice when nobody waits any more."""
    with suppress(asyncpg.PostgresError):  # not every platform's kernel tells it
        await bounded(con, CALL_S, con.execute, NOTICE_LOST_CLIENTS)
    limit_ms, given = max(1, round(limit_s * 1000)), orjson.dumps(dict(params)).decode()
    await bounded(con, CALL_S, con.fetchrow, PREPARE_SESSION, str(limit_ms), given)


async def check(con: Any, text: str) -> bool:
    """Have the server parse a single statement; False for several, which it cannot. Raises `RefusedStatement`."""
    try:
        return await _prepared(con, text) is not None
    except asyncpg.PostgresError as error:
        raise RefusedStatement(worded(error, text)) from error


async def run(
    con: Any, text: str, grace_s: float, effect: Effect, finish: Callable[[Answer], Awaitable[None]]
) -> Answer:
    """All of `text` or nothing, in the transaction of `effect`, which `finish` ends, unless the text itself did.

    Raises `RefusedStatement`, `FenceLost`, or `Unavailable` when the connection was lost.
    Cancelled, it has the server cancel the statement and rolls back, for `grace_s` at the most; what then still runs is
    cut, and `is_closed()` of the connection says so.
    """
    try:
        statement = await _prepared(con, text)
        await effect.begin()
        answer = Answer(await con.execute(text)) if statement is None else await _single(statement)
        if con.is_in_transaction():
            await finish(answer)
    except asyncio.CancelledError:
        with suppress(Unavailable, asyncpg.PostgresError):
            await bounded(con, grace_s, con.execute, ROLLBACK)
        raise
    except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as lost:
        raise Unavailable(lost, unknown=True) from lost
    except asyncpg.PostgresError as error:
        raise RefusedStatement(worded(error, text)) from error
    return answer


async def end_backend(con: Any, pid: int) -> bool:
    """End another session's server process and wait for it; whether it is gone."""
    return bool(await bounded(con, CALL_S, con.fetchval, END_BACKEND, pid))


async def _prepared(con: Any, text: str) -> Any:
    """The statement; None if `text` holds several. PostgreSQL then complains of the syntax, but of no place in it."""
    try:
        statement = await con.prepare(text)
    except asyncpg.PostgresSyntaxError as error:
        if error.position is None:
            return None
        raise
    if statement.get_parameters():
        raise RefusedStatement("$1 has no value here: parameters are read by current_setting('jobsd.params')::jsonb")
    return statement


async def _single(statement: Any) -> Answer:
    """Run it to its end; only the first rows are kept."""
    if not statement.get_attributes():
        await statement.fetch()
        return Answer(statement.get_statusmsg())
    cursor = await statement.cursor()
    rows = 0
    first: list[Any] = []
    while batch := await cursor.fetch(BATCH):
        first += batch[: ROWS_KEPT - len(first)]
        rows += len(batch)
    kept = tuple({column: cell(value) for column, value in row.items()} for row in first)
    return Answer(rows=rows, first=kept)


def cell(value: object) -> object:
    """A value of a row as JSON; what JSON does not know as text, and text up to `CELL_CHARS`."""
    if value is None or isinstance(value, bool):
        return value
    if (isinstance(value, int) and abs(value) < 1 << 63) or (isinstance(value, float) and math.isfinite(value)):
        return value
    text = str(value)
    return text if len(text) <= CELL_CHARS else text[:CELL_CHARS] + "…"


def worded(error: asyncpg.PostgresError, text: str) -> str:
    """The server's complaint for the statement's author: what, where, why, and its hint."""
    lines = [f"{error.message or error} (SQLSTATE {error.sqlstate})"]
    if error.position and not error.internal_query:
        at = int(error.position) - 1
        start = text.rfind("\n", 0, at) + 1
        line = text[start:].split("\n", 1)[0]
        lines += [f"line {text.count(chr(10), 0, at) + 1}: {line}", " " * (at - start + 8) + "^"]
    for label, words in (("detail", error.detail), ("hint", error.hint), ("within", error.context)):
        if words:
            lines.append(f"{label}: {words}")
    return "\n".join(lines)
