"""sql/roles.sql: what each role may do, and above all what it may not, by raw SQL."""

from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from jobsd.store import jobs, seal
from jobsd.store.db import Db
from jobsd.store.migrate import migrate, status
from tests.support.engine import enqueued, job, registered
from tests.support.postgres import OwnServer
from tests.support.roles import as_login, granted, logins
from tests.support.settled import settled


@pytest.fixture
async def url(postgres_server: OwnServer) -> AsyncIterator[str]:
    """A migrated database with the roles and their logins."""
    made = await postgres_server.database()
    await granted(made)
    await logins(made)
    yield made


async def refused(url: str, *statements: str) -> dict[str, str | None]:
    """Try each; the SQLSTATE it is refused with, None for what was done."""
    con = await asyncpg.connect(url)
    found: dict[str, str | None] = {}
    for statement in statements:
        try:
            await con.execute(statement)
            found[statement] = None
        except asyncpg.PostgresError as error:
            found[statement] = error.sqlstate
    await con.close()
    return found


NOT_A_TABLE = "UPDATE jobsd.attempts SET error = error"  # a view of two tables
HISTORY = (
    *(f"UPDATE jobsd.{table} SET {column} = {column}" for table, column in {
        "attempt": "error", "audit": "actor", "audit_seal": "hash", "migration": "checksum",
        "audit_log": "actor", "audit_seals": "sealer"}.items()),
    NOT_A_TABLE,
    *(f"DELETE FROM jobsd.{table}" for table in ("attempt", "audit", "audit_seal", "migration", "audit_log")),
    *(f"TRUNCATE jobsd.{table}" for table in ("attempt", "audit", "audit_seal", "run", "slot")),
    "INSERT INTO jobsd.audit (sequence, act, actor, tx) VALUES (999, 'queued', 'unix:alice', 1)",
    "INSERT INTO jobsd.audit (sequence, act, actor, at) VALUES (999, 'queued', 'unix:alice', '2020-01-01')",
    "INSERT INTO jobsd.audit_log (sequence, act, actor, at) VALUES (999, 'queued', 'unix:alice', '2020-01-01')",
    "INSERT INTO jobsd.audit_seal SELECT number + 1, to_tx, to_tx + 1, 1, 'x', now(), hash, hash FROM jobsd.audit_seal",
    "SELECT setval('jobsd.audit_sealed', 1)",
    "SELECT nextval('jobsd.audit_sealed')",
    "ALTER TABLE jobsd.audit DISABLE TRIGGER ALL",
    "ALTER TABLE jobsd.audit ALTER COLUMN tx SET DEFAULT 1",
    "DROP TRIGGER audit_is_append_only ON jobsd.audit",
    "CREATE OR REPLACE FUNCTION jobsd.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "CREATE TABLE jobsd.mine (n integer)",
    "CREATE RULE r AS ON INSERT TO jobsd.audit DO INSTEAD NOTHING",
    "DROP TABLE jobsd.attempt",
    "SET session_replication_role = replica",
    "SET ROLE jobsd_owner",
    "GRANT jobsd_owner TO app",
)  # fmt: skip


@pytest.mark.req("P10", "B8", "B9", "C7")
@pytest.mark.fault(39)
async def test_the_runtime_role_cannot_rewrite_history_through_any_door(url: str) -> None:
    async with Db.open(url) as db:
        await registered(db, job())
        await enqueued(db)
        await settled(db)
        await seal.seal(db, "node:one", 100)

    tried = await refused(as_login(url, "app"), *HISTORY)

    assert {statement: state for statement, state in tried.items() if state != "42501"} == {NOT_A_TABLE: "55000"}


@pytest.mark.req("P10", "B5", "B6", "C7")
@pytest.mark.fault(39, 40)
async def test_what_the_runtime_role_may_write_still_obeys_the_triggers(url: str) -> None:
    async with Db.open(as_login(url, "app")) as db:
        await registered(db, job())
        await enqueued(db, count=2)
        await db.execute("UPDATE jobsd.run SET state = 'cancelled', ready = NULL, finished_at = now() WHERE id = 1")
        await enqueued(db, permanent=True)
        await db.execute("UPDATE jobsd.run SET state = 'cancelled', ready = NULL, finished_at = now() WHERE id = 3")

    tried = await refused(
        as_login(url, "app"),
        "UPDATE jobsd.run SET state = 'queued', finished_at = NULL WHERE id = 1",
        "UPDATE jobsd.run SET state = 'completed', ready = NULL, finished_at = now() WHERE id = 2",
        "DELETE FROM jobsd.run WHERE id = 2",
        "DELETE FROM jobsd.run WHERE id = 3",
        "UPDATE jobsd.run SET permanent = false WHERE id = 3",
    )

    assert set(tried.values()) == {"23001"}, tried


