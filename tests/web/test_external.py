"""A program that executes a run itself, over HTTP: from the start to the end, and what keeps it to the rules."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from jobsd.registry.load import Registry
from jobsd.store.db import Db
from tests.support.engine import enqueued, registered
from tests.support.web import Site, registry_of, site

JOBS = """
[jobs.condense]
external = true
lock_key = "argument:{argument_id}"
params = { argument_id = 1 }
max_active = 2

[jobs.seldom]
external = true
lock_key = "{run_id}"
rate = "1/h"
"""
RUNS = "/api/v1/jobs/condense/runs"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return registry_of(tmp_path, JOBS)


@pytest.fixture
async def served(db: Db, registry: Registry) -> AsyncIterator[Site]:
    await registered(db, *registry.jobs.values())
    async with site(db, registry) as here:
        yield here


async def started(served: Site, **body: Any) -> dict[str, Any]:
    status, run, _ = await served.ask("POST", RUNS, {"start": True, **body})
    assert status == 201, run
    return dict(run)


@pytest.mark.req("D1", "D2", "D5")
async def test_one_call_starts_a_run_and_others_report_and_complete_it(served: Site) -> None:
    run = await started(served, params={"argument_id": 7}, reason="asked for by an editor")
    at, fence = f"/api/v1/runs/{run['id']}", run["fence"]

    _, alive, _ = await served.ask("POST", f"{at}/heartbeat", {"fence": fence})
    await served.ask("POST", f"{at}/progress", {"fence": fence, "steps": {"load": 1, "condense": 3}})
    _, half, _ = await served.ask("POST", f"{at}/progress", {"fence": fence, "step": "condense", "progress": 0.5})
    await served.ask("POST", f"{at}/messages", {"fence": fence, "text": "one source is gone", "level": "warning"})
    _, seen, _ = await served.ask("GET", at)
    status, done, _ = await served.ask("POST", f"{at}/complete", {"fence": fence, "result": {"sentences": 3}})
    _, messages, _ = await served.ask("GET", f"{at}/messages")

    assert (run["state"], run["lock_key"], run["created"]) == ("running", "argument:7", True)
    assert (alive["progress"], half["progress"], half["step"]) == (None, 0.625, "condense")
    assert (seen["progress"], seen["stale"]) == (0.625, False)
    assert (status, done["state"], done["result"]) == (200, "completed", {"sentences": 3})
    assert [(each["level"], each["text"]) for each in messages["items"]] == [("warning", "one source is gone")]


async def test_the_fence_may_stand_in_a_header(served: Site) -> None:
    run = await started(served)
    headers = {"Jobsd-Fence": str(run["fence"])}

    status, failed, _ = await served.ask(
        "POST", f"/api/v1/runs/{run['id']}/fail", {"error": "no such page", "kind": "gone"}, headers=headers
    )

    assert (status, failed["state"], failed["error_kind"], failed["error"]) == (200, "failed", "gone", "no such page")


@pytest.mark.req("P4")
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({}, {}),
        ({"fence": 1}, {"Jobsd-Fence": "2"}),
        ({}, {"Jobsd-Fence": "one"}),
        ({}, {"Jobsd-Fence": "9223372036854775808"}),
        ({"fence": "1"}, {}),
        ({"fence": 0}, {}),
        ({"fence": True}, {}),
    ],
)
async def test_a_report_without_one_clear_fence_is_refused(
    served: Site, body: dict[str, Any], headers: dict[str, str]
) -> None:
    run = await started(served)

    status, refusal, _ = await served.ask("POST", f"/api/v1/runs/{run['id']}/heartbeat", body, headers=headers)

    assert (status, refusal["code"]) == (422, "E0507")
    assert "fence" in refusal["detail"].lower()


@pytest.mark.req("P4")
async def test_who_has_been_overtaken_is_told_so_and_by_what(served: Site, db: Db) -> None:
    run = await started(served)

    status, refusal, _ = await served.ask("POST", f"/api/v1/runs/{run['id']}/heartbeat", {"fence": run["fence"] + 1})

    assert (status, refusal["code"]) == (409, "E0517")
    assert (refusal["state"], refusal["fence"]) == ("running", run["fence"])
    assert "stop the work" in refusal["hint"]


async def test_a_start_that_cannot_be_leaves_no_run_behind(served: Site, db: Db) -> None:
    run = await started(served)

    status, refusal, _ = await served.ask("POST", RUNS, {"start": True})

    assert (status, refusal["code"], refusal["holder"]) == (409, "E0520", run["id"])
    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 1


@pytest.mark.req("P5")
async def test_a_start_whose_answer_was_lost_is_asked_for_again_by_its_key(served: Site) -> None:
    headers = {"Idempotency-Key": "condense-1"}
    _, first, _ = await served.ask("POST", RUNS, {"start": True}, headers=headers)

    status, again, _ = await served.ask("POST", RUNS, {"start": True}, headers=headers)

    assert (status, again["created"]) == (200, False)
    assert (again["id"], again["fence"]) == (first["id"], first["fence"])


@pytest.mark.req("D3")
async def test_programs_are_bound_by_the_number_of_active_runs(served: Site) -> None:
    for argument in (1, 2):
        await started(served, params={"argument_id": argument})

    status, refusal, _ = await served.ask("POST", RUNS, {"start": True, "params": {"argument_id": 3}})

    assert (status, refusal["code"]) == (409, "E0514")


async def test_a_rate_that_is_used_up_says_when_to_try_again(served: Site, db: Db) -> None:
    await db.execute("SELECT jobsd.fit_tickets('seldom', 1)")
    await served.ask("POST", "/api/v1/jobs/seldom/runs", {"start": True})

    status, refusal, headers = await served.ask("POST", "/api/v1/jobs/seldom/runs", {"start": True})

    assert (status, refusal["code"]) == (429, "E0527")
    assert headers["Retry-After"] == str(refusal["retry_after_s"])
    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 1


async def test_a_queued_run_is_started_by_its_id(served: Site, db: Db) -> None:
    (run,) = await enqueued(db, "condense")

    status, begun, _ = await served.ask("POST", f"/api/v1/runs/{run}/start", {"reason": "a worker is free"})
    again, refusal, _ = await served.ask("POST", f"/api/v1/runs/{run}/start")
    none, _, _ = await served.ask("POST", "/api/v1/runs/999999/start")

    assert (status, begun["state"]) == (200, "running")
    assert (again, refusal["code"], refusal["allowed"]) == (409, "E0502", ["force-fail"])
    assert none == 404


@pytest.mark.parametrize(
    ("report", "body"),
    [
        ("progress", {}),
        ("progress", {"progress": 1.5}),
        ("progress", {"progress": -0.1}),
        ("progress", {"steps": {}}),
        ("progress", {"steps": {"load": 0}}),
        ("progress", {"steps": {"load": -1}}),
        ("progress", {"step": "load"}),
        ("messages", {}),
        ("messages", {"text": ""}),
        ("messages", {"text": "x" * 10_001}),
        ("messages", {"text": "hello", "level": "fatal"}),
        ("fail", {}),
        ("fail", {"error": ""}),
        ("fail", {"error": "x", "kind": "no spaces, please"}),
        ("complete", {"outcome": "fine"}),
    ],
)
async def test_a_report_that_makes_no_sense_is_refused_and_changes_nothing(
    served: Site, report: str, body: dict[str, Any]
) -> None:
    run = await started(served)
    at = f"/api/v1/runs/{run['id']}"

    status, refusal, _ = await served.ask("POST", f"{at}/{report}", {"fence": run["fence"], **body})
    _, after, _ = await served.ask("GET", at)

    assert (status, refusal["code"]) == (422, "E0507")
    assert (after["state"], after["progress"]) == ("running", None)


async def test_the_ends_of_other_programs_runs_are_told_to_whoever_waits_for_them(db: Db, registry: Registry) -> None:
    await registered(db, *registry.jobs.values())
    over: list[int] = []

    async with site(db, registry, ended=lambda ended: over.extend(each.run.id for each in ended)) as served:
        run = await started(served)
        await served.ask("POST", f"/api/v1/runs/{run['id']}/complete", {"fence": run["fence"]})

    assert over == [run["id"]]
