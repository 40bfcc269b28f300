"""Runs that another program executes: begun, reported, ended; each of it fenced, and settled as the job declares."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobsd.domain.errors import JobsdError
from jobsd.domain.events import Event, RunEnded, RunRefused, RunStarted
from jobsd.domain.outcome import Failed
from jobsd.domain.run import Fence, RunId
from jobsd.engine.here import Here
from jobsd.operations import external, jobs, moves, reports, runs
from jobsd.operations.external import Desk
from jobsd.operations.reports import MessageRequest, ProgressRequest
from jobsd.operations.run_views import RunView
from jobsd.operations.told import Told
from jobsd.store import jobs as registered_jobs
from jobsd.store import queue
from jobsd.store.db import Db
from jobsd.store.history import Ended
from tests.support.engine import enqueued, node, registered, request
from tests.support.web import registry_of

JOBS = """
[jobs.outside]
external = true
retry = { attempts = 1, base = "1s", cap = "1s" }

[jobs.several]
external = true
concurrency = 2

[jobs.seldom]
external = true
lock_key = "{run_id}"
rate = "1/h"

[jobs.atomic]
external = true
atomic = true

[jobs.shared]
external = true
lock_key = "both"

[jobs.here]
command = ["true"]
lock_key = "both"

[jobs.inside]
handler = "tests.support.handlers:import_course"
params = { course_id = "AAA" }
"""
ALICE = "unix:alice"


@dataclass
class Office:
    """A desk on a node, and what was told there."""

    desk: Desk
    here: Here
    events: list[Event] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)

    async def queued(self, name: str = "outside", **keys: Any) -> RunId:
        job = self.desk.registry.jobs[name]
        keys = {"key": job.key_template, **keys}
        (run,) = await enqueued(self.desk.db, name, **keys)
        return run

    async def started(self, name: str = "outside", **keys: Any) -> RunView:
        return await external.start(self.desk, await self.queued(name, **keys), "by hand")


@pytest.fixture
async def office(db: Db, tmp_path: Path) -> AsyncIterator[Office]:
    registry = registry_of(tmp_path, JOBS)
    await registered(db, *registry.jobs.values())
    async with node(db) as here:
        events, ended = list[Event](), list[Ended]()

        def over(each: Sequence[Ended]) -> None:
            ended.extend(each)

        desk = Desk(db, registry, here.keeper.node, ALICE, Told(events.append, over))
        yield Office(desk, here, events, ended)


def fence_of(run: RunView) -> Fence:
    assert run.fence is not None
    return Fence(run.fence)


async def refused(awaited: Any) -> JobsdError:
    with pytest.raises(JobsdError) as refusal:
        await awaited
    return refusal.value


def code_of(error: JobsdError) -> str:
    return error.problems[0].code


async def acts(db: Db, run: int) -> list[tuple[str, str, str | None]]:
    return [(entry.act, entry.actor, entry.reason) for entry in await runs.audit(db, RunId(run))]


# -- begin ----------------------------------------------------------------------------------------------------------


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
    await external.complete(office.desk, RunId(outside.id), fence_of(outside), None)
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


# -- report ---------------------------------------------------------------------------------------------------------


@pytest.mark.req("D2", "D5")
async def test_a_pipeline_is_declared_once_and_its_steps_make_the_whole(office: Office) -> None:
    run = await office.started()
    at, fence = RunId(run.id), fence_of(run)
    await reports.progress(office.desk, at, fence, ProgressRequest(steps={"load": 1, "condense": 8, "store": 1}))

    half = await reports.progress(office.desk, at, fence, ProgressRequest(step="condense", progress=0.5, note="page 4"))
    done = await reports.progress(office.desk, at, fence, ProgressRequest(step="store", progress=1.0))

    assert (half.progress, half.step, half.note) == (0.5, "condense", "page 4")
    assert half.steps == [("load", 1), ("condense", 8), ("store", 1)]
    assert done.progress == 1.0


async def test_a_step_that_was_not_declared_is_refused_with_those_that_were(office: Office) -> None:
    run = await office.started()
    at, fence = RunId(run.id), fence_of(run)
    await reports.progress(office.desk, at, fence, ProgressRequest(steps={"load": 1, "store": 1}))

    error = await refused(reports.progress(office.desk, at, fence, ProgressRequest(step="lod", progress=0.5)))

    assert code_of(error) == "E0507"
    assert "the steps are: load, store" in str(error)


@pytest.mark.req("B2", "D2")
async def test_an_atomic_job_shows_no_progress_but_lives_and_tells(office: Office) -> None:
    run = await office.started("atomic")
    at, fence = RunId(run.id), fence_of(run)

    error = await refused(reports.progress(office.desk, at, fence, ProgressRequest(progress=0.5)))
    alive = await reports.heartbeat(office.desk, at, fence)
    await reports.message(office.desk, at, fence, MessageRequest(text="half way", level="warning"))

    assert code_of(error) == "E0516"
    assert alive.progress is None
    said = await runs.messages(office.desk.db, at, 0, 10)
    assert [(message.level, message.text) for message in said.items] == [("warning", "half way")]


@pytest.mark.req("P4")
@pytest.mark.parametrize("report", ["heartbeat", "progress", "message", "complete", "fail"])
async def test_whatever_names_another_fence_is_refused_and_told_how_the_run_stands(office: Office, report: str) -> None:
    run = await office.started()
    at, other = RunId(run.id), Fence(fence_of(run) - 1)
    said = {
        "heartbeat": reports.heartbeat(office.desk, at, other),
        "progress": reports.progress(office.desk, at, other, ProgressRequest(progress=0.5)),
        "message": reports.message(office.desk, at, other, MessageRequest(text="hello")),
        "complete": external.complete(office.desk, at, other, None),
        "fail": external.fail(office.desk, at, other, Failed("x", "y")),
    }
    chosen = said.pop(report)
    for unused in said.values():
        unused.close()

    error = await refused(chosen)

    assert code_of(error) == "E0517"
    assert error.detail == {"run": run.id, "state": "running", "fence": run.fence}
    assert await office.desk.db.fetchval("SELECT count(*) FROM jobsd.attempt") == 0, "nothing of a fence never drawn"


@pytest.mark.req("B7")
async def test_nobody_reports_for_a_handler_of_the_daemon(office: Office) -> None:
    await office.queued("inside", key="course:AAA")
    (claimed,) = (await office.here.keeper.claim(request(office.here, "inside"))).runs

    errors = [
        await refused(reports.heartbeat(office.desk, claimed.id, claimed.fence)),
        await refused(external.complete(office.desk, claimed.id, claimed.fence, None)),
    ]

    assert [code_of(error) for error in errors] == ["E0519", "E0519"]


async def test_a_command_reports_with_the_fence_that_it_was_given_but_does_not_settle_itself(office: Office) -> None:
    await office.queued("here")
    (claimed,) = (await office.here.keeper.claim(request(office.here, "here"))).runs

    seen = await reports.progress(office.desk, claimed.id, claimed.fence, ProgressRequest(progress=0.25))
    error = await refused(external.complete(office.desk, claimed.id, claimed.fence, None))

    assert seen.progress == 0.25
    assert code_of(error) == "E0519"


# -- end ------------------------------------------------------------------------------------------------------------


@pytest.mark.req("D5", "B9")
async def test_a_completed_run_keeps_its_result_and_gives_its_key_back(db: Db, office: Office) -> None:
    run = await office.started()

    done = await external.complete(office.desk, RunId(run.id), fence_of(run), {"pages": 7})

    assert (done.state, done.outcome, done.result) == ("completed", "completed", {"pages": 7})
    assert [act for act, _, _ in await acts(db, run.id)] == ["queued", "started", "completed"]
    assert (await acts(db, run.id))[2][1] == ALICE
    assert [type(event) for event in office.events] == [RunStarted, RunEnded]
    assert [each.run.id for each in office.ended] == [run.id]
    assert await db.fetchval("SELECT count(*) FROM jobsd.external") == 0
    assert (await office.started()).state == "running"


@pytest.mark.req("P5")
async def test_an_end_that_is_said_twice_is_answered_alike_and_written_once(db: Db, office: Office) -> None:
    run = await office.started()
    first = await external.complete(office.desk, RunId(run.id), fence_of(run), [1, 2])

    second = await external.complete(office.desk, RunId(run.id), fence_of(run), [1, 2])

    assert first == second
    assert await db.fetchval("SELECT count(*) FROM jobsd.attempt") == 1
    assert len(office.ended) == 1


@pytest.mark.req("B4", "B8", "P8")
async def test_a_failure_is_kept_word_for_word_and_queued_again_only_as_declared(db: Db, office: Office) -> None:
    first = await office.started()
    failed = Failed("timeout", "line one\nline two: ünï")

    again = await external.fail(office.desk, RunId(first.id), fence_of(first), failed)
    await db.execute("UPDATE jobsd.run SET due_at = now()")
    second = await external.start(office.desk, RunId(first.id), None)
    over = await external.fail(office.desk, RunId(first.id), fence_of(second), replace(failed, error="again"))

    attempts = await runs.attempts(db, RunId(first.id))
    assert (again.state, over.state, over.retries) == ("queued", "failed", 1)
    assert [(attempt.error_kind, attempt.error) for attempt in attempts] == [
        ("timeout", "line one\nline two: ünï"),
        ("timeout", "again"),
    ]
    assert await db.fetchval("SELECT type FROM jobsd.alert") == "JOB_FAILED"


async def test_a_final_failure_uses_no_retry(office: Office) -> None:
    run = await office.started()

    over = await external.fail(
        office.desk, RunId(run.id), fence_of(run), Failed("external", "no such page", final=True)
    )

    assert (over.state, over.retries) == ("failed", 0)


@pytest.mark.req("P4")
async def test_a_result_that_comes_after_the_next_attempt_began_is_refused_and_kept_as_stale(
    db: Db, office: Office
) -> None:
    first = await office.started()
    await external.fail(office.desk, RunId(first.id), fence_of(first), Failed("stale", "nothing was heard of it"))
    await db.execute("UPDATE jobsd.run SET due_at = now()")
    second = await external.start(office.desk, RunId(first.id), None)

    error = await refused(external.complete(office.desk, RunId(first.id), fence_of(first), "late"))

    attempts = await runs.attempts(db, RunId(first.id))
    assert code_of(error) == "E0517"
    assert error.detail["fence"] == second.fence
    assert [(each.outcome, each.result) for each in attempts] == [("failed", None), ("rejected, stale", "late")]
    assert isinstance(office.events[-1], RunRefused)
    assert (await runs.show(db, RunId(first.id))).state == "running"


async def test_a_result_that_is_too_large_is_refused(office: Office) -> None:
    run = await office.started()

    error = await refused(external.complete(office.desk, RunId(run.id), fence_of(run), "x" * (1 << 20)))

    assert code_of(error) == "E0507"
    assert (await runs.show(office.desk.db, RunId(run.id))).state == "running"


async def test_a_run_whose_job_has_left_the_registry_is_ended_all_the_same(office: Office) -> None:
    run = await office.started()
    office.desk.registry.jobs.pop("outside")  # type: ignore[attr-defined]  # it is a dictionary

    await reports.heartbeat(office.desk, RunId(run.id), fence_of(run))
    done = await external.complete(office.desk, RunId(run.id), fence_of(run), None)

    assert done.state == "completed"


# -- seen elsewhere -------------------------------------------------------------------------------------------------


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


# -- ended by force -------------------------------------------------------------------------------------------------


@pytest.mark.req("D4", "P4")
async def test_force_ends_it_at_once_and_whoever_waits_hears_of_it(db: Db, office: Office) -> None:
    run = await office.started()
    desk = office.desk

    shown = await moves.force_fail(db, desk.registry, RunId(run.id), ALICE, "it hangs", told=desk.told)
    late = await refused(external.complete(desk, RunId(run.id), fence_of(run), None))

    assert (shown.state, shown.error) == ("failed", f"failed by force, by {ALICE}: it hangs")
    assert [each.run.id for each in office.ended] == [run.id]
    assert [type(event) for event in office.events] == [RunStarted, RunEnded, RunRefused]
    assert code_of(late) == "E0517"


@pytest.mark.req("D4")
async def test_force_ends_it_also_when_its_job_has_left_the_registry(db: Db, office: Office) -> None:
    run = await office.started()
    office.desk.registry.jobs.pop("outside")  # type: ignore[attr-defined]  # it is a dictionary

    shown = await moves.force_fail(db, office.desk.registry, RunId(run.id), ALICE, "it hangs")

    assert shown.state == "failed"
