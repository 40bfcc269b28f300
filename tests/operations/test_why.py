"""Why a job is not running: each reason that there can be, in the words that a person reads."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobsd.operations import jobs
from jobsd.operations.why import why
from jobsd.registry.load import Registry
from jobsd.store import nodes, tickets
from jobsd.store.db import Db
from tests.support.engine import enqueued, node, registered, request
from tests.support.web import registry_of


async def told(db: Db, registry: Registry, name: str) -> dict[str, str]:
    return {reason.code: reason.text for reason in (await why(db, registry, name)).reasons}


@pytest.mark.req("E11")
async def test_with_nothing_in_its_way_only_the_next_slot_is_told(db: Db, registry: Registry) -> None:
    async with node(db):
        found = await why(db, registry, "ping")

    assert [reason.code for reason in found.reasons] == ["next_slot"]
    assert found.next_at is not None
    assert f"{found.next_at:%H:%M:%S} UTC, in " in found.reasons[0].text


async def test_a_disabled_job_names_who_and_why_first(db: Db, registry: Registry) -> None:
    await jobs.switch(db, registry, "ping", enabled=False, actor="unix:alice", reason="database moves")

    async with node(db):
        found = await why(db, registry, "ping")

    assert found.reasons[0].code == "disabled"
    assert found.reasons[0].text == 'disabled by unix:alice: "database moves"'
    assert found.next_at is None


async def test_a_job_disabled_in_the_file_and_a_node_switched_off_are_told_apart(db: Db, tmp_path: Path) -> None:
    registry = registry_of(tmp_path, '[daemon]\nenabled = false\n[jobs.a]\ncommand = ["true"]\nenabled = false\n')

    found = await told(db, registry, "a")

    assert found["disabled_in_file"] == "disabled in the registry: enabled = false"
    assert found["node_disabled"] == "this node is switched off (JOBSD_ENABLED=false): it starts nothing"
    assert found["manual"] == "it has no schedule: jobsd trigger a"


async def test_a_pool_that_nobody_serves_is_named_with_those_that_are(db: Db, tmp_path: Path) -> None:
    registry = registry_of(tmp_path, '[jobs.a]\ncommand = ["true"]\npool = "gpu"\n')

    async with node(db) as here:
        served = await told(db, registry, "a")
        await nodes.stop(db, here.keeper.node)
    alone = await told(db, registry, "a")

    assert served["no_node"] == 'no node serves its pool "gpu": the live nodes serve default'
    assert alone["no_node"] == 'no node serves its pool "gpu": no node is live'


async def test_a_key_held_by_another_jobs_run_is_told_with_run_job_and_node(db: Db, tmp_path: Path) -> None:
    text = '[jobs.{}]\ncommand = ["true"]\nlock_key = "shared"\n'
    registry = registry_of(tmp_path, text.format("a") + text.format("b"))
    await registered(db, *registry.jobs.values())
    (holder,) = await enqueued(db, "a", key="shared")

    async with node(db, "one") as here:
        await here.keeper.claim(request(here, "a"))
        before = await told(db, registry, "b")
        (waiting,) = await enqueued(db, "b", key="shared")
        after = await told(db, registry, "b")

    assert before["key_held"].startswith(f'its lock key "shared" is held by run {holder} of a on one, for ')
    assert after["key_held"].startswith(
        f'run {waiting} waits: the lock key "shared" is held by run {holder} of a on one'
    )


async def test_its_own_run_is_told_as_running_and_its_places_as_taken(db: Db, tmp_path: Path) -> None:
    registry = registry_of(tmp_path, '[jobs.a]\ncommand = ["true"]\nconcurrency = 1\n')
    await registered(db, *registry.jobs.values())
    (run,) = await enqueued(db, "a")

    async with node(db, "one") as here:
        await here.keeper.claim(request(here, "a"))
        found = await why(db, registry, "a")

    codes = {reason.code: reason.text for reason in found.reasons}
    assert found.running == [run]
    assert codes["running"].startswith(f"run {run} is running on one, for ")
    assert codes["no_place"] == "all 1 places of its concurrency are taken"


@pytest.mark.req("E11")
async def test_a_job_at_its_rate_and_at_its_most_active_runs_says_so(db: Db, tmp_path: Path) -> None:
    text = '[jobs.a]\ncommand = ["true"]\nlock_key = "{run_id}"\nrate = "2/h"\nmax_active = 3\n'
    registry = registry_of(tmp_path, text)
    job = registry.jobs["a"]
    assert job.rate is not None
    await registered(db, job)
    await tickets.fit(db, {"a": job.rate})
    await enqueued(db, "a", count=3, capped=True)

    async with node(db) as here:
        before = await told(db, registry, "a")
        await here.keeper.claim(replace(request(here, "a"), rates=[("a", job.rate.per)]))
        codes = await told(db, registry, "a")

    assert "rate" not in before
    assert codes["rate"].startswith("it has started as often as its rate of 2/1h allows; the next start is free at 2")
    assert codes["max_active"] == "all 3 active runs that it may have are there"


async def test_a_run_for_later_is_told_with_its_time(db: Db, registry: Registry) -> None:
    (run,) = await enqueued(db, "ping", due_at=datetime.now(UTC) + timedelta(hours=2))

    found = await told(db, registry, "ping")

    assert found["due_later"].startswith(f"run {run} is due at ")


@pytest.mark.req("E2", "P1")
async def test_a_slot_that_waits_and_the_last_one_that_did_not_run_are_told(db: Db, tmp_path: Path) -> None:
    text = (
        '[jobs.first]\ncommand = ["true"]\n[jobs.second]\ncommand = ["true"]\n'
        'needs = ["first"]\nschedule = { every = "1h" }\n'
    )
    registry = registry_of(tmp_path, text)
    start = datetime(2026, 11, 22, 10, tzinfo=UTC)

    async with node(db) as here:
        await db.execute(WAITING, start, start + timedelta(minutes=30), here.keeper.node)
        waits = await told(db, registry, "second")
        await db.execute(OVERLAP, start + timedelta(hours=1), here.keeper.node)
        passed = await told(db, registry, "second")

    assert waits["waits_for_needs"] == (
        "slot 2026-11-22 10:00:00 UTC waits for first, until 2026-11-22 10:30:00 UTC at the latest"
    )
    assert passed["last_decision"] == (
        "its last slot, 2026-11-22 11:00:00 UTC, did not run: overlap: run 7 is not over"
    )


async def test_a_job_that_follows_another_says_which(db: Db, tmp_path: Path) -> None:
    text = '[jobs.a]\ncommand = ["true"]\n[jobs.b]\ncommand = ["true"]\nschedule = { after = ["a"] }\n'
    registry = registry_of(tmp_path, text)

    found = await told(db, registry, "b")

    assert found["after"] == "it starts when a completed for their latest slot"


WAITING = """
    INSERT INTO jobsd.slot (job, slot_at, to_at, decision, wait_until, node)
    VALUES ('second', $1, $1, 'waiting', $2, $3)
"""
OVERLAP = """
    INSERT INTO jobsd.slot (job, slot_at, to_at, decision, reason, node)
    VALUES ('second', $1, $1, 'overlap', 'run 7 is not over', $2)
"""


@pytest.mark.req("D1")
async def test_a_run_that_waits_for_its_program_says_how_to_start_it(db: Db, tmp_path: Path) -> None:
    registry = registry_of(tmp_path, "[jobs.outside]\nexternal = true\n")
    await registered(db, *registry.jobs.values())
    (run,) = await enqueued(db, "outside")

    found = await told(db, registry, "outside")

    assert found["waits_for_program"] == f"run {run} waits for a program to start it: POST /api/v1/runs/{run}/start"
    assert "no_node" not in found
