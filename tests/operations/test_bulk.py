"""Many runs at once: counted first, each with its own audit entry, what is refused told with its reason."""

import pytest

from jobsd.domain.run import Act, RunState
from jobsd.operations import bulk as operations
from jobsd.operations.bulk import Order, bulk
from jobsd.registry.load import Registry
from jobsd.store.db import Db
from jobsd.store.lists import RunFilter
from tests.operations.acts import ALICE, run_in, state_of, trail
from tests.support.engine import job, node, registered

STATES = "SELECT state, count(*) FROM jobsd.run GROUP BY state ORDER BY state"


async def states(db: Db) -> dict[str, int]:
    return {row["state"]: row["count"] for row in await db.fetch(STATES)}


@pytest.mark.req("B6", "B9")
async def test_every_failed_run_of_a_job_is_retried_with_an_audit_entry_each(db: Db, registry: Registry) -> None:
    async with node(db) as here:
        ours = [await run_in(here, RunState.FAILED) for _ in range(3)]
        other = await run_in(here, RunState.FAILED, "nightly")
        done = await run_in(here, RunState.COMPLETED)

        answer = await bulk(db, Order(Act.RETRY, RunFilter(job="ping"), ALICE))

    assert (answer.matched, answer.done, answer.refused, answer.before) == (3, 3, [], None)
    assert [await state_of(db, run) for run in (*ours, other, done)] == ["queued"] * 3 + ["failed", "completed"]
    assert {(await trail(db, run))[-1] for run in ours} == {("retry", "unix:alice", "because")}


async def test_a_dry_run_counts_and_moves_nothing(db: Db, registry: Registry) -> None:
    async with node(db) as here:
        for _ in range(3):
            await run_in(here, RunState.FAILED)
        before = await states(db)

        answer = await bulk(db, Order(Act.CANCEL, RunFilter(), ALICE, dry_run=True))

    assert (answer.matched, answer.done) == (3, 0)
    assert await states(db) == before


@pytest.mark.req("B6")
async def test_without_states_each_act_means_those_in_which_it_is_allowed(db: Db, registry: Registry) -> None:
    async with node(db) as here:
        for state in RunState:
            await run_in(here, state)

        counts = {
            act: (await bulk(db, Order(act, RunFilter(), ALICE, dry_run=True))).matched
            for act in (Act.RETRY, Act.CANCEL, Act.DELETE)
        }

    assert counts == {Act.RETRY: 1, Act.CANCEL: 2, Act.DELETE: 3}


@pytest.mark.req("B6", "P10")
async def test_what_cannot_be_done_is_left_and_told_as_for_one_run_alone(db: Db, registry: Registry) -> None:
    await registered(db, job("draft", atomic=True))
    async with node(db) as here:
        kept = await run_in(here, RunState.COMPLETED, "draft")
        runs = await run_in(here, RunState.RUNNING)
        gone = await run_in(here, RunState.COMPLETED)

        answer = await bulk(db, Order(Act.DELETE, RunFilter(states=("completed", "running")), ALICE))

    assert (answer.matched, answer.done, answer.refused_count) == (3, 1, 2)
    assert [(each.id, each.code) for each in answer.refused] == [(kept, "E0515"), (runs, "E0502")]
    assert answer.refused[1].detail.startswith(f"run {runs} is running; only completed, failed and cancelled")
    assert await state_of(db, gone) is None


async def test_more_than_one_request_takes_is_done_in_parts_and_none_twice(
    db: Db, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "MOST", 4)
    monkeypatch.setattr(operations, "BATCH", 3)
    async with node(db) as here:
        runs = [await run_in(here, RunState.FAILED) for _ in range(6)]

        first = await bulk(db, Order(Act.RETRY, RunFilter(), ALICE))
        second = await bulk(db, Order(Act.RETRY, RunFilter(before=first.before), ALICE))

    assert (first.matched, first.done, first.before) == (4, 4, runs[2])
    assert (second.matched, second.done, second.before) == (2, 2, None)
    assert await states(db) == {"queued": 6}


async def test_a_bulk_retry_fills_the_room_of_max_active_and_tells_of_the_rest(db: Db, registry: Registry) -> None:
    await registered(db, job("capped", max_active=2))
    async with node(db) as here:
        runs = [await run_in(here, RunState.FAILED, "capped") for _ in range(3)]

        answer = await bulk(db, Order(Act.RETRY, RunFilter(job="capped"), ALICE))

    assert (answer.done, [(each.id, each.code) for each in answer.refused]) == (2, [(runs[2], "E0514")])