@pytest.mark.req("P10")
async def test_the_runtime_role_seals_though_it_may_write_no_seal(url: str) -> None:
    async with Db.open(as_login(url, "app")) as db:
        await jobs.audit(db, "noted", "unix:alice")
        await settled(db)

        made = await seal.seal(db, "node:one", 100)
        (link, found) = (await seal.links(db, 0, 10, 100))[0]

    assert isinstance(made, seal.Sealed)
    assert (link.hash, link.entries) == (found.hash, found.entries) == (made.hash, 1)


ENQUEUE = "SELECT jobsd.enqueue('work')"


@pytest.mark.req("F1", "P10")
async def test_the_enqueuer_enqueues_and_sees_nothing(url: str) -> None:
    async with Db.open(url) as db:
        await registered(db, job())

    tried = await refused(
        as_login(url, "client"),
        ENQUEUE,
        "SELECT jobsd.enqueue_many('work', '[{}]')",
        "SELECT * FROM jobsd.run",
        "SELECT * FROM jobsd.runs",
        "SELECT * FROM jobsd.api_token",
        "INSERT INTO jobsd.run (job, actor) VALUES ('work', 'unix:alice')",
        "SELECT jobsd.seal_audit('x', 1)",
        "SELECT jobsd.complete(1, 1)",
    )
    async with Db.open(url) as db:
        actors = [row["actor"] for row in await db.fetch("SELECT actor FROM jobsd.runs")]

    assert [statement for statement, state in tried.items() if state is None] == list(tried)[:2]
    assert {state for state in tried.values() if state} == {"42501"}
    assert actors == ["sql:client", "sql:client"]


@pytest.mark.req("P10")
async def test_the_reader_reads_the_documented_views_and_nothing_else(url: str) -> None:
    async with Db.open(url) as db:
        await registered(db, job())
        await enqueued(db)
    views = ("runs", "attempts", "audit_log", "audit_seals", "slots", "nodes", "overdue")

    read = await refused(as_login(url, "report"), *(f"SELECT * FROM jobsd.{view}" for view in views))
    tried = await refused(
        as_login(url, "report"),
        "SELECT * FROM jobsd.run",
        "SELECT * FROM jobsd.audit",
        "SELECT * FROM jobsd.api_token",
        "DELETE FROM jobsd.nodes",
        "UPDATE jobsd.audit_log SET actor = 'x'",
        ENQUEUE,
        "SELECT * FROM analytics.event",
    )

    assert set(read.values()) == {None}
    assert set(tried.values()) == {"42501"}


OWNERS = """
    SELECT pg_get_userbyid(relowner) AS owner FROM pg_class WHERE relnamespace = 'jobsd'::regnamespace
     UNION
    SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE pronamespace = 'jobsd'::regnamespace
"""


@pytest.mark.req("P10")
async def test_the_owner_migrates_and_what_is_new_is_granted_by_running_the_roles_again(
    postgres_server: OwnServer,
) -> None:
    await postgres_server.server.create_database("fresh")
    url = postgres_server.url("fresh")
    await granted(url)
    await logins(url)
    await migrate(as_login(url, "migrator"))
    before = await refused(as_login(url, "app"), "SELECT * FROM jobsd.run")

    await granted(url)
    await granted(url)

    found = await status(as_login(url, "app"))
    async with Db.open(url) as db:
        owners = await db.fetch(OWNERS)
    assert set(before.values()) == {"42501"}
    assert found.pending == ()
    assert [row["owner"] for row in owners] == ["jobsd_owner"]
    assert set((await refused(as_login(url, "app"), "SELECT * FROM jobsd.run", "CREATE TEMP TABLE t ()")).values()) == {
        None
    }


@pytest.mark.req("P10")
async def test_two_installations_in_one_database_have_roles_of_their_own(
    own_server: Callable[..., OwnServer],
) -> None:
    server = own_server()
    await server.server.create_database("both")
    url = server.url("both")
    for schema in ("jobsd", "other"):
        await migrate(url, schema)
        await granted(url, schema)
    con = await asyncpg.connect(url)
    await con.execute("CREATE ROLE second LOGIN IN ROLE other_runtime")
    await con.close()

    tried = await refused(
        as_login(url, "second"),
        "SELECT * FROM other.run",
        "SELECT * FROM analytics.event",
        "SELECT * FROM jobsd.run",
    )

    assert list(tried.values()) == [None, None, "42501"]
