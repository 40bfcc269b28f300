"""What packs declare, in the database: the rows of a view, and the transaction of an action with its audit entry."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import asyncpg
import orjson

from jobsd.sdk import View
from jobsd.store.db import MARGIN_S, Db, Session, Unavailable, bounded, connect, is_passing
from jobsd.store.jobs import audit

TYPES: Mapping[str, str] = MappingProxyType(
    {
        "text": "text",
        "integer": "bigint",
        "number": "numeric",
        "boolean": "boolean",
        "date": "date",
        "instant": "timestamptz",
        "json": "jsonb",
    }
)
COMPARISONS: Mapping[str, str] = MappingProxyType({"is": "=", "at_least": ">=", "at_most": "<="})
STATEMENT_S = 10.0  # for each of an action's
RULES = ("23", "P0001")  # SQLSTATEs of constraints and of what triggers raise


class RuleBroken(Exception):
    """A constraint or a trigger of the database refused it, and nothing of it is done. The text is the database's."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows: values of filters by name, and the key of the row before the first one; all as PostgreSQL's text."""

    filters: Mapping[str, str]
    after: Sequence[str] = ()


async def rows(db: Db, view: View, wanted: Wanted, limit: int) -> list[dict[str, Any]]:
    """At most `limit` rows as JSON, in a read-only transaction. Raises `Unavailable`, also when it takes too long."""
    async with db.session() as session, session.transaction(readonly=True):
        found = await session.fetch(statement(view, wanted), limit, *wanted.filters.values(), *wanted.after)
    return [orjson.loads(row["row"]) for row in found]


async def refusal(db: Db, view: View) -> str | None:
    """Why PostgreSQL does not take the view, with all its filters; None when it does. Raises `Unavailable`."""
    whole = Wanted({each.name: "" for each in view.filters}, view.key)
    async with db.session() as session:
        text = session.text(statement(view, whole))
        try:
            await bounded(session.con, session.timeout_s, partial(session.con.prepare, name=""), text)
        except asyncpg.PostgresError as error:
            return error.message or str(error)
    return None


def statement(view: View, wanted: Wanted) -> str:
    """The view's own SQL, narrowed, ordered and cut; $1 is the limit, then come the filters, then the key."""
    columns = ", ".join(f'v."{each.name}"::{TYPES[each.kind]} AS "{each.name}"' for each in view.columns)
    order = ", ".join(f'v."{name}"{" DESC" if view.descending else ""}' for name in view.key)
    where = " AND ".join(_conditions(view, wanted)) or "true"
    inner = f"SELECT {columns} FROM (\n{view.sql}\n) AS v WHERE {where} ORDER BY {order} LIMIT $1"  # noqa: S608  # names that `View` has checked
    return f"SELECT to_jsonb(page) AS row FROM ({inner}) AS page"  # noqa: S608


def _conditions(view: View, wanted: Wanted) -> list[str]:
    filters = {each.name: each for each in view.filters}
    found = []
    for n, name in enumerate(wanted.filters, 2):
        column = filters[name].of
        value = f"${n}::text::{TYPES[view.kind_of(column)]}"
        found.append(f'v."{column}" {COMPARISONS[filters[name].compare]} {value}')
    if wanted.after:
        first = len(wanted.filters) + 2
        key = ", ".join(f'v."{name}"' for name in view.key)
        values = ", ".join(f"${n}::text::{TYPES[view.kind_of(name)]}" for n, name in enumerate(view.key, first))
        found.append(f"({key}) {'<' if view.descending else '>'} ({values})")
    return found


OUR_PATH_ALONE = """
    SET LOCAL search_path = pg_catalog, pg_temp
"""
PATH_AS_BEFORE = """
    SET LOCAL search_path TO DEFAULT
"""


@asynccontextmanager
async def acting(
    db: Db, act: str, actor: str, reason: str | None, detail: Mapping[str, Any]
) -> AsyncIterator[asyncpg.Connection]:
    """A connection in a transaction of its own that begins with the audit entry, so nothing is committed without it.

    Raises `RuleBroken`, also at the commit; and `Unavailable`.
    """
    limit_ms = str(round(STATEMENT_S * 1000))
    limits = {"statement_timeout": limit_ms, "lock_timeout": limit_ms}
    con = await connect(db.url, application_name=f"jobsd act {act}"[:63], settings=limits, path=None)
    session = Session(con, db.schema, STATEMENT_S + MARGIN_S)
    try:
        async with session.transaction():
            await session.execute(OUR_PATH_ALONE)
            await audit(session, act, actor, reason=reason or "", detail=detail)
            await session.execute(PATH_AS_BEFORE)  # what follows is the pack's
            yield con
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        if isinstance(error, asyncpg.PostgresError) and str(error.sqlstate or "").startswith(RULES):
            raise RuleBroken(error.message or str(error)) from error
        if is_passing(error):
            raise Unavailable(error) from error
        raise
    finally:
        con.terminate()
