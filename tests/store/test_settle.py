"""Settlements: run, attempt, audit and alert in one transaction, each guarded by its fence."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from jobsd.domain.lifecycle import SettlePolicy, settle
from jobsd.domain.outcome import Completed, Failed, Outcome, RetryPolicy, Usage
from jobsd.domain.run import MOVES, ClaimedRun, RunState
from jobsd.engine.here import Here
from jobsd.engine.settler import Settler
from jobsd.store import history
from jobsd.store.db import Db, Unavailable
from jobsd.store.history import Ended
from tests.support.engine import enqueued, job, node, registered, request


async def claimed(here: Here, count: int = 1) -> list[ClaimedRun]:
    await registered(here.db, job())
    await enqueued(here.db, count=count)
    return list((await here.keeper.claim(request(here))).runs)


def ended(here: Here, run: ClaimedRun, outcome: Outcome, policy: SettlePolicy | None = None) -> Ended:
    now = datetime.now(UTC)
    return Ended(run, here.keeper.node, settle(run, policy or SettlePolicy(), outcome, now), now)


async def states(db: Db) -> list[str]:
    return [row["state"] for row in await db.fetch("SELECT state FROM jobsd.run ORDER BY id")]


@pytest.mark.req("C2", "B9", "A7")
async def test_a_settlement_writes_run_attempt_audit_and_alert_together(db: Db) -> None:
    async with node(db) as here:
        good, bad = await claimed(here, 2)
        usage = Usage("the tail", 0, 1024, 0.5)
        batch = [ended(here, good, Completed({"rows": 3}, usage)), ended(here, bad, Failed("exit", "exited with 3"))]
        moved = await history.settle(db, batch, here.actor, [good.fence])

    attempts = await db.fetch("SELECT * FROM jobsd.attempts ORDER BY run")
    acts = await db.fetch("SELECT run, act FROM jobsd.audit ORDER BY run, sequence")
    assert moved == {(good.id, good.fence), (bad.id, bad.fence)}
    assert await states(db) == ["completed", "failed"]
    assert [(a["outcome"], a["error"]) for a in attempts] == [("completed", None), ("failed", "exited with 3")]
    assert (attempts[0]["result"], attempts[0]["output"], attempts[0]["exit_code"]) == ('{"rows": 3}', "the tail", 0)
    assert (attempts[0]["peak_memory_bytes"], attempts[0]["cpu_seconds"]) == (1024, 0.5)
    assert [(a["run"], a["act"]) for a in acts] == [
        *((good.id, act) for act in ("queued", "started", "completed")),
        *((bad.id, act) for act in ("queued", "started", "failed")),
    ]
    assert [row["type"] for row in await db.fetch("SELECT type FROM jobsd.alert")] == ["JOB_FAILED"]
    assert await db.fetchval("SELECT count(*) FROM jobsd.claim") == 0


@pytest.mark.req("P4", "P5")
async def test_a_run_is_settled_once_and_the_second_result_is_kept_as_stale(db: Db) -> None:
    async with node(db) as here:
        (run,) = await claimed(here)
        first = await history.settle(db, [ended(here, run, Completed())], here.actor)
        second = await history.settle(db, [ended(here, run, Failed("late", "came too late"))], here.actor)

    outcomes = [row["outcome"] for row in await db.fetch("SELECT outcome FROM jobsd.attempts ORDER BY ended_at")]
    assert (first, second) == ({(run.id, run.fence)}, set())
    assert await states(db) == ["completed"]
    assert outcomes == ["completed", "rejected, stale"]
    assert await db.fetchval("SELECT string_agg(type, ' ') FROM jobsd.alert") == "JOB_FENCED", "no failure of the run"


@pytest.mark.req("P5")
async def test_a_settlement_whose_answer_was_lost_is_written_once_when_it_is_sent_again(db: Db) -> None:
    async with node(db) as here:
        (run,) = await claimed(here)
        settlement = ended(here, run, Completed())
        await history.settle(db, [settlement], here.actor)
        again = await history.settle(db, [settlement], here.actor)

    assert again == {(run.id, run.fence)}
    assert await db.fetchval("SELECT count(*) FROM jobsd.attempt") == 1


@pytest.mark.req("B4", "P8", "E3")
async def test_a_declared_retry_is_a_new_attempt_and_the_old_one_stays(db: Db) -> None:
    policy = SettlePolicy(RetryPolicy(1, base_s=0.0))
    async with node(db) as here:
        (run,) = await claimed(here)
        await history.settle(db, [ended(here, run, Failed("E", "once"), policy)], here.actor)
        (again,) = (await here.keeper.claim(request(here))).runs
        await history.settle(db, [ended(here, again, Failed("E", "twice"), policy)], here.actor)

    rows = await db.fetch("SELECT number, error FROM jobsd.attempts ORDER BY number")
    assert (again.attempt, again.retries) == (2, 1)
    assert again.fence > run.fence
    assert [(row["number"], row["error"]) for row in rows] == [(1, "once"), (2, "twice")]
    assert await states(db) == ["failed"], "no retry beyond the declared one"


@pytest.mark.req("B5", "B6", "P10")
@pytest.mark.parametrize("old", RunState)
@pytest.mark.parametrize("new", RunState)
@pytest.mark.fault(40)
async def test_the_database_allows_just_the_moves_of_the_domain(db: Db, old: RunState, new: RunState) -> None:
    await registered(db, job())
    (run,) = await enqueued(db)
    columns = {
        "queued": "ready = true, node = NULL, finished_at = NULL",
        "running": "ready = NULL, node = 1, finished_at = NULL, started_at = now(), fence = 1",
    }
    over = "ready = NULL, node = NULL, finished_at = coalesce(finished_at, now())"
    reach = {
        "queued": [],
        "running": ["running"],
        "completed": ["running", "completed"],
        "failed": ["running", "failed"],
    }

    async def move(state: str) -> None:
        await db.execute(f"UPDATE jobsd.run SET state = '{state}', {columns.get(state, over)} WHERE id = $1", run)

    for state in reach.get(old, [old]):
        await move(state)

    if new in MOVES[old] or new == old:
        await move(new)
    else:
        with pytest.raises(Exception, match="this move is not allowed"):
            await move(new)


@pytest.mark.req("B8", "B9", "P10", "C7")
@pytest.mark.parametrize("table", ["attempt", "audit"])
@pytest.mark.parametrize("change", ["UPDATE jobsd.{0} SET run = 1", "DELETE FROM jobsd.{0}", "TRUNCATE jobsd.{0}"])
@pytest.mark.fault(39, 40)
async def test_history_cannot_be_changed_deleted_or_truncated(db: Db, table: str, change: str) -> None:
    with pytest.raises(Exception, match="append-only"):
        await db.execute(change.format(table))


async def test_a_run_that_is_not_over_cannot_be_deleted(db: Db) -> None:
    await registered(db, job())
    await enqueued(db)

    with pytest.raises(Exception, match="this run is not over"):
        await db.execute("DELETE FROM jobsd.run")


@pytest.mark.req("P3")
async def test_locks_are_given_back_only_after_the_settlement_is_committed(db: Db) -> None:
    seen: list[Any] = []
    async with node(db) as here:
        (run,) = await claimed(here)
        settler = Settler(here)
        unlock = here.keeper.unlock

        async def watched(keys: Any, as_node: Any) -> None:
            seen.append(await states(db))
            await unlock(keys, as_node)

        here.keeper.unlock = watched  # type: ignore[method-assign]
        task = asyncio.create_task(settler.run())
        key = await here.keeper.ask(lambda lock: _own(lock, run))
        moved = await settler.settle(ended(here, run, Completed()), [key])
        task.cancel()
        await asyncio.wait({task})

    assert moved
    assert seen == [["completed"]]


async def _own(lock: Any, run: ClaimedRun) -> Any:
    return lock.classes.own(run.id)


@pytest.mark.req("P5", "P11")
async def test_a_value_that_postgresql_will_not_store_fails_its_own_run_and_no_other(db: Db) -> None:
    async with node(db) as here:
        good, bad = await claimed(here, 2)
        settler = Settler(here)
        task = asyncio.create_task(settler.run())
        await asyncio.gather(
            settler.settle(ended(here, good, Completed({"fine": 1})), []),
            settler.settle(ended(here, bad, Completed({"nul": "\0"})), []),
        )
        task.cancel()
        await asyncio.wait({task})

    kinds = {row["run"]: row["error_kind"] for row in await db.fetch("SELECT run, error_kind FROM jobsd.attempts")}
    assert kinds == {good.id: None, bad.id: "result"}
    assert await states(db) == ["completed", "failed"]


@pytest.mark.req("P5", "P6")
async def test_a_value_that_is_not_storable_while_the_database_goes_away_ends_no_loop(
    db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Exception] = []

    async def away_after_the_first(*args: Any) -> set[tuple[int, int]]:
        if len(errors) == 1:
            errors.append(Unavailable(ConnectionError("away")))
            raise errors[-1]
        try:
            return await settle_there(*args)
        except Exception as error:
            errors.append(error)
            raise

    settle_there = history.settle
    async with node(db) as here:
        (bad,) = await claimed(here)
        settler = Settler(here)
        task = asyncio.create_task(settler.run())
        monkeypatch.setattr(history, "settle", away_after_the_first)
        async with asyncio.timeout(10):
            moved = await settler.settle(ended(here, bad, Completed({"nul": "\0"})), [])
        task.cancel()
        await asyncio.wait({task})

    assert moved
    assert [type(error) for error in errors[:2]] == [asyncpg.UntranslatableCharacterError, Unavailable]
    assert await states(db) == ["failed"]


@pytest.mark.req("P7", "C4")
async def test_the_runs_of_a_dead_node_are_found_through_its_claims(db: Db) -> None:
    from jobsd.store import runs

    async with node(db) as here:
        taken = await claimed(here, 5)
        await history.settle(db, [ended(here, taken[0], Completed())], here.actor)
        left = await runs.running_on(db, here.keeper.node)

    assert {run.id for run in left} == {run.id for run in taken[1:]}
    assert all(run.due_at - datetime.now(UTC) < timedelta(0) for run in left)
