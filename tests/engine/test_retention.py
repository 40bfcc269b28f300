"""Retention: old runs go in batches, by age and by number; what is history stays, and so does what is needed."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from jobsd.domain.events import Event, Noted
from jobsd.domain.job import JobDefinition
from jobsd.engine.here import Here
from jobsd.engine.retention import Retention
from jobsd.store.db import Db
from tests.support.engine import enqueued, identity, job, node, registered

# Runs as they are after their end, so old by their end and a little older by their making.
MADE = """
    INSERT INTO jobsd.run (job, state, ready, actor, created_at, finished_at, idempotency_key, permanent, slot_at)
    SELECT $1, $2, NULL, 'test', now() - $3::interval - interval '1 minute', now() - $3::interval, key, $5, slot_at
      FROM unnest($4::text[]) WITH ORDINALITY AS k(key, n),
           LATERAL (SELECT CASE WHEN $6 THEN date_trunc('hour', now()) - n * interval '1 hour' END AS slot_at) s
 RETURNING id
"""


async def ended(
    db: Db,
    days: float,
    state: str = "completed",
    *,
    count: int = 1,
    name: str = "work",
    keys: Sequence[str | None] | None = None,
    permanent: bool = False,
    slots: bool = False,
) -> list[int]:
    """Finished runs that ended so many days ago."""
    given = keys or [None] * count
    async with db.transaction() as tx:
        await tx.execute("ALTER TABLE jobsd.run DISABLE TRIGGER a_run_begins_queued")
        rows = await tx.fetch(MADE, name, state, timedelta(days=days), given, permanent, slots)
        await tx.execute("ALTER TABLE jobsd.run ENABLE TRIGGER a_run_begins_queued")
    return [row["id"] for row in rows]


async def left(db: Db) -> list[int]:
    return [row["id"] for row in await db.fetch("SELECT id FROM jobsd.run ORDER BY id")]


async def cleared(db: Db, *definitions: JobDefinition, batch: int = 1000) -> list[Event]:
    """One round, after these jobs were registered; what was told."""
    await registered(db, *definitions)
    told = list[Event]()
    async with node(db) as here:
        watched = Here(here.db, here.keeper, here.pulse, told.append, identity("one"))
        await Retention(watched, batch).clear()
    return told


@pytest.mark.req("D3", "C7")
async def test_each_state_is_kept_as_long_as_the_job_declares(db: Db) -> None:
    keep = {"completed": "7d", "failed": "90d", "cancelled": "1d"}
    old = {state: await ended(db, 8, state) for state in ("completed", "failed", "cancelled")}
    young = await ended(db, 6)

    await cleared(db, job(keep=keep))

    assert await left(db) == [*old["failed"], *young]


@pytest.mark.req("D3")
async def test_a_job_keeps_its_latest_runs_and_no_more_however_young_the_others_are(db: Db) -> None:
    runs = await ended(db, 0.01, count=8)

    await cleared(db, job(keep={"latest": 3}))

    assert await left(db) == runs[-3:]


@pytest.mark.req("D3")
@pytest.mark.fault(38)
async def test_runs_that_are_not_over_do_not_count_and_are_never_deleted(db: Db) -> None:
    await registered(db, job())
    waiting = await enqueued(db, count=2)
    over = await ended(db, 0.01, count=3)

    await cleared(db, job(keep={"latest": 1}))

    assert await left(db) == [*waiting, over[-1]]


@pytest.mark.req("B9", "P10", "D3")
@pytest.mark.fault(38)
async def test_what_a_run_said_goes_with_it_and_its_attempts_and_audit_stay(db: Db) -> None:
    (old,) = await ended(db, 400)
    (young,) = await ended(db, 1)
    for run in (old, young):
        await db.execute(BELONGS, run)

    await cleared(db, job())

    for table in ("message", "progress", "force_fail"):
        assert [row["run"] for row in await db.fetch(f"SELECT run FROM jobsd.{table}")] == [young], table
    attempts = await db.fetch("SELECT run FROM jobsd.attempt ORDER BY run")
    audit = await db.fetch("SELECT run FROM jobsd.audit WHERE act = 'completed' ORDER BY run")
    assert [row["run"] for row in attempts] == [row["run"] for row in audit] == [old, young]


BELONGS = """
    WITH said AS (
        INSERT INTO jobsd.message (run, fence, level, text) VALUES ($1, 1, 'info', 'hello')
    ), far AS (
        INSERT INTO jobsd.progress (run, fence) VALUES ($1, 1)
    ), forced AS (
        INSERT INTO jobsd.force_fail (run, fence, actor, reason) VALUES ($1, 1, 'test', 'test')
    ), tried AS (
        INSERT INTO jobsd.attempt (run, fence, number, node, outcome, started_at, ended_at)
        VALUES ($1, 1, 1, 1, 'completed', now(), now())
    )
    INSERT INTO jobsd.audit (run, sequence, act, actor, job) VALUES ($1, 3, 'completed', 'test', 'work')
