"""Into the queue: each run with its audit entry, each slot and each idempotency key once."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from jobsd.store import queue, standing
from jobsd.store.db import Db
from jobsd.store.migrate import migrate
from jobsd.store.queue import NewRun

SLOT = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.req("B1", "B9", "F1")
async def test_runs_are_stored_with_their_audit_entries_in_the_order_they_were_asked_for(db: Db) -> None:
    asked = [NewRun(f"job{n}", "unix:alice", params={"n": n}, reason=f"reason {n}") for n in range(5)]

    queued = await queue.enqueue(db, asked)

    rows = await db.fetch("SELECT id, job, state, params FROM jobsd.run ORDER BY id")
    audit = await db.fetch("SELECT run, sequence, act, actor, job, reason FROM jobsd.audit ORDER BY run")
    assert [(run.id, run.created) for run in queued] == [(row["id"], True) for row in rows]
    assert [row["job"] for row in rows] == [new.job for new in asked]
    assert {row["state"] for row in rows} == {"queued"}
    assert [tuple(row) for row in audit] == [
        (run.id, 1, "queued", "unix:alice", new.job, new.reason) for run, new in zip(queued, asked, strict=True)
    ]


@pytest.mark.req("P2")
async def test_a_slot_gets_one_run_and_the_second_one_who_asks_is_told_which(db: Db) -> None:
    (first,) = await queue.enqueue(db, [NewRun("a", "schedule", slot_at=SLOT)])

    again = await queue.enqueue(
        db, [NewRun("a", "schedule", slot_at=SLOT), NewRun("a", "schedule"), NewRun("b", "schedule", slot_at=SLOT)]
    )

    assert [run.created for run in again] == [False, True, True]
    assert again[0].id == first.id
    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 3
    assert await db.fetchval("SELECT count(*) FROM jobsd.audit") == 3


@pytest.mark.req("P2")
async def test_twenty_who_ask_at_once_with_one_key_get_the_same_run(db: Db) -> None:
    new = NewRun("a", "unix:alice", idempotency_key="k")

    answers = await asyncio.gather(*(queue.enqueue(db, [new]) for _ in range(20)))

    assert len({run.id for (run,) in answers}) == 1
    assert sum(run.created for (run,) in answers) == 1


async def test_the_same_key_twice_in_one_request_is_one_run(db: Db) -> None:
    new = NewRun("a", "unix:alice", idempotency_key="k")

    first, second = await queue.enqueue(db, [new, new])

    assert first.id == second.id
    assert (first.created, second.created) == (True, False)


async def test_an_enqueue_in_a_transaction_that_fails_leaves_nothing(db: Db) -> None:
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as tx:
            await queue.enqueue(tx, [NewRun("a", "unix:alice")])
            raise ZeroDivisionError

    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 0


@pytest.mark.req("C5")
async def test_depth_tells_due_from_later_and_leaves_disabled_jobs_out_of_the_oldest(db: Db) -> None:
    now = datetime.now(UTC)
    await db.execute(
        "INSERT INTO jobsd.job (name, definition, hash, enabled, disabled_by) VALUES ('off', '{}', '', false, 'me')"
    )
    await queue.enqueue(
        db,
        [
            NewRun("a", "me", due_at=now - timedelta(minutes=2), priority=9),
            NewRun("a", "me", due_at=now - timedelta(minutes=1)),
            NewRun("a", "me", due_at=now + timedelta(hours=1)),
            NewRun("off", "me", due_at=now - timedelta(days=1)),
        ],
    )

    depth = await queue.depth(db)

    assert (depth.due, depth.later, depth.running) == (3, 1, 0)
    assert 120 <= depth.oldest_due_s < 1000


async def test_an_installation_may_have_a_schema_of_another_name(empty_database_url: str) -> None:
    await migrate(empty_database_url, "team_b")

    async with Db.open(empty_database_url, "team_b") as db:
        first = await queue.enqueue(db, [NewRun("a", "me", idempotency_key="k")])
        again = await queue.enqueue(db, [NewRun("a", "me", idempotency_key="k")])
        await db.execute("INSERT INTO jobsd.job (name, definition, hash) VALUES ('a', '{}', '')")
        switched = await standing.switch(db, "a", enabled=False, actor="me", reason=None)
        acts = await db.fetch('SELECT act FROM "team_b".audit ORDER BY at')

    assert again[0].id == first[0].id
    assert switched is True
    assert [row["act"] for row in acts] == ["queued", "disabled"]
