"""`jobsd run retry|cancel|delete|change|fail`, `emergency-stop`, `job disable --for`, `job backfill`: the real API."""

import json
from collections.abc import AsyncIterator

import pytest

from jobsd.domain.outcome import Failed
from jobsd.store.db import Db
from tests.support.site import Site, me, site

JOBS = """
[jobs.import]
command = ["true"]

[jobs.draft]
command = ["true"]
atomic = true

[jobs.ping]
command = ["true"]
schedule = { every = "1h" }
"""
BULK = "run", "cancel", "--state", "queued", "--job", "import"


@pytest.fixture
async def here(db: Db) -> AsyncIterator[Site]:
    async with site(db, JOBS) as started:
        yield started


async def queued(here: Site, job: str = "import") -> int:
    ended = await here.jobsd("trigger", job, "--at", "2h", "-o", "json")
    return int(json.loads(ended.out)["id"])


async def failed(here: Site, job: str = "import") -> int:
    await here.jobsd("trigger", job)
    run = await here.taken()
    await here.ends(run, Failed("exit", "exited with 3"))
    return run.id


async def state(here: Site, run: int) -> str | None:
    found: str | None = await here.db.fetchval("SELECT state FROM jobsd.run WHERE id = $1", run)
    return found


async def reason(here: Site, run: int) -> tuple[str, str, str | None]:
    """Of its last audit entry: act, actor, reason."""
    row = await here.db.fetchrow(
        "SELECT act, actor, reason FROM jobsd.audit WHERE run = $1 ORDER BY sequence DESC LIMIT 1", run
    )
    assert row is not None
    return row["act"], row["actor"], row["reason"]


@pytest.mark.req("B4", "B6", "F2")
async def test_run_retry_queues_a_failed_run_again_with_who_and_why(here: Site) -> None:
    run = await failed(here)

    ended = await here.jobsd("run", "retry", str(run), "--reason", "bigger disk", "-o", "json")

    answer = json.loads(ended.out)
    assert (ended.code, answer["state"], answer["retries"]) == (0, "queued", 1)
    assert await reason(here, run) == ("retry", me(), "bigger disk")


@pytest.mark.req("B6")
async def test_what_its_state_does_not_allow_is_e0502_with_what_is_and_exit_6(here: Site) -> None:
    run = await queued(here)

    ended = await here.jobsd("run", "retry", str(run))

    assert (ended.code, ended.out) == (6, "")
    assert f"error[E0502]: run {run} is queued; only failed runs can be retried" in ended.err
    assert "allowed now: cancel, change" in ended.err


async def test_run_change_gives_another_time_and_priority(here: Site) -> None:
    run = await queued(here)

    ended = await here.jobsd(
        "run", "change", str(run), "--at", "2199-01-01T00:00Z", "--priority", "critical", "-o", "json"
    )

    answer = json.loads(ended.out)
    assert (answer["due_at"], answer["priority"]) == ("2199-01-01T00:00:00Z", 0)
    assert (await reason(here, run))[:2] == ("changed", me())


@pytest.mark.req("B6")
async def test_several_runs_are_cancelled_by_their_numbers(here: Site) -> None:
    runs = [await queued(here), await failed(here)]

    ended = await here.jobsd("run", "cancel", *map(str, runs))

    assert ended.code == 0
    assert [await state(here, run) for run in runs] == ["cancelled", "cancelled"]


async def test_run_delete_takes_it_out_of_the_lists_and_leaves_its_history(here: Site) -> None:
    run = await failed(here)

    ended = await here.jobsd("run", "delete", str(run), "--reason", "noise", "-o", "json")
    shown = await here.jobsd("run", "show", str(run))

    assert json.loads(ended.out) == {"id": run, "deleted": True}
    assert shown.code == 5
    assert await reason(here, run) == ("deleted", me(), "noise")


@pytest.mark.req("P10")
async def test_a_run_of_an_atomic_job_is_e0515_and_stays(here: Site) -> None:
    run = await failed(here, "draft")

    ended = await here.jobsd("run", "delete", str(run))

    assert ended.code == 6
    assert "error[E0515]" in ended.err
    assert await state(here, run) == "failed"


async def test_a_filter_is_counted_with_dry_run_and_done_without(here: Site) -> None:
    runs = [await queued(here) for _ in range(3)]
    other = await queued(here, "draft")

    counted = await here.jobsd(*BULK, "--dry-run", "-o", "json")
    states = {await state(here, run) for run in runs}
    done = await here.jobsd(*BULK, "--reason", "wrong file", "-o", "json")

    assert (json.loads(counted.out)["matched"], states) == (3, {"queued"})
    assert (done.code, json.loads(done.out)["done"]) == (0, 3)
    assert [await state(here, run) for run in (*runs, other)] == ["cancelled"] * 3 + ["queued"]
    assert await reason(here, runs[0]) == ("cancelled", me(), "wrong file")


