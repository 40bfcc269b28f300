"""What a person may do with a run in each state, and what the run's trail says of it afterwards."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobsd.domain.errors import JobsdError
from jobsd.domain.outcome import Failed
from jobsd.domain.run import ALLOWED, Act, RunId, RunState
from jobsd.operations import external, moves
from jobsd.operations.external import Desk
from jobsd.operations.moves import ChangeRequest
from jobsd.operations.told import NOBODY
from jobsd.registry.load import Registry
from jobsd.store import reports
from jobsd.store.db import Db
from jobsd.store.moves import Who
from tests.operations.acts import ALICE, ended, run_in, running, silent_for, state_of, trail
from tests.support.engine import enqueued, job, node, registered, request
from tests.support.web import registry_of

ATOMIC = """
[jobs.draft]
command = ["true"]
atomic = true
stale_after = "10m"

[jobs.ping]
command = ["true"]

[jobs.capped]
command = ["true"]
max_active = 1

[jobs.elsewhere]
external = true
"""
Move = Callable[[Db, Registry, RunId], Awaitable[object]]
LATER = datetime(2199, 1, 1, tzinfo=UTC)
MOVES: dict[Act, Move] = {
    Act.CANCEL: lambda db, _, run: moves.cancel(db, run, ALICE),
    Act.CHANGE: lambda db, _, run: moves.change(db, run, ChangeRequest(priority=1), ALICE),
    Act.DELETE: lambda db, _, run: moves.delete(db, run, ALICE),
    Act.FORCE_FAIL: lambda db, registry, run: moves.force_fail(db, registry, run, "unix:alice", "because"),
    Act.RETRY: lambda db, _, run: moves.retry(db, run, ALICE),
}


@pytest.fixture
async def registry(db: Db, tmp_path: Path) -> Registry:
    loaded = registry_of(tmp_path, ATOMIC)
    await registered(db, *loaded.jobs.values())
    return loaded


@pytest.mark.req("B5", "B6", "B3")
@pytest.mark.parametrize("state", RunState)
@pytest.mark.parametrize("act", Act)
async def test_each_state_allows_its_acts_and_no_others(db: Db, registry: Registry, state: RunState, act: Act) -> None:
    async with node(db) as here:
        run = await run_in(here, state)
        before = await trail(db, run)

        if act in ALLOWED[state]:
            await MOVES[act](db, registry, run)
            return
        with pytest.raises(JobsdError) as refused:
            await MOVES[act](db, registry, run)

    assert refused.value.problems[0].code == "E0502"
    assert refused.value.detail["state"] == state
    assert refused.value.detail["allowed"] == [str(one) for one in ALLOWED[state]]
    assert (await state_of(db, run), await trail(db, run)) == (state, before), "nothing has changed"


@pytest.mark.req("B6")
async def test_a_refusal_says_the_state_and_what_it_takes(db: Db, registry: Registry) -> None:
    async with node(db) as here:
        run = await run_in(here, RunState.RUNNING)

        with pytest.raises(JobsdError) as refused:
            await moves.retry(db, run, ALICE)

    assert refused.value.problems[0].message == f"run {run} is running; only failed runs can be retried"
    assert refused.value.problems[0].hints == ("allowed now: force-fail",)


async def test_a_run_that_is_not_there_is_e0503_whatever_is_asked_of_it(db: Db, registry: Registry) -> None:
    for move in MOVES.values():
        with pytest.raises(JobsdError, match="E0503"):
            await move(db, registry, RunId(4711))


@pytest.mark.req("B4", "B8", "B9", "F2", "P10")
async def test_a_retry_is_a_new_attempt_and_the_old_one_stays_word_for_word(db: Db, registry: Registry) -> None:
    async with node(db) as here:
        run = await run_in(here, RunState.FAILED)
        view = await moves.retry(db, run, Who("unix:alice", "disk is bigger now"))
        (again,) = (await here.keeper.claim(request(here, "ping"))).runs

    attempts = await db.fetch("SELECT number, outcome, error FROM jobsd.attempts WHERE run = $1", run)
    assert (view.state, view.retries, view.finished_at) == ("queued", 1, None)
    assert view.due_at <= datetime.now(UTC)
    assert (again.id, again.attempt, again.retries) == (run, 2, 1)
    assert [tuple(row) for row in attempts] == [(1, "failed", "exited with 3")]
    assert (await trail(db, run))[3:] == [
        ("retry", "unix:alice", "disk is bigger now"),
        ("started", "node:one", None),
    ]


@pytest.mark.req("B9")
async def test_a_failed_run_that_is_cancelled_keeps_its_error_and_the_time_of_its_end(
    db: Db, registry: Registry
) -> None:
    async with node(db) as here:
        run = await run_in(here, RunState.FAILED)
        ended_at = await db.fetchval("SELECT finished_at FROM jobsd.run WHERE id = $1", run)

        view = await moves.cancel(db, run, ALICE)

    assert (view.state, view.error, view.finished_at) == ("cancelled", "exited with 3", ended_at)
    assert (await trail(db, run))[-1] == ("cancelled", "unix:alice", "because")


async def test_a_cancelled_run_is_never_claimed(db: Db, registry: Registry) -> None:
    async with node(db) as here:
        run = await run_in(here, RunState.QUEUED)
        await moves.cancel(db, run, ALICE)

        claim = await here.keeper.claim(request(here, "ping"))

    assert claim.runs == ()


@pytest.mark.req("F5")
async def test_a_queued_run_is_rescheduled_and_reprioritised_and_the_audit_has_both_values(
    db: Db, registry: Registry
) -> None:
    (run,) = await enqueued(db, "ping", priority=5)

    view = await moves.change(db, run, ChangeRequest(due_at=LATER, priority="critical"), ALICE)

    detail = await db.fetchval("SELECT detail FROM jobsd.audit WHERE run = $1 AND act = 'changed'", run)
    assert (view.due_at, view.priority) == (LATER, 0)
    assert '"priority": [5, 0]' in detail
    assert "2199-01-01" in detail


async def test_a_change_of_nothing_is_refused(db: Db, registry: Registry) -> None:
    (run,) = await enqueued(db, "ping")

    with pytest.raises(JobsdError, match="there is nothing to change"):
        await moves.change(db, run, ChangeRequest(reason="none"), ALICE)


@pytest.mark.req("B9", "P10")
async def test_with_a_deleted_run_go_its_messages_and_progress_and_stay_its_attempts_and_audit(
    db: Db, registry: Registry
) -> None:
    async with node(db) as here:
        claimed = await running(here)
        await reports.message(db, claimed.id, claimed.fence, "info", "half way")
        await reports.progress(db, claimed.id, claimed.fence, 0.5, "half")
        run = await ended(here, claimed, Failed("exit", "exited with 3"))
        await moves.delete(db, run, ALICE)

    left = {
        table: await db.fetchval(f"SELECT count(*) FROM jobsd.{table} WHERE run = $1", run)
        for table in ("message", "progress", "attempt", "audit")
    }
    assert await state_of(db, run) is None
    assert left == {"message": 0, "progress": 0, "attempt": 1, "audit": 4}
    assert (await trail(db, run))[-1] == ("deleted", "unix:alice", "because")


@pytest.mark.req("P10")
async def test_runs_of_an_atomic_job_are_not_deleted_through_any_door(db: Db, registry: Registry) -> None:
    async with node(db) as here:
        run = await run_in(here, RunState.COMPLETED, "draft")

        with pytest.raises(JobsdError, match="E0515"):
            await moves.delete(db, run, ALICE)
        with pytest.raises(Exception, match="kept for ever"):
            await db.execute("DELETE FROM jobsd.run WHERE id = $1", run)

    assert await state_of(db, run) == "completed"


@pytest.mark.req("P10")
async def test_a_run_from_before_its_job_was_kept_for_ever_is_kept_too(db: Db, registry: Registry) -> None:
    async with node(db) as here:
        run = await run_in(here, RunState.COMPLETED)
        await registered(db, job("ping", keep="forever"))

        with pytest.raises(JobsdError, match="E0515"):
            await moves.delete(db, run, ALICE)
        with pytest.raises(Exception, match="kept for ever"):
            await db.execute("DELETE FROM jobsd.run WHERE id = $1", run)


async def test_a_move_of_a_run_that_has_changed_since_is_refused(db: Db, registry: Registry) -> None:
    (run,) = await enqueued(db, "ping")
    await moves.change(db, run, ChangeRequest(priority=1), Who("unix:alice", version=1))

    with pytest.raises(JobsdError, match="version 1 was expected, it has 2"):
        await moves.cancel(db, run, Who("unix:bob", version=1))

    assert await state_of(db, run) == "queued"


@pytest.mark.req("D3")
async def test_a_retry_counts_towards_max_active_and_is_refused_when_there_is_no_room(
    db: Db, registry: Registry
) -> None:
    async with node(db) as here:
        first = await run_in(here, RunState.FAILED, "capped")
        second = await run_in(here, RunState.FAILED, "capped")
        await moves.retry(db, first, ALICE)

        with pytest.raises(JobsdError, match="E0514"):
            await moves.retry(db, second, ALICE)
        await moves.cancel(db, first, ALICE)
        view = await moves.retry(db, second, ALICE)

    assert view.state == "queued"
    assert await db.fetchval("SELECT count(*) FROM jobsd.run WHERE capped") == 1


@pytest.mark.req("D4", "B9")
async def test_force_fail_asks_the_runs_node_and_is_audited_once(db: Db, registry: Registry) -> None:
    async with node(db) as here:
        run = await run_in(here, RunState.RUNNING)
        for _ in range(2):
            view = await moves.force_fail(db, registry, run, "unix:alice", "hangs")

    asked = await db.fetch("SELECT run, actor, reason FROM jobsd.force_fail")
    audited = await db.fetch("SELECT actor, reason, detail FROM jobsd.audit WHERE act = 'force_fail'")
    assert view.state == "running", "its node ends it, and it alone settles it"
    assert [tuple(row) for row in asked] == [(run, "unix:alice", "hangs")]
    assert [tuple(row) for row in audited] == [("unix:alice", "hangs", f'{{"run": {run}}}')]


@pytest.mark.req("D4", "P9")
async def test_force_fail_does_not_wait_for_a_transaction_that_holds_the_run(db: Db, registry: Registry) -> None:
    async with node(db) as here:
        run = await run_in(here, RunState.RUNNING)

        async with db.transaction() as work:
            await work.fetchval("SELECT 1 FROM jobsd.run WHERE id = $1 FOR UPDATE", run)
            await moves.force_fail(db, registry, run, "unix:alice", "hangs")

    assert await db.fetchval("SELECT run FROM jobsd.force_fail") == run


@pytest.mark.req("D3", "D4")
async def test_an_atomic_run_is_failed_by_force_only_when_it_is_stale(db: Db, registry: Registry) -> None:
    async with node(db) as here:
        run = await run_in(here, RunState.RUNNING, "draft")
        await silent_for(db, run, timedelta(minutes=9))
        with pytest.raises(JobsdError, match=r"E0518.*it can be failed by force once it was not heard of for 10m"):
            await moves.force_fail(db, registry, run, "unix:alice", "hangs")

        await silent_for(db, run, timedelta(minutes=11))
        await moves.force_fail(db, registry, run, "unix:alice", "hangs")

    assert await db.fetchval("SELECT run FROM jobsd.force_fail") == run


@pytest.mark.req("D3", "D4")
async def test_an_atomic_run_that_shows_that_it_lives_is_not_stale(db: Db, registry: Registry) -> None:
    async with node(db) as here:
        claimed = await running(here, "draft")
        await silent_for(db, claimed.id, timedelta(hours=2))
        await reports.heartbeat(db, claimed.id, claimed.fence)

        with pytest.raises(JobsdError, match="E0518"):
            await moves.force_fail(db, registry, claimed.id, "unix:alice", "hangs")


@pytest.mark.req("D4", "D5")
async def test_an_external_run_is_failed_at_once_since_no_node_does_its_work(db: Db, registry: Registry) -> None:
    async with node(db) as here:
        run = await run_in(here, RunState.QUEUED, "elsewhere")
        await external.start(Desk(db, registry, here.keeper.node, "unix:alice", NOBODY), run, None)

        view = await moves.force_fail(db, registry, run, "unix:alice", "hangs")

    assert (view.state, view.error_kind) == ("failed", "force_failed")
    assert view.error == "failed by force, by unix:alice: hangs"
    assert (await trail(db, run))[-1] == ("force_failed", "unix:alice", "failed by force, by unix:alice: hangs")
