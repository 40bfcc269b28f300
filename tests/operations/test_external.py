"""Runs that another program executes: how one begins, what keeps it from beginning, where it is seen."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobsd.domain.errors import JobsdError
from jobsd.domain.events import RunStarted
from jobsd.domain.run import RunId
from jobsd.operations import endings, external, jobs, runs
from jobsd.store import jobs as registered_jobs
from jobsd.store import queue
from jobsd.store.db import Db
from tests.operations.outside import ALICE, Office, acts, code_of, fence_of, refused
from tests.support.engine import request


@pytest.mark.req("D1", "D5", "B9")
async def test_a_start_answers_the_fence_and_says_who_started_it(db: Db, office: Office) -> None:
    run = await office.started()

    assert (run.state, run.attempts, run.node, run.lock_key) == ("running", 1, "one", "outside")
    assert run.fence is not None
    assert run.fence >> 40 == 1
    assert (await acts(db, run.id))[1] == ("started", ALICE, "by hand")
    assert [type(event) for event in office.events] == [RunStarted]
    assert await db.fetchval("SELECT count(*) FROM jobsd.claim") == 0


@pytest.mark.req("D5", "P3")
async def test_a_lock_key_that_another_run_holds_keeps_a_start_out_and_the_holder_is_named(office: Office) -> None:
    first = await office.started()
    second = await office.queued()

    error = await refused(external.start(office.desk, second, None))

    assert code_of(error) == "E0520"
    assert f"is held by run {first.id} of outside" in str(error)
    assert error.detail == {"holder": first.id, "holder_job": "outside"}


@pytest.mark.req("P3")
async def test_a_run_that_a_node_executes_keeps_an_external_one_with_its_key_out(office: Office) -> None:
    await office.queued("here")
    (claimed,) = (await office.here.keeper.claim(request(office.here, "here"))).runs

    error = await refused(external.start(office.desk, await office.queued("shared"), None))

    assert code_of(error) == "E0520"
    assert error.detail["holder"] == claimed.id


@pytest.mark.req("P3")
async def test_an_external_run_keeps_a_claim_with_its_key_out_until_it_is_over(office: Office) -> None:
    outside = await office.started("shared")
    inside = await office.queued("here")

    before = await office.here.keeper.claim(request(office.here, "here"))
    await endings.complete(office.desk, RunId(outside.id), fence_of(outside), None)
    after = await office.here.keeper.claim(request(office.here, "here"))

    assert before.runs == ()
    assert [run.id for run in after.runs] == [inside]


@pytest.mark.req("P3")
async def test_a_key_that_work_which_ignored_its_end_still_has_keeps_a_start_out(db: Db, office: Office) -> None:
    run = await office.queued("shared")
    key = (await registered_jobs.lock_keys(db, ["both"]))["both"]
    lock = "SELECT pg_advisory_lock($1, $2)"
    await office.here.keeper.ask(lambda held: held.session.fetchval(lock, held.classes.lock_key, key))

    error = await refused(external.start(office.desk, run, None))

    assert code_of(error) == "E0520"
    assert (await runs.show(db, run)).state == "queued"


@pytest.mark.req("P3", "C4")
async def test_starts_and_claims_that_race_for_one_key_never_both_have_it(db: Db, office: Office) -> None:
    def claims() -> Any:
        return office.here.keeper.claim(request(office.here, "here"))

    for _ in range(20):
        await office.queued("here")
        outside = await office.queued("shared")
        await asyncio.gather(external.start(office.desk, outside, None), claims(), return_exceptions=True)
        running = await db.fetch("SELECT id FROM jobsd.run WHERE state = 'running'")
        assert len(running) <= 1
        await db.execute("UPDATE jobsd.run SET state = 'cancelled', ready = NULL, finished_at = now() WHERE ready")
        await office.here.keeper.ask(lambda held: held.session.execute("SELECT pg_advisory_unlock_all()"))
        await db.execute(OVER)


OVER = """
    UPDATE jobsd.run
       SET state = 'failed', held = NULL, node = NULL, finished_at = now()
     WHERE state = 'running'
"""


@pytest.mark.req("C4")
async def test_a_concurrency_limit_holds_for_programs_too_however_many_start_at_once(office: Office) -> None:
    waiting = [await office.queued("several") for _ in range(6)]

    answers = await asyncio.gather(*(external.start(office.desk, run, None) for run in waiting), return_exceptions=True)

    errors = [each for each in answers if isinstance(each, JobsdError)]
    assert len(errors) == 4
    assert {code_of(error) for error in errors} == {"E0520"}
    assert "all 2 places of several are taken" in str(errors[0])


async def test_a_rate_bounds_the_starts_of_programs_too(db: Db, office: Office) -> None:
    await db.execute("SELECT jobsd.fit_tickets('seldom', 1)")
    first, second = await office.queued("seldom"), await office.queued("seldom")
    await external.start(office.desk, first, None)

    error = await refused(external.start(office.desk, second, None))

    assert code_of(error) == "E0527"
    assert 3500 < int(str(error.detail["retry_after_s"])) <= 3600


async def test_a_disabled_job_starts_nothing_and_says_by_whom(db: Db, office: Office) -> None:
    run = await office.queued()
    await db.execute(DISABLE)

    error = await refused(external.start(office.desk, run, None))

    assert code_of(error) == "E0525"
    assert "disabled by unix:bob: the source moves" in str(error)


DISABLE = """
    UPDATE jobsd.job
       SET enabled = false, disabled_by = 'unix:bob', disabled_reason = 'the source moves'
     WHERE name = 'outside'
"""


async def test_a_run_that_is_not_due_yet_cannot_be_started(office: Office) -> None:
    run = await office.queued(due_at=datetime.now(UTC) + timedelta(hours=1))

    error = await refused(external.start(office.desk, run, None))

    assert code_of(error) == "E0502"
    assert error.detail["allowed"] == ["cancel", "change"]


async def test_only_queued_runs_of_external_jobs_are_started(office: Office) -> None:
    run = await office.started()
    inside = await office.queued("here")

    again = await refused(external.start(office.desk, RunId(run.id), None))
    other = await refused(external.start(office.desk, inside, None))
    nothing = await refused(external.start(office.desk, RunId(10**9), None))

    assert [code_of(error) for error in (again, other, nothing)] == ["E0502", "E0519", "E0503"]


@pytest.mark.req("D1")
async def test_it_counts_as_running_wherever_running_runs_are_told_of(db: Db, office: Office) -> None:
    run = await office.started()

    depth = await queue.depth(db)
    shown = await jobs.show(db, office.desk.registry, "outside")
    listed = await runs.page(db, 10, states=[run.state])

    assert (depth.due, depth.running) == (0, 1)
    assert [each.id for each in shown.runs] == [run.id]
    assert [each.id for each in listed.items] == [run.id]


@pytest.mark.req("P7")
async def test_no_node_claims_it_and_no_rescuer_takes_it_for_its_own(db: Db, office: Office) -> None:
    from jobsd.store import nodes
    from jobsd.store import runs as taken

    run = await office.started()

    assert await taken.running_on(db, office.here.keeper.node) == []
    assert await nodes.unsettled(db) == []
    assert run.state == "running"
