"""`max_active` and what is kept for ever, for the runs that schedules make."""

from collections import Counter
from datetime import timedelta

import pytest

from jobsd.engine.dependencies import Dependencies
from jobsd.store import queue
from jobsd.store.db import Db
from tests.engine.test_scheduler import decide, every, ledger, left_undecided, scheduler
from tests.support.engine import node
from tests.support.eventually import eventually

FULL = "all 3 active runs that it may have are there"
BEGIN = """
    UPDATE jobsd.run
       SET state = 'running', ready = NULL, held = lock_key, node = 1, fence = 1, started_at = now()
     WHERE job = 'first'
"""
COMPLETE = """
    UPDATE jobsd.run SET state = 'completed', held = NULL, node = NULL, finished_at = now() WHERE job = 'first'
"""
OVERLAPPING = {"concurrency": 50, "schedule": {"missed": "all"}}


@pytest.mark.req("D3", "P1")
async def test_slots_over_the_cap_are_decided_as_overlap_with_the_reason(db: Db) -> None:
    async with node(db) as here:
        made = await scheduler(here, every(1, max_active=3, **OVERLAPPING))
        await left_undecided(db, "work", timedelta(seconds=10))
        await decide(made)

    rows = await ledger(db)
    assert [row["decision"] for row in rows[:3]] == ["caught_up"] * 3
    assert {(row["decision"], row["reason"], row["run"]) for row in rows[3:]} == {("overlap", FULL, None)}
    assert len(rows) >= 10
    assert await db.fetchval("SELECT count(*) FROM jobsd.run WHERE capped") == 3


async def test_what_was_asked_for_counts_too_and_a_run_that_is_over_makes_room(db: Db) -> None:
    async with node(db) as here:
        made = await scheduler(here, every(1, max_active=3, **OVERLAPPING))
        async with db.transaction() as tx:
            assert await queue.room(tx, "work", 3) == 3
            await queue.enqueue(tx, [queue.NewRun("work", "me", capped=True) for _ in range(2)])
        await left_undecided(db, "work", timedelta(seconds=10))
        await decide(made)
        over = "UPDATE jobsd.run SET state = 'cancelled', ready = NULL, capped = NULL, finished_at = now()"
        await db.execute(over)
        await left_undecided(db, "work", timedelta(seconds=0))
        async with db.transaction() as tx:
            places = await queue.room(tx, "work", 3)

    made_runs = Counter(row["decision"] for row in await ledger(db))
    assert made_runs["caught_up"] == 1
    assert places == 3


async def test_a_transaction_that_holds_the_cap_keeps_no_other_job_from_its_slots(db: Db) -> None:
    async with node(db) as here:
        made = await scheduler(here, every(1, max_active=3, **OVERLAPPING), every(1, "other"))
        async with db.transaction() as tx:
            await queue.room(tx, "work", 3)
            for name in ("work", "other"):
                await left_undecided(db, name, timedelta(seconds=3))
            await decide(made)
            meanwhile = {row["job"] for row in await ledger(db)}

        async def decided() -> int:
            await made._tick()
            return len([row for row in await ledger(db) if row["job"] == "work" and row["run"]])

        await eventually(decided, 3)

    assert meanwhile == {"other"}


async def test_a_slot_that_waited_for_others_is_held_to_the_cap_as_well(db: Db) -> None:
    async with node(db) as here:
        made = await scheduler(here, every(3600, "first"), every(3600, needs=["first"], max_active=1))
        waits = Dependencies(here, made)
        async with db.transaction() as tx:
            await queue.enqueue(tx, [queue.NewRun("work", "me", capped=True)])
        for name in ("first", "work"):
            await left_undecided(db, name, timedelta(hours=1))
        await decide(made)
        await db.execute(BEGIN)
        await db.execute(COMPLETE)
        await waits._look()

    rows = {row["job"]: row for row in await ledger(db)}
    assert rows["first"]["decision"] in ("ran", "caught_up")
    assert (rows["work"]["decision"], rows["work"]["reason"]) == (
        "overlap",
        "all 1 active runs that it may have are there",
    )


@pytest.mark.req("C7")
async def test_runs_of_an_atomic_job_are_kept_for_ever_whoever_makes_them(db: Db) -> None:
    async with node(db) as here:
        made = await scheduler(here, every(1, "whole", atomic=True), every(1, keep="forever"), every(1, "usual"))
        for name in ("whole", "work", "usual"):
            await left_undecided(db, name, timedelta(seconds=2))
        await decide(made)

    rows = await db.fetch("SELECT DISTINCT job, permanent FROM jobsd.run")
    assert dict(map(tuple, rows)) == {"whole": True, "work": True, "usual": False}