"""


@pytest.mark.req("A7", "D3")
@pytest.mark.fault(38)
async def test_each_batch_has_one_audit_entry_and_the_log_has_the_sum(db: Db) -> None:
    old = await ended(db, 400, count=25)

    told = await cleared(db, job(), batch=10)

    entries = await db.fetch("SELECT actor, job, detail FROM jobsd.audit WHERE act = 'deleted' ORDER BY sequence")
    batches = [(entry["actor"], entry["job"]) for entry in entries]
    assert batches == [("node:one", "work")] * 3
    assert [entry["detail"] for entry in entries] == [
        f'{{"last": {old[n:][:10][-1]}, "runs": {len(old[n:][:10])}, "first": {old[n]}}}' for n in (0, 10, 20)
    ]
    assert told == [Noted("runs_deleted", "info", {"job": "work", "runs": 25})]


@pytest.mark.req("C7")
@pytest.mark.parametrize("keys", [{"atomic": True}, {"keep": "forever"}])
async def test_runs_of_jobs_that_keep_them_for_ever_are_never_deleted(db: Db, keys: dict[str, Any]) -> None:
    runs = await ended(db, 4000, count=3)

    await cleared(db, job(**keys))

    assert await left(db) == runs


@pytest.mark.req("C7")
async def test_a_permanent_run_stays_though_its_job_no_longer_says_so(db: Db) -> None:
    runs = await ended(db, 4000, permanent=True)
    await ended(db, 4000)

    await cleared(db, job())

    assert await left(db) == runs


async def test_the_runs_of_a_job_that_has_left_the_registry_go_by_what_it_said_last(db: Db) -> None:
    await ended(db, 400)
    await registered(db, job())
    await db.execute("UPDATE jobsd.job SET removed_at = now()")

    async with node(db) as here:
        await Retention(here).clear()

    assert await left(db) == []


async def test_a_run_whose_idempotency_key_may_still_be_repeated_stays(db: Db) -> None:
    (today,) = await ended(db, 0.5, keys=["k1"])
    await ended(db, 2, keys=["k2"])

    await cleared(db, job(keep={"completed": "1h"}))

    assert await left(db) == [today]


@pytest.mark.req("E2")
async def test_the_run_of_the_schedules_latest_slot_stays_for_the_jobs_that_wait_for_it(db: Db) -> None:
    runs = await ended(db, 1, count=3, slots=True)
    await db.execute(LEDGER)

    await cleared(db, job(keep={"completed": "1h"}))

    assert await left(db) == runs[:1], "the first one is of the latest slot"


LEDGER = """
    INSERT INTO jobsd.slot (job, slot_at, to_at, decision, run, node)
    SELECT job, slot_at, slot_at, 'ran', id, 1 FROM jobsd.run
"""


@pytest.mark.req("C4")
async def test_nodes_that_clear_at_once_delete_each_run_once(db: Db) -> None:
    old = await ended(db, 400, count=200)
    await registered(db, job())

    async with node(db, "one") as one, node(db, "two") as two:
        await asyncio.gather(Retention(one, 10).clear(), Retention(two, 10).clear())
        await Retention(one, 10).clear()  # what the two passed over in each other's hands

    deleted = await db.fetchval("SELECT sum((detail->>'runs')::int) FROM jobsd.audit WHERE act = 'deleted'")
    assert await left(db) == []
    assert deleted == len(old)


async def test_a_run_that_a_person_retries_just_now_is_passed_over(db: Db) -> None:
    (run,) = await ended(db, 400, "failed")
    await registered(db, job())

    async with node(db) as here, db.transaction() as tx:
        await tx.execute("UPDATE jobsd.run SET state = 'queued', ready = true, finished_at = NULL WHERE id = $1", run)
        await Retention(here).clear()

    assert await left(db) == [run]


@pytest.mark.fault(38)
async def test_a_definition_that_this_version_cannot_read_is_left_alone(db: Db) -> None:
    runs = await ended(db, 400)
    await registered(db, job())
    await db.execute("""UPDATE jobsd.job SET definition = jsonb_set(definition, '{keep,lunar}', '"3d"')""")

    async with node(db) as here:
        await Retention(here).clear()

    assert await left(db) == runs
