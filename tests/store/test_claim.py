"""The claim: one statement on the lock session that takes due runs with their locks."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from jobsd.store import jobs
from jobsd.store.db import Db
from jobsd.store.locks import Key
from jobsd.store.runs import Overtaken
from tests.support.engine import enqueued, job, node, registered, request
from tests.support.eventually import eventually

BEGIN = """
    UPDATE jobsd.run
       SET state = 'running', ready = NULL, held = lock_key, node = 1, fence = 1, started_at = now()
     WHERE id = $1
"""
WAITING = """
    SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'transactionid' AND datname = current_database()
"""
LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid IN (1, 2) AND pid = $1"


@pytest.mark.req("C4", "F1", "P3")
async def test_two_nodes_that_claim_at_once_never_take_the_same_run(db: Db) -> None:
    await registered(db, job())
    ids = await enqueued(db, count=300)

    async with node(db, "one") as one, node(db, "two") as two:
        claims = await asyncio.gather(
            *(here.keeper.claim(request(here, limit=20)) for _ in range(12) for here in (one, two))
        )

    taken = [run.id for claim in claims for run in claim.runs]
    assert len(taken) == len(set(taken))
    assert set(taken) <= set(ids)


@pytest.mark.req("P3")
async def test_only_one_of_the_runs_with_one_lock_key_is_taken(db: Db) -> None:
    await registered(db, job())
    first, *_ = await enqueued(db, count=5, key="shared")

    async with node(db, "one") as one, node(db, "two") as two:
        mine = await one.keeper.claim(request(one))
        theirs = await two.keeper.claim(request(two))

    assert [run.id for run in mine.runs] == [first]
    assert theirs.runs == ()


@pytest.mark.req("P3")
@pytest.mark.fault(33)
async def test_a_run_is_taken_with_its_advisory_lock_and_marked_in_the_same_statement(db: Db) -> None:
    await registered(db, job())
    keyed, own = [*await enqueued(db, key="k"), *await enqueued(db)]

    async with node(db) as here:
        claim = await here.keeper.claim(request(here))
        pid = await here.keeper.ask(lambda lock: lock.session.fetchval("SELECT pg_backend_pid()"))
        locks = await db.fetchval(LOCKS, pid)
        rows = {row["id"]: row for row in await db.fetch("SELECT * FROM jobsd.run")}

    assert {run.id for run in claim.runs} == {keyed, own}
    assert locks == 3  # the node's, the key's, and the run's own
    assert rows[keyed]["held"] == rows[keyed]["lock_key"]
    assert {row["state"] for row in rows.values()} == {"running"}


@pytest.mark.req("P3")
@pytest.mark.fault(33)
async def test_the_database_refuses_two_running_runs_of_one_key_whoever_writes(db: Db) -> None:
    await registered(db, job())
    one, two = await enqueued(db, count=2, key="k")
    await db.execute(BEGIN, one)

    with pytest.raises(Exception, match="one_running_run_per_lock_key"):
        await db.execute(BEGIN, two)


async def test_runs_are_taken_by_priority_then_time_then_number(db: Db) -> None:
    await registered(db, job())
    early = datetime.now(UTC) - timedelta(minutes=5)
    (late,) = await enqueued(db, priority=5)
    (first,) = await enqueued(db, priority=5, due_at=early)
    (urgent,) = await enqueued(db, priority=0)
    (idle,) = await enqueued(db, priority=9, due_at=early)

    async with node(db) as here:
        claim = await here.keeper.claim(request(here))

    assert [run.id for run in claim.runs] == [urgent, first, late, idle]


async def test_future_runs_disabled_jobs_and_unknown_jobs_are_left_alone(db: Db) -> None:
    await registered(db, job(), job("off"), job("elsewhere"))
    await db.execute("UPDATE jobsd.job SET enabled = false, disabled_by = 'test' WHERE name = 'off'")
    await enqueued(db, due_at=datetime.now(UTC) + timedelta(hours=1))
    await enqueued(db, "off")
    await enqueued(db, "elsewhere")

    async with node(db) as here:
        claim = await here.keeper.claim(request(here, "work", "off"))

    assert claim.runs == ()


@pytest.mark.req("C4")
async def test_a_concurrency_limit_holds_over_two_nodes(db: Db) -> None:
    await registered(db, job("limited", concurrency=3))
    ids = await jobs.lock_keys(db, [f"seat:limited:{n}" for n in (1, 2, 3)])
    seats = [("limited", seat) for seat in ids.values()]
    await enqueued(db, "limited", count=20)
    await registered(db, job())
    (other,) = await enqueued(db, priority=9)

    async with node(db, "one") as one, node(db, "two") as two:
        claims = [await here.keeper.claim(request(here, "limited", "work", seats=seats)) for here in (one, two, one)]

    taken = [run for claim in claims for run in claim.runs]
    assert len([run for run in taken if run.job == "limited"]) == 3
    assert [run.id for run in taken if run.job == "work"] == [other], "a job at its limit must not hide the others"


async def test_keys_that_are_kept_for_work_that_does_not_end_are_not_taken_again(db: Db) -> None:
    await registered(db, job())
    (mine,) = await enqueued(db, key="kept")
    (own,) = await enqueued(db)
    key = (await jobs.lock_keys(db, ["kept"]))["kept"]

    async with node(db) as here:
        claim = await here.keeper.claim(request(here, kept=[key], kept_runs=[own]))

    assert claim.runs == ()
    assert mine != own


@pytest.mark.req("P4")
async def test_a_fence_only_rises_and_carries_the_timeline(db: Db) -> None:
    await registered(db, job())
    fences = []

    async with node(db) as here:
        for _ in range(3):
            await enqueued(db)
            fences.append((await here.keeper.claim(request(here))).runs[0].fence)

    assert fences == sorted(set(fences))
    assert {fence >> 40 for fence in fences} == {1}


async def test_a_lock_that_another_session_holds_leaves_the_run_in_the_queue(db: Db) -> None:
    await registered(db, job())
    (run,) = await enqueued(db, key="busy")
    key = (await jobs.lock_keys(db, ["busy"]))["busy"]

    async with node(db, "one") as one, node(db, "two") as two:
        lock = "SELECT pg_advisory_lock($1, $2)"
        await one.keeper.ask(lambda held: held.session.fetchval(lock, held.classes.lock_key, key))
        claim = await two.keeper.claim(request(two))
        state = await db.fetchval("SELECT state FROM jobsd.run WHERE id = $1", run)

    assert claim.runs == ()
    assert state == "queued"


@pytest.mark.req("P3")
async def test_a_claim_that_another_program_is_ahead_of_leaves_no_lock_and_can_be_tried_again(db: Db) -> None:
    await registered(db, job())
    theirs, mine = await enqueued(db, count=2, key="k")
    (free,) = await enqueued(db)

    async with node(db) as here:
        async with db.transaction() as other:
            await other.execute(BEGIN, theirs)
            claiming = asyncio.create_task(here.keeper.claim(request(here)))
            await eventually(lambda: db.fetchval(WAITING), 1)
        with pytest.raises(Overtaken):
            await claiming
        pid = await here.keeper.ask(lambda lock: lock.session.fetchval("SELECT pg_backend_pid()"))
        locks = await db.fetchval(LOCKS, pid)
        again = await here.keeper.claim(request(here))

    assert locks == 1  # the node's
    assert [run.id for run in again.runs] == [free]
    assert await db.fetchval("SELECT state FROM jobsd.run WHERE id = $1", mine) == "queued"


@pytest.mark.req("P6")
async def test_without_the_lock_session_nothing_is_claimed_and_with_a_new_one_the_locks_are_the_same(db: Db) -> None:
    await registered(db, job())
    await enqueued(db, key="k")

    async with node(db) as here:
        await here.keeper.claim(request(here))
        pid = await here.keeper.ask(lambda lock: lock.session.fetchval("SELECT pg_backend_pid()"))
        adopted = asyncio.get_running_loop().create_future()

        async def recheck(missing: frozenset[Key], _running: object) -> tuple[()]:
            adopted.set_result(missing)
            return ()

        here.keeper.recheck = recheck
        await db.execute("SELECT pg_terminate_backend($1)", pid)
        missing = await adopted
        while not here.keeper.up:
            await asyncio.sleep(0)
        new = await here.keeper.ask(lambda lock: lock.session.fetchval("SELECT pg_backend_pid()"))
        locks = await db.fetchval(LOCKS, new)

    assert missing == frozenset()
    assert new != pid
    assert locks == 2


@pytest.mark.req("P7")
async def test_a_node_that_was_declared_dead_is_fenced_at_its_next_beat(db: Db) -> None:
    async with node(db) as here:
        fenced = asyncio.get_running_loop().create_future()
        here.keeper.on_fenced = fenced.set_result
        await db.execute("UPDATE jobsd.node SET state = 'dead', ended_at = now() WHERE id = $1", here.keeper.node)
        reason = await fenced

    assert "declared dead" in reason
    assert not here.keeper.up
