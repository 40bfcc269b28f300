"""The audit's chain: what is sealed, in which order, and that every later change of it is found."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobsd.domain.chain import FIRST, wrong_with
from jobsd.store import audit, jobs, seal
from jobsd.store.db import Db
from jobsd.store.migrate import migrate
from jobsd.store.seal import Sealed, Waiting
from tests.support.engine import enqueued, job, registered
from tests.support.settled import settled

MOST = 1000
ERA = 1 << 48


async def noted(db: Db, count: int = 1, act: str = "noted") -> None:
    for number in range(count):
        await jobs.audit(db, act, "unix:alice", reason=f"number {number}")


async def sealed(db: Db, most: int = MOST) -> list[Sealed]:
    """Seal all there is."""
    await settled(db)
    made = []
    while isinstance(one := await seal.seal(db, "node:one", most), Sealed):
        made.append(one)
    return made


async def broken(db: Db) -> tuple[int, str] | None:
    """The first link that does not hold, and why."""
    before = FIRST
    for link, found in await seal.links(db, 0, 1000, 1_000_000):
        if reason := wrong_with(before, link, found):
            return link.number, reason
        before = link
    return None


@asynccontextmanager
async def as_forger(db: Db, table: str = "audit") -> AsyncIterator[asyncpg.Connection]:
    """The owner with the triggers off: what only he can do, and what the chain is there to find."""
    con = await asyncpg.connect(db.url)
    try:
        await con.execute(f"ALTER TABLE jobsd.{table} DISABLE TRIGGER USER")
        yield con
        await con.execute(f"ALTER TABLE jobsd.{table} ENABLE TRIGGER USER")
    finally:
        await con.close()


@pytest.mark.req("P10", "B9")
async def test_everything_is_sealed_once_and_each_seal_names_the_one_before(db: Db) -> None:
    await registered(db, job())
    await enqueued(db, count=5)
    first = await sealed(db)
    nothing = await sealed(db)
    await noted(db, 2)
    second = await sealed(db)

    links = [link for link, _ in await seal.links(db, 0, 10, MOST)]
    assert ([each.entries for each in first], nothing, [each.entries for each in second]) == ([5], [], [2])
    assert [(each.number, each.hash) for each in links] == [(1, first[0].hash), (2, second[0].hash)]
    assert (links[0].previous, links[1].previous) == (FIRST.hash, first[0].hash)
    assert links[1].from_tx == links[0].to_tx
    assert await broken(db) is None
    assert (await seal.unsealed(db, links[-1])).entries == 0


@pytest.mark.req("P10")
async def test_a_backlog_is_sealed_in_several_seals_and_no_transaction_is_cut_in_two(db: Db) -> None:
    await registered(db, job())
    await noted(db, 7)
    await enqueued(db, count=50)

    made = await sealed(db, most=5)

    assert sum(each.entries for each in made) == 57
    assert max(each.entries for each in made) >= 50
    assert len(made) >= 2
    assert await broken(db) is None


@pytest.mark.req("P10")
async def test_what_is_committed_late_is_neither_passed_over_nor_sealed_twice(db: Db) -> None:
    late = await asyncpg.connect(db.url)
    transaction = late.transaction()
    await transaction.start()
    await late.execute("INSERT INTO jobsd.audit (sequence, act, actor) VALUES (-1, 'late', 'unix:bob')")
    await noted(db, 3)

    before = await seal.seal(db, "node:one", MOST)
    await transaction.commit()
    await late.close()
    after = await sealed(db)

    assert (before, [each.entries for each in after]) == (None, [4])
    assert await broken(db) is None


@pytest.mark.req("P10")
async def test_writers_and_sealers_at_the_same_time_leave_one_whole_chain(db: Db) -> None:
    async with Db.open(db.url, size=8) as other:
        writing = [asyncio.create_task(noted(other, 40)) for _ in range(5)]
        while not all(task.done() for task in writing):
            await asyncio.gather(*(seal.seal(db, f"node:{name}", 10) for name in ("one", "two", "three")))
        await asyncio.gather(*writing)
    await sealed(db)

    covered = await db.fetchval("SELECT sum(entries)::integer FROM jobsd.audit_seal")
    assert await db.fetchval("SELECT count(*) FROM jobsd.audit WHERE tx <> xmin::text::bigint") == 0
    assert covered == await db.fetchval("SELECT count(*) FROM jobsd.audit") == 200
    assert await broken(db) is None


@pytest.mark.req("P10")
@pytest.mark.parametrize(
    ("mark", "xid", "tx"),
    [
        (0, 5, 5),
        (5, 5, 5),
        (5, 4, ERA + 4),
        (5, 6, 6),
        (ERA - 1, 0, ERA),
        (ERA, 0, ERA),
        (ERA, 7, ERA + 7),
        (ERA + 8, 7, 2 * ERA + 7),
        (3 * ERA + 8, 8, 3 * ERA + 8),
    ],
)
async def test_an_entry_gets_the_first_number_not_sealed_yet_that_ends_in_its_transactions_id(
    db: Db, mark: int, xid: int, tx: int
) -> None:
    await db.fetchval("SELECT setval('jobsd.audit_sealed', $1)", mark)

    assert await db.fetchval("SELECT jobsd.audit_tx($1::text::xid8)", str(xid)) == tx


FORGERIES = {
    "changed": ("UPDATE jobsd.audit SET actor = 'unix:mallory' WHERE sequence = 4", "do not read as they did"),
    "removed": ("DELETE FROM jobsd.audit WHERE sequence = 4", "3 entries were sealed, 2 are there: 1 was removed"),
    "added": (
        "INSERT INTO jobsd.audit (sequence, act, actor, tx) SELECT 99, act, actor, tx FROM jobsd.audit"
        " WHERE sequence = 4",
        "3 entries were sealed, 4 are there: 1 was added",
    ),
    "moved": (
        "UPDATE jobsd.audit SET at = at - interval '1 day', tx = tx WHERE sequence = 4",
        "do not read as they did",
    ),
}


@pytest.mark.req("P10")
@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.fault(39)
async def test_an_entry_that_was_tampered_with_is_found_by_the_seal_over_it(db: Db, forgery: str) -> None:
    for _ in range(3):
        await noted(db, 3)
        await sealed(db)
    statement, reason = FORGERIES[forgery]
    async with as_forger(db) as forger:
        await forger.execute(statement)

    found = await broken(db)

    assert found is not None
    assert found[0] == 2
    assert reason in found[1]


SEAL_FORGERIES = {
    "removed": ("DELETE FROM jobsd.audit_seal WHERE number = 2", 3, "seal 2 before it is gone"),
    "first removed": ("DELETE FROM jobsd.audit_seal WHERE number = 1", 2, "seal 1 before it is gone"),
    "hash": ("UPDATE jobsd.audit_seal SET hash = sha256('x') WHERE number = 2", 2, "do not read as they did"),
    "time": ("UPDATE jobsd.audit_seal SET at = at - interval '1 s' WHERE number = 2", 2, "do not read as they did"),
    "sealer": ("UPDATE jobsd.audit_seal SET sealer = 'node:x' WHERE number = 2", 2, "do not read as they did"),
    "narrowed": ("UPDATE jobsd.audit_seal SET from_tx = from_tx + 1 WHERE number = 2", 2, "does not follow seal 1"),
    "widened": ("UPDATE jobsd.audit_seal SET to_tx = to_tx + 1 WHERE number = 3", 3, "do not read as they did"),
}


@pytest.mark.req("P10")
@pytest.mark.parametrize("forgery", SEAL_FORGERIES)
@pytest.mark.fault(39)
async def test_a_seal_that_was_tampered_with_is_found_itself(db: Db, forgery: str) -> None:
    for _ in range(3):
        await noted(db, 3)
        await sealed(db)
    statement, number, reason = SEAL_FORGERIES[forgery]
    async with as_forger(db, "audit_seal") as forger:
        await forger.execute(statement)

    found = await broken(db)

    assert found is not None
    assert found[0] == number
    assert reason in found[1]


@pytest.mark.req("P10")
async def test_a_seal_written_anew_over_changed_entries_breaks_the_link_to_the_next(db: Db) -> None:
    for _ in range(3):
        await noted(db, 3)
        await sealed(db)
    async with as_forger(db) as forger:
        await forger.execute("UPDATE jobsd.audit SET actor = 'unix:mallory' WHERE sequence = 4")
    (_, forged) = (await seal.links(db, 1, 1, MOST))[0]
    async with as_forger(db, "audit_seal") as forger:
        await forger.execute("UPDATE jobsd.audit_seal SET hash = decode($1, 'hex') WHERE number = 2", forged.hash)

    found = await broken(db)

    assert found == (3, "it does not follow seal 2 as that one is now")


@pytest.mark.req("P10")
@pytest.mark.parametrize("table", ["audit", "attempt", "audit_seal"])
@pytest.mark.parametrize("change", ["UPDATE jobsd.{} SET {} = {}", "DELETE FROM jobsd.{}", "TRUNCATE jobsd.{}"])
async def test_the_database_refuses_to_change_history_even_for_its_owner(db: Db, table: str, change: str) -> None:
    column = {"audit": "actor", "attempt": "outcome", "audit_seal": "hash"}[table]

    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await db.execute(change.format(table, column, column))


@pytest.mark.req("P10")
async def test_in_a_cluster_of_lower_ids_entries_go_on_in_an_era_of_their_own(db: Db) -> None:
    await noted(db, 2)
    await sealed(db)
    async with as_forger(db, "audit_seal") as owner:  # as if it had been written where ids were far ahead
        await owner.execute("UPDATE jobsd.audit_seal SET to_tx = $1", ERA - 100)
        await owner.execute("SELECT setval('jobsd.audit_sealed', $1)", ERA - 100)
    async with as_forger(db) as owner:
        await owner.execute("INSERT INTO jobsd.audit (sequence, act, actor, tx) VALUES (70, 'old', 'x', $1)", ERA - 50)
    await noted(db, 3)

    steps = [await seal.seal(db, "node:one", MOST), await seal.seal(db, "node:one", MOST)]
    waited = steps[1]
    assert isinstance(waited, Waiting)
    await settled(db)
    last = await seal.seal(db, "node:one", MOST, waited.since)
    await noted(db, 1)
    normal = await sealed(db)

    assert steps[0] is None
    assert isinstance(last, Sealed)
    assert last.entries == 4, "what was restored without a seal, and what was written since"
    assert [each.entries for each in normal] == [1]
    assert await db.fetchval("SELECT min(tx) FROM jobsd.audit WHERE sequence < 70 AND tx > 1000000") > ERA


@pytest.mark.req("P10")
async def test_a_new_era_waits_for_those_who_began_to_write_before_it(db: Db) -> None:
    await noted(db, 1)
    await sealed(db)
    slow = await asyncpg.connect(db.url)
    transaction = slow.transaction()
    await transaction.start()
    await slow.execute("INSERT INTO jobsd.audit (sequence, act, actor) VALUES (-1, 'slow', 'x')")
    await db.execute("SELECT setval('jobsd.audit_sealed', $1)", ERA)

    waiting = await seal.seal(db, "node:one", MOST)
    assert isinstance(waiting, Waiting)
    still = await seal.seal(db, "node:one", MOST, waiting.since)
    await transaction.commit()
    await slow.close()
    await settled(db)
    done = await seal.seal(db, "node:one", MOST, waiting.since)

    assert still == waiting
    assert isinstance(done, Sealed)
    assert done.entries == 1
    assert await broken(db) is None


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
VALUE = st.none() | st.integers(-(2**53), 2**53) | TEXT


@pytest.mark.req("P10")
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    act=TEXT,
    actor=TEXT,
    reason=st.none() | TEXT,
    detail=st.dictionaries(TEXT, TEXT | st.integers(-(2**53), 2**53) | st.none()),
)
async def test_python_and_sql_hash_the_same(
    db: Db, act: str, actor: str, reason: str | None, detail: dict[str, object]
) -> None:
    await jobs.audit(db, act, actor, job=actor, reason=reason or "", detail=detail)

    (entry, digest) = (await audit.sealable(db, 0, None))[-1]

    assert (entry.act, entry.actor) == (act, actor)
    assert entry.digest.hex() == digest


async def test_a_seals_hash_is_the_one_that_anybody_can_compute_from_what_it_covers(db: Db) -> None:
    await registered(db, job())
    await enqueued(db, count=3)
    await sealed(db)
    await noted(db, 2)
    await sealed(db)

    for link, _ in await seal.links(db, 0, 10, MOST):
        covered = await audit.sealable(db, link.from_tx, link.to_tx)
        assert link.computed(entry.digest for entry, _ in covered) == link.hash


LONG = """
    INSERT INTO jobsd.audit (sequence, act, actor)
    SELECT n, 'noted', 'unix:alice' FROM generate_series(1, 60000) AS n
