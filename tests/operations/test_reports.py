"""What a program says of the attempt that it executes: that it lives, how far it is, what happens."""

import pytest

from jobsd.domain.outcome import Failed
from jobsd.domain.run import Fence, RunId
from jobsd.operations import endings, reports, runs
from jobsd.operations.reports import MessageRequest, ProgressRequest
from tests.operations.outside import Office, code_of, fence_of, refused
from tests.support.engine import request


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
        "complete": endings.complete(office.desk, at, other, None),
        "fail": endings.fail(office.desk, at, other, Failed("x", "y")),
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
        await refused(endings.complete(office.desk, claimed.id, claimed.fence, None)),
    ]

    assert [code_of(error) for error in errors] == ["E0519", "E0519"]


async def test_a_command_reports_with_the_fence_that_it_was_given_but_does_not_settle_itself(office: Office) -> None:
    await office.queued("here")
    (claimed,) = (await office.here.keeper.claim(request(office.here, "here"))).runs

    seen = await reports.progress(office.desk, claimed.id, claimed.fence, ProgressRequest(progress=0.25))
    error = await refused(endings.complete(office.desk, claimed.id, claimed.fence, None))

    assert seen.progress == 0.25
    assert code_of(error) == "E0519"