async def test_on_a_terminal_the_count_is_shown_and_asked_about(here: Site) -> None:
    runs = [await queued(here) for _ in range(2)]

    async with here.terminal(*BULK) as screen:
        await screen.shows("Cancel 2 runs? [y/N]")
        before = {await state(here, run) for run in runs}
        screen.press(b"n\n")
        refused = await screen.ended()
    async with here.terminal(*BULK) as screen:
        await screen.shows("Cancel 2 runs? [y/N]")
        screen.press(b"y\n")
        done = await screen.ended()

    assert (before, refused, done) == ({"queued"}, 130, 0)
    assert {await state(here, run) for run in runs} == {"cancelled"}


async def test_with_yes_nothing_is_asked_on_a_terminal(here: Site) -> None:
    run = await failed(here)

    async with here.terminal("run", "delete", str(run), "--yes") as screen:
        code = await screen.ended()

    assert code == 0
    assert "?" not in screen.shown


async def test_runs_that_are_left_are_told_with_exit_6(here: Site) -> None:
    run = await failed(here, "draft")

    ended = await here.jobsd("run", "delete", "--job", "draft", "-o", "table")

    assert ended.code == 6
    assert "0 runs of 1 deleted" in ended.out
    assert f"E0515: run {run} of draft is kept for ever" in ended.err


@pytest.mark.parametrize("args", [[], ["42", "--job", "import"], ["42", "--dry-run"]])
async def test_neither_runs_nor_filter_or_both_is_e0101(here: Site, args: list[str]) -> None:
    ended = await here.jobsd("run", "retry", *args)

    assert ended.code == 2
    assert ended.err.startswith("error[E0101]")


@pytest.mark.req("D4")
async def test_run_fail_asks_the_node_to_end_a_running_run(here: Site) -> None:
    await here.jobsd("trigger", "import")
    run = await here.taken()

    without = await here.jobsd("run", "fail", str(run.id))
    ended = await here.jobsd("run", "fail", str(run.id), "--reason", "hangs")

    asked = await here.db.fetchrow("SELECT run, actor, reason FROM jobsd.force_fail")
    assert (without.code, ended.code) == (2, 0)
    assert asked is not None
    assert tuple(asked) == (run.id, me(), "hangs")


@pytest.mark.req("D4", "E13")
async def test_an_emergency_stop_tells_what_it_ends_and_what_goes_on(here: Site) -> None:
    for job in ("import", "draft"):
        await here.jobsd("trigger", job)
        await here.taken()

    ended = await here.jobsd("emergency-stop", "--reason", "flood", "--disable-jobs", "-o", "table")

    assert ended.code == 0
    assert "1 run being ended" in ended.out
    assert "of the atomic job draft and was heard of" in ended.out
    assert "3 jobs switched off" in ended.out
    assert (await here.jobsd("emergency-stop")).code == 2, "a reason is a must"


async def test_a_job_is_disabled_for_a_time_and_says_until_when(here: Site) -> None:
    ended = await here.jobsd("job", "disable", "ping", "--for", "2h", "--reason", "move", "-o", "table")
    why = await here.jobsd("job", "why", "ping")
    glance = await here.jobsd("status", "-o", "table")
    wrong = await here.jobsd("job", "disable", "ping", "--for", "soon")

    until = await here.db.fetchval("SELECT disabled_until FROM jobsd.job WHERE name = 'ping'")
    assert ended.out == f"ping is disabled until {until:%Y-%m-%d %H:%M:%S} UTC\n"
    assert f"until {until:%Y-%m-%d %H:%M:%S} UTC" in why.out
    assert "in 1 h" in next(line for line in glance.out.splitlines() if line.startswith("ping"))
    assert wrong.code == 2


async def test_a_backfill_is_looked_at_first_and_then_done(here: Site) -> None:
    stretch = ("--from", "2026-03-01T00:00Z", "--to", "2026-03-01T05:00Z")

    looked = await here.jobsd("job", "backfill", "ping", *stretch, "--dry-run", "-o", "table")
    done = await here.jobsd("job", "backfill", "ping", *stretch, "--reason", "late data", "-o", "json")

    assert "6 never ran, from 2026-03-01 00:00:00 UTC to 2026-03-01 05:00:00 UTC" in looked.out
    assert json.loads(done.out)["made"] == 6
    assert await here.db.fetchval("SELECT count(*) FROM jobsd.run WHERE job = 'ping'") == 6