"""
SCANS = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'audit'"


async def test_a_long_audit_is_not_read_whole_to_seal_and_to_check_what_is_new(db: Db) -> None:
    await db.execute(LONG)
    await sealed(db, most=10_000)
    await db.execute("VACUUM ANALYZE jobsd.audit")
    async with Db.open(db.url, size=1) as one:  # so that its statements have been prepared and planned often
        await one.execute("SELECT pg_stat_force_next_flush()")
        before = await one.fetchval(SCANS)
        for _ in range(8):
            await noted(one, 1)
            await sealed(one)
            head = await seal.head(one)
            assert head is not None
            await seal.unsealed(one, head)
            await seal.links(one, head.number - 1, 10, MOST)
            await audit.sealable(one, head.from_tx, head.to_tx)
        await one.execute("SELECT pg_stat_force_next_flush()")

        assert await one.fetchval(SCANS) == before


async def test_a_schema_of_another_name_has_a_chain_of_its_own(empty_database_url: str) -> None:
    for schema in ("jobsd", "other"):
        await migrate(empty_database_url, schema)
    async with Db.open(empty_database_url, schema="other") as other, Db.open(empty_database_url) as db:
        await noted(other, 2)
        made = await sealed(other)

        assert [each.entries for each in made] == [2]
        assert await broken(other) is None
        assert await seal.head(db) is None
