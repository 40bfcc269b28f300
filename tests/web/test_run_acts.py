"""Moves of runs over HTTP: what they take and answer, and how each refusal reads to a program."""

import pytest

from jobsd.domain.run import RunState
from jobsd.store.db import Db
from tests.operations.acts import run_in, state_of
from tests.support.engine import enqueued, node
from tests.support.web import Site

REASON = {"reason": "because"}


@pytest.mark.req("B4", "B6", "F2")
async def test_a_retry_answers_the_run_and_wakes_the_claimer(served: Site, db: Db) -> None:
    async with node(db) as here:
        run = await run_in(here, RunState.FAILED, "nightly")

        status, answer, _ = await served.ask("POST", f"/api/v1/runs/{run}/retry", REASON)

    assert (status, answer["state"], answer["retries"]) == (200, "queued", 1)
    assert len(served.woken) == 1


@pytest.mark.req("B6")
async def test_a_forbidden_move_is_409_with_the_state_and_what_it_allows(served: Site) -> None:
    (run,) = await enqueued(served.deps.db, "nightly")

    status, document, headers = await served.ask("POST", f"/api/v1/runs/{run}/retry", REASON)

    assert (status, headers["Content-Type"]) == (409, "application/problem+json")
    assert (document["code"], document["state"], document["allowed"]) == ("E0502", "queued", ["cancel", "change"])
    assert document["detail"] == f"run {run} is queued; only failed runs can be retried"


@pytest.mark.req("B3")
@pytest.mark.parametrize("act", ["pause", "resume", "start-over", "complete-now"])
async def test_nothing_pauses_or_resumes_a_run(served: Site, act: str) -> None:
    (run,) = await enqueued(served.deps.db, "nightly")

    status, document, _ = await served.ask("POST", f"/api/v1/runs/{run}/{act}", REASON)

    assert (status, document["code"]) == (404, "E0509")


@pytest.mark.req("F5")
async def test_patch_reschedules_and_reprioritises_a_queued_run(served: Site) -> None:
    (run,) = await enqueued(served.deps.db, "nightly")

    status, answer, _ = await served.ask(
        "PATCH", f"/api/v1/runs/{run}", {"due_at": "2199-01-01T00:00:00Z", "priority": "low", **REASON}
    )
    nothing, refused, _ = await served.ask("PATCH", f"/api/v1/runs/{run}", REASON)
    wrong, misfit, _ = await served.ask("PATCH", f"/api/v1/runs/{run}", {"priority": "urgent", "state": "completed"})

    assert (status, answer["due_at"], answer["priority"]) == (200, "2199-01-01T00:00:00Z", 8)
    assert (nothing, refused["code"]) == (422, "E0507")
    assert (wrong, {each["pointer"] for each in misfit["errors"]}) == (422, {"#/priority", "#/state"})


@pytest.mark.req("B7")
@pytest.mark.parametrize("key", ["params", "state", "error", "result", "actor", "tags", "retries"])
async def test_nothing_else_of_a_run_can_be_edited(served: Site, key: str) -> None:
    (run,) = await enqueued(served.deps.db, "nightly")

    status, document, _ = await served.ask("PATCH", f"/api/v1/runs/{run}", {"priority": 1, key: "another"})

    assert (status, document["errors"][0]["pointer"]) == (422, f"#/{key}")


@pytest.mark.req("B9", "F5")
async def test_a_deleted_run_is_gone_and_its_audit_stays(served: Site, db: Db) -> None:
    async with node(db) as here:
        run = await run_in(here, RunState.COMPLETED, "nightly")

    status, answer, _ = await served.ask("DELETE", f"/api/v1/runs/{run}?reason=noise")
    gone, _, _ = await served.ask("GET", f"/api/v1/runs/{run}")
    _, audit, _ = await served.ask("GET", f"/api/v1/runs/{run}/audit")

    assert (status, answer, gone) == (200, {"id": run}, 404)
    last = audit["items"][-1]
    assert (last["act"], last["reason"], last["detail"]) == ("deleted", "noise", {"state": "completed"})


