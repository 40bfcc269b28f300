"""Rescue by evidence: a beat that stands still, never the time alone, and never a node that beats."""

import asyncio
from typing import Any

import pytest

from jobsd.domain.lifecycle import SettlePolicy
from jobsd.engine.here import Here
from jobsd.engine.rescuer import Rescuer
from jobsd.store.db import Db
from tests.support.engine import enqueued, job, node, quick, registered, request

SOON = quick(rescue=0.5)


def rescuer(here: Here, policy: SettlePolicy | None = None) -> Rescuer:
    made = Rescuer(here, SOON)
    made.policy = lambda _job: policy or SettlePolicy()
    return made


async def claimed_by(here: Here) -> int:
    await registered(here.db, job())
    await enqueued(here.db, key="k")
    return (await here.keeper.claim(request(here))).runs[0].id


async def claimed_with_fence(here: Here) -> tuple[int, int]:
    run = await claimed_by(here)
    return run, await here.db.fetchval("SELECT fence FROM jobsd.run WHERE id = $1", run)


def freeze(here: Here) -> None:
    """Its session stays, its beat stands still: as under SIGSTOP."""
    beating = here.keeper._beating
    assert beating is not None
    here.keeper._loop.call_soon_threadsafe(beating.cancel)


async def until_settled(made: Rescuer, db: Db, run: int) -> Any:
    while (row := await db.fetchrow("SELECT * FROM jobsd.runs WHERE id = $1", run))["state"] == "running":  # type: ignore[index]
        await made._look()
        await asyncio.sleep(0.01)
    return row


@pytest.mark.fault(1)
@pytest.mark.req("P7", "C4", "C6")
async def test_a_node_whose_beat_stands_still_is_declared_dead_and_its_run_settled_with_the_evidence(db: Db) -> None:
    async with node(db, "one") as one, node(db, "two") as two:
        run = await claimed_by(one)
        freeze(one)
        row = await until_settled(rescuer(two), db, run)
        attempt = await db.fetchrow("SELECT outcome, evidence->>'proof' AS proof FROM jobsd.attempts")
        dead = await db.fetchval("SELECT state FROM jobsd.node WHERE id = $1", one.keeper.node)
        await enqueued(db, key="k")
        again = await two.keeper.claim(request(two))

    assert (row["state"], row["error_kind"]) == ("failed", "lost")
    assert attempt is not None
    assert (attempt["outcome"], attempt["proof"]) == ("lost", "its heartbeat stood still")
    assert dead == "dead"
    assert len(again.runs) == 1, "the dead node's session is ended, its key free"
    assert {row["type"] for row in await db.fetch("SELECT type FROM jobsd.alert")} == {"JOB_LOST", "NODE_DOWN"}


@pytest.mark.req("P7", "P8")
async def test_a_restartable_run_of_a_dead_node_is_queued_again_and_uses_no_retry(db: Db) -> None:
    async with node(db, "one") as one, node(db, "two") as two:
        run = await claimed_by(one)
        freeze(one)
        row = await until_settled(rescuer(two, SettlePolicy(restartable=True)), db, run)

    assert (row["state"], row["retries"], row["attempts"]) == ("queued", 0, 1)


@pytest.mark.req("P7")
async def test_a_node_that_beats_is_never_rescued_however_long_its_run_takes(db: Db) -> None:
    async with node(db, "one") as one, node(db, "two") as two:
        run = await claimed_by(one)
        made = rescuer(two)
        beats = "SELECT beat FROM jobsd.node WHERE id = $1"
        while await db.fetchval(beats, one.keeper.node) < 15:  # three times as long as a dead node is given
            await made._look()
            await asyncio.sleep(0.01)
        state = await db.fetchval("SELECT state FROM jobsd.run WHERE id = $1", run)

    assert state == "running"


@pytest.mark.req("P7")
async def test_a_beat_that_moves_in_the_last_moment_wins_over_the_declaration(db: Db) -> None:
    from jobsd.store import nodes

    async with node(db, "one") as one, node(db, "two") as two:
        freeze(one)
        (seen,) = await nodes.live(db, two.keeper.node)
        await db.execute("UPDATE jobsd.node SET beat = beat + 1 WHERE id = $1", one.keeper.node)
        declared = await nodes.declare_dead(db, seen, {"proof": "too late"})

    assert not declared


