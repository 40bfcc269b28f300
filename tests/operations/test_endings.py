"""How runs end that another program executes: once, as their jobs declare, or by force."""

from dataclasses import replace

import pytest

from jobsd.domain.events import RunEnded, RunRefused, RunStarted
from jobsd.domain.outcome import Failed
from jobsd.domain.run import RunId
from jobsd.operations import endings, external, moves, reports, runs
from jobsd.store.db import Db
from tests.operations.outside import ALICE, Office, acts, code_of, fence_of, refused


@pytest.mark.req("D5", "B9")
async def test_a_completed_run_keeps_its_result_and_gives_its_key_back(db: Db, office: Office) -> None:
    run = await office.started()

    done = await endings.complete(office.desk, RunId(run.id), fence_of(run), {"pages": 7})

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
    first = await endings.complete(office.desk, RunId(run.id), fence_of(run), [1, 2])

    second = await endings.complete(office.desk, RunId(run.id), fence_of(run), [1, 2])

    assert first == second
    assert await db.fetchval("SELECT count(*) FROM jobsd.attempt") == 1
    assert len(office.ended) == 1


@pytest.mark.req("B4", "B8", "P8")
async def test_a_failure_is_kept_word_for_word_and_queued_again_only_as_declared(db: Db, office: Office) -> None:
    first = await office.started()
    failed = Failed("timeout", "line one\nline two: ünï")

    again = await endings.fail(office.desk, RunId(first.id), fence_of(first), failed)
    await db.execute("UPDATE jobsd.run SET due_at = now()")
    second = await external.start(office.desk, RunId(first.id), None)
    over = await endings.fail(office.desk, RunId(first.id), fence_of(second), replace(failed, error="again"))

    attempts = await runs.attempts(db, RunId(first.id))
    assert (again.state, over.state, over.retries) == ("queued", "failed", 1)
    assert [(attempt.error_kind, attempt.error) for attempt in attempts] == [
        ("timeout", "line one\nline two: ünï"),
        ("timeout", "again"),
    ]
    assert await db.fetchval("SELECT type FROM jobsd.alert") == "JOB_FAILED"


async def test_a_final_failure_uses_no_retry(office: Office) -> None:
    run = await office.started()

    over = await endings.fail(office.desk, RunId(run.id), fence_of(run), Failed("external", "no such page", final=True))

    assert (over.state, over.retries) == ("failed", 0)


@pytest.mark.req("P4")
async def test_a_result_that_comes_after_the_next_attempt_began_is_refused_and_kept_as_stale(
    db: Db, office: Office
) -> None:
    first = await office.started()
    await endings.fail(office.desk, RunId(first.id), fence_of(first), Failed("stale", "nothing was heard of it"))
    await db.execute("UPDATE jobsd.run SET due_at = now()")
    second = await external.start(office.desk, RunId(first.id), None)

    error = await refused(endings.complete(office.desk, RunId(first.id), fence_of(first), "late"))

    attempts = await runs.attempts(db, RunId(first.id))
    assert code_of(error) == "E0517"
    assert error.detail["fence"] == second.fence
    assert [(each.outcome, each.result) for each in attempts] == [("failed", None), ("rejected, stale", "late")]
    assert isinstance(office.events[-1], RunRefused)
    assert (await runs.show(db, RunId(first.id))).state == "running"


async def test_a_result_that_is_too_large_is_refused(office: Office) -> None:
    run = await office.started()

    error = await refused(endings.complete(office.desk, RunId(run.id), fence_of(run), "x" * (1 << 20)))

    assert code_of(error) == "E0507"
    assert (await runs.show(office.desk.db, RunId(run.id))).state == "running"


async def test_a_run_whose_job_has_left_the_registry_is_ended_all_the_same(office: Office) -> None:
    run = await office.started()
    office.desk.registry.jobs.pop("outside")  # type: ignore[attr-defined]  # it is a dictionary

    await reports.heartbeat(office.desk, RunId(run.id), fence_of(run))
    done = await endings.complete(office.desk, RunId(run.id), fence_of(run), None)

    assert done.state == "completed"


@pytest.mark.req("D4", "P4")
async def test_force_ends_it_at_once_and_whoever_waits_hears_of_it(db: Db, office: Office) -> None:
    run = await office.started()
    desk = office.desk

    shown = await moves.force_fail(db, desk.registry, RunId(run.id), ALICE, "it hangs", told=desk.told)
    late = await refused(endings.complete(desk, RunId(run.id), fence_of(run), None))

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