async def test_a_move_may_name_the_state_of_the_run_that_it_was_shown(served: Site) -> None:
    (run,) = await enqueued(served.deps.db, "nightly")
    _, _, seen = await served.ask("GET", f"/api/v1/runs/{run}")
    match = {"If-Match": seen["ETag"]}

    first, _, _ = await served.ask("PATCH", f"/api/v1/runs/{run}", {"priority": 1}, headers=match)
    second, document, _ = await served.ask("POST", f"/api/v1/runs/{run}/cancel", REASON, headers=match)

    assert (first, second, document["code"]) == (200, 412, "E0413")
    assert await state_of(served.deps.db, run) == "queued"


@pytest.mark.req("D4", "D5")
async def test_force_fail_needs_a_reason_and_answers_202_with_the_run_as_it_is(served: Site, db: Db) -> None:
    async with node(db) as here:
        run = await run_in(here, RunState.RUNNING, "nightly")

        without, document, _ = await served.ask("POST", f"/api/v1/runs/{run}/force-fail", {})
        status, answer, _ = await served.ask("POST", f"/api/v1/runs/{run}/force-fail", REASON)

    assert (without, document["errors"][0]["pointer"]) == (422, "#/reason")
    assert (status, answer["state"]) == (202, "running")


async def test_many_runs_are_moved_by_a_filter_that_is_counted_first(served: Site) -> None:
    runs = await enqueued(served.deps.db, "nightly", 3)
    wanted = {"filter": {"job": "nightly", "state": ["queued"], "since": "1h"}, **REASON}

    _, counted, _ = await served.ask("POST", "/api/v1/runs/cancel", {**wanted, "dry_run": True})
    status, done, _ = await served.ask("POST", "/api/v1/runs/cancel", wanted)
    whole, _, _ = await served.ask("POST", "/api/v1/runs/delete", REASON)

    assert (counted["matched"], counted["done"]) == (3, 0)
    assert (status, done["matched"], done["done"], done["refused"]) == (200, 3, 3, [])
    assert {await state_of(served.deps.db, run) for run in runs} == {"cancelled"}
    assert whole == 422, "without a filter nothing is meant"


@pytest.mark.req("D4", "E13")
async def test_an_emergency_stop_answers_what_it_ends_and_what_it_leaves(served: Site, db: Db) -> None:
    async with node(db) as here:
        run = await run_in(here, RunState.RUNNING, "nightly")

        without, _, _ = await served.ask("POST", "/api/v1/emergency-stop", {})
        status, answer, _ = await served.ask("POST", "/api/v1/emergency-stop", REASON)

    assert (without, status) == (422, 202)
    assert answer == {"ending": [run], "left": [], "disabled": []}


async def test_a_job_is_disabled_for_a_time(served: Site) -> None:
    status, job, _ = await served.ask("POST", "/api/v1/jobs/nightly/disable", {"for": "2h", **REASON})
    wrong, document, _ = await served.ask("POST", "/api/v1/jobs/nightly/disable", {"for": "0s"})
    _, at_a_glance, _ = await served.ask("GET", "/api/v1/status")
    _, on, _ = await served.ask("POST", "/api/v1/jobs/nightly/enable", REASON)

    assert (status, job["enabled"], job["disabled_until"] is None) == (200, False, False)
    assert (wrong, document["errors"][0]["pointer"]) == (422, "#/for")
    (off,) = at_a_glance["disabled"]
    assert (off["job"], off["reason"], off["until"]) == ("nightly", "because", job["disabled_until"])
    assert (on["enabled"], on["disabled_until"]) == (True, None)


async def test_a_backfill_is_201_when_it_queues_runs_and_200_when_none_are_missing(served: Site) -> None:
    stretch = {"from": "2026-03-01T00:00:00Z", "to": "2026-03-03T00:00:00Z", **REASON}

    first, made, _ = await served.ask("POST", "/api/v1/jobs/nightly/backfill", stretch)
    second, again, _ = await served.ask("POST", "/api/v1/jobs/nightly/backfill", stretch)

    assert (first, made["made"]) == (201, 2)
    assert (second, again["ran"], again["made"]) == (200, 2, 0)