@pytest.mark.fault(2)
@pytest.mark.req("P4", "P7")
async def test_what_a_thawed_node_writes_is_refused_and_kept(db: Db) -> None:
    from datetime import UTC, datetime

    from jobsd.domain.lifecycle import settle
    from jobsd.domain.outcome import Completed
    from jobsd.store import history

    async with node(db, "one") as one, node(db, "two") as two:
        await registered(db, job())
        await enqueued(db)
        (run,) = (await one.keeper.claim(request(one))).runs
        freeze(one)
        await until_settled(rescuer(two), db, run.id)
        now = datetime.now(UTC)
        late = history.Ended(run, one.keeper.node, settle(run, SettlePolicy(), Completed("late"), now), now)
        moved = await history.settle(db, [late], one.actor)

    outcomes = {row["outcome"] for row in await db.fetch("SELECT outcome FROM jobsd.attempts")}
    assert moved == set()
    assert outcomes == {"lost", "rejected, stale"}
    assert await db.fetchval("SELECT state FROM jobsd.run") == "failed"


STAND = "SELECT jobsd.complete($1, $2)"


@pytest.mark.req("P7", "P9")
async def test_a_dead_nodes_transaction_that_still_holds_its_run_is_ended_and_told_in_the_evidence(db: Db) -> None:
    async with node(db, "one") as one, node(db, "two") as two, db.session() as zombie:
        run, fence = await claimed_with_fence(one)
        pid = zombie.con.get_server_pid()
        await zombie.execute("BEGIN")
        await zombie.fetchval(STAND, run, fence)
        freeze(one)
        row = await until_settled(rescuer(two), db, run)

    ended = await db.fetchval("SELECT evidence->>'session_ended' FROM jobsd.attempts")
    assert (row["state"], row["error_kind"]) == ("failed", "lost")
    assert ended == f"jobsd work (pid {pid})"


@pytest.mark.req("P7", "P9")
async def test_a_dead_nodes_run_that_its_own_transaction_has_completed_stays_completed(db: Db) -> None:
    async with node(db, "one") as one, node(db, "two") as two:
        run, fence = await claimed_with_fence(one)
        await db.fetchval(STAND, run, fence)
        freeze(one)
        made = rescuer(two)
        while await db.fetchval("SELECT count(*) FROM jobsd.claim"):
            await made._look()
            await asyncio.sleep(0.01)

    assert await db.fetchval("SELECT state FROM jobsd.run WHERE id = $1", run) == "completed"
    assert [row["outcome"] for row in await db.fetch("SELECT outcome FROM jobsd.attempts")] == ["completed"]


@pytest.mark.req("P7", "P3")
async def test_a_row_that_a_stranger_holds_keeps_no_other_run_of_a_dead_node_from_its_rescue(db: Db) -> None:
    async with node(db, "one") as one, node(db, "two") as two, Db.open(db.url, statement_timeout_s=0.5) as hasty:
        await registered(db, job())
        await enqueued(db, count=3)
        held, *free = [run.id for run in (await one.keeper.claim(request(one))).runs]
        freeze(one)
        made = rescuer(Here(hasty, two.keeper, two.pulse, two.observe, two.who))
        async with db.transaction() as stranger:
            await stranger.fetch("SELECT FROM jobsd.run WHERE id = $1 FOR SHARE", held)
            for run in free:
                await until_settled(made, db, run)
            waiting = await db.fetchval("SELECT state FROM jobsd.run WHERE id = $1", held)
        row = await until_settled(made, db, held)

    assert waiting == "running"
    assert row["state"] == "failed"


@pytest.mark.req("P7", "P5")
@pytest.mark.fault(4)
async def test_the_time_in_which_the_beats_could_not_be_seen_proves_nothing(db: Db) -> None:
    async with node(db, "one") as one, node(db, "two") as two:
        await claimed_by(one)
        freeze(one)
        made = rescuer(two)
        await made._look()
        two.keeper.up = False  # as in an outage, in which no beat of "one" could have come through either
        looking = asyncio.create_task(made.run())
        await asyncio.sleep(0)
        looking.cancel()
        two.keeper.up = True

        assert made._seen == {}


@pytest.mark.req("P5", "P7")
@pytest.mark.fault(14)
async def test_a_run_whose_outcome_is_in_this_process_s_hands_is_not_settled_as_lost_with_its_old_node(db: Db) -> None:
    async with node(db, "one") as one, node(db, "two") as two:
        run = await claimed_by(one)
        freeze(one)
        made = rescuer(two)
        held = True
        made.in_hand = lambda _run: held
        rescues = 0

        def on_rescued() -> None:
            nonlocal rescues
            rescues += 1

        made.on_rescued = on_rescued
        while not rescues:
            await made._look()
            await asyncio.sleep(0.01)
        state = await db.fetchval("SELECT state FROM jobsd.run WHERE id = $1", run)
        held = False
        row = await until_settled(made, db, run)

    assert (state, row["state"], row["error_kind"]) == ("running", "failed", "lost")
