"""The SQL client on the drivers that programs have: runs within the program's own transaction."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson
import psycopg
import psycopg.rows
import pytest

from jobsd.client import Run, enqueue, enqueue_many, enqueue_many_sync, enqueue_sync
from jobsd.store.db import Db
from jobsd.store.migrate import migrate
from tests.support.engine import job, registered

AT = datetime(2030, 1, 1, 12, tzinfo=UTC)
Driver = Callable[[str], Any]


@asynccontextmanager
async def on_asyncpg(url: str) -> AsyncIterator[Any]:
    con = await asyncpg.connect(url)
    try:
        yield con
    finally:
        await con.close()


@asynccontextmanager
async def on_asyncpg_with_codecs(url: str) -> AsyncIterator[Any]:
    """As programs set it up that want their JSON decoded."""
    async with on_asyncpg(url) as con:
        for kind in ("json", "jsonb"):
            await con.set_type_codec(kind, encoder=orjson.dumps, decoder=orjson.loads, schema="pg_catalog")
        yield con


@asynccontextmanager
async def on_asyncpg_pool(url: str) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool, pool.acquire() as con:
        yield con


@asynccontextmanager
async def on_psycopg(url: str) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as con:
        yield con


@asynccontextmanager
async def on_psycopg_with_dicts(url: str) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True, row_factory=psycopg.rows.dict_row) as con:
        yield con


DRIVERS = [on_asyncpg, on_asyncpg_with_codecs, on_asyncpg_pool, on_psycopg, on_psycopg_with_dicts]


@pytest.fixture
async def jobs(db: Db) -> None:
    await registered(db, job(params={"region": "eu"}))


async def stored(db: Db) -> list[Any]:
    return await db.fetch("SELECT * FROM jobsd.runs ORDER BY id")


@pytest.mark.req("F1", "P5")
@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_run_has_all_that_was_asked_for(driver: Driver, db: Db, jobs: None) -> None:
    async with driver(db.url) as con:
        run = await enqueue(
            con, "work", {"n": 1}, priority=2, due_at=AT, key="k", tags={"language": "fr"}, dry_run=True, reason="term"
        )
        again = await enqueue(
            con, "work", {"n": 1}, priority=2, due_at=AT, key="k", tags={"language": "fr"}, dry_run=True
        )

    (row,) = await stored(db)
    assert run == again == row["id"]
    assert orjson.loads(row["params"]) == {"region": "eu", "n": 1}
    assert (row["priority"], row["due_at"], row["dry_run"], row["tags"]) == (2, AT, True, '{"language": "fr"}')
    assert await db.fetchval("SELECT reason FROM jobsd.audit_log WHERE run = $1", run) == "term"


@pytest.mark.parametrize("driver", DRIVERS)
async def test_many_come_back_in_their_order(driver: Driver, db: Db, jobs: None) -> None:
    async with driver(db.url) as con:
        ids = await enqueue_many(con, "work", (Run({"n": n}) for n in range(50)))

    rows = await stored(db)
    assert ids == [row["id"] for row in rows]
    assert [orjson.loads(row["params"])["n"] for row in rows] == list(range(50))


@pytest.mark.req("P5")
@pytest.mark.parametrize("driver", DRIVERS)
async def test_what_the_callers_transaction_takes_back_was_never_asked_for(driver: Driver, db: Db, jobs: None) -> None:
    async with driver(db.url) as con:
        with pytest.raises(ZeroDivisionError):
            async with con.transaction():
                await enqueue(con, "work")
                raise ZeroDivisionError
        async with con.transaction():
            kept = await enqueue(con, "work")

    assert [row["id"] for row in await stored(db)] == [kept]


async def refusal(call: Awaitable[object], kind: type[Exception]) -> str:
    with pytest.raises(kind) as refused:
        await call
    return str(refused.value)


async def test_what_the_database_refuses_is_raised_by_the_driver(db: Db, jobs: None) -> None:
    async with on_asyncpg(db.url) as con:
        said = await refusal(enqueue(con, "nobody"), asyncpg.PostgresError)
    async with on_psycopg(db.url) as con:
        also = await refusal(enqueue(con, "work", tags={"Big": "x"}), psycopg.Error)

    assert said.startswith('no job named "nobody" is registered')
    assert also.startswith("tags: expected at most 20 names")


def test_a_program_that_waits_does_the_same(database_url: str) -> None:
    with psycopg.connect(database_url) as con:
        con.execute("INSERT INTO jobsd.job (name, definition, hash) VALUES ('work', '{}', '')")
        one = enqueue_sync(con, "work", {"n": 1}, due_at=AT, key="k")
        many = enqueue_many_sync(con, "work", [Run({"n": 1}, due_at=AT, key="k"), Run(tags={"a": "b"})])
        rows = con.execute("SELECT id, tags FROM jobsd.runs ORDER BY id").fetchall()
        con.rollback()
        left = con.execute("SELECT count(*) FROM jobsd.runs").fetchone()

    assert many[0] == one
    assert rows == [(one, {}), (many[1], {"a": "b"})]
    assert left == (0,)


async def test_the_installation_may_have_a_schema_of_another_name(empty_database_url: str) -> None:
    await migrate(empty_database_url, "team_b")
    async with Db.open(empty_database_url, "team_b") as db:
        await registered(db, job())

    async with on_asyncpg(empty_database_url) as con:
        run = await enqueue(con, "work", schema="team_b")

    assert run == 1


async def test_a_schema_that_is_no_name_never_reaches_the_database(db: Db) -> None:
    async with on_asyncpg(db.url) as con:
        with pytest.raises(ValueError, match="schema: expected a name"):
            await enqueue(con, "work", schema='jobsd".x; --')


def test_a_time_without_its_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="due_at: expected a time with its time zone"):
        Run(due_at=datetime(2030, 1, 1)).said()
