"""Stopping: the first signal drains, the second cuts, the third leaves at once; and nothing keeps a daemon for ever."""

import signal
from collections.abc import Awaitable, Callable

import pytest

from jobsd.store.db import Db
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.locked import locked

Start = Callable[..., Awaitable[Daemon]]

JOBS = """
[jobs.command]
command = ["sh", "-c", "echo begun command $JOBSD_ATTEMPT > traces; until [ -e go ]; do sleep 0.02; done"]
lock_key = "{run_id}"

[jobs.again]
command = ["sh", "-c", "echo begun again $JOBSD_ATTEMPT > traces; until [ -e go ]; do sleep 0.02; done"]
restartable = true

[jobs.in_loop]
handler = "tests.daemon.work:waits"

[jobs.polite]
handler = "tests.daemon.work:cleans_up"

[jobs.stubborn]
handler = "tests.daemon.work:ignores"
grace = "100ms"

[jobs.often]
handler = "tests.daemon.work:ticks"
schedule = { every = "1s" }
"""
SECOND = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.req("C5", "P6")
@pytest.mark.parametrize("number", SECOND)
async def test_the_first_signal_lets_runs_finish_and_starts_nothing_new_not_even_after_a_reload(
    daemon: Start, db: Db, number: int
) -> None:
    node = await daemon(JOBS)
    for job in ("command", "in_loop"):
        await node.trigger(job)
        await node.traced(f"begun {job}")

    node.signal(number)
    await node.notified("STOPPING", "1")
    assert int(await node.notified("EXTEND_TIMEOUT_USEC")) >= 30_000_000
    ready, _ = await node.request("GET", "/readyz")
    await node.trigger("command")
    node.signal(signal.SIGHUP)
    await node.seen("registry_reloaded")
    slots, at = await db.fetchrow("SELECT count(*), now() FROM jobsd.slot") or ()
    two_more_were_due = "SELECT clock_timestamp() > $1::timestamptz + interval '2s'"
    await eventually(lambda: db.fetchval(two_more_were_due, at), True)
    node.release()

    assert await node.exited() == 0
    assert ready == 503
    states = await db.fetch("SELECT job, state FROM jobsd.run WHERE job <> 'often' ORDER BY id")
    assert [tuple(row.values()) for row in states] == [
        ("command", "completed"),
        ("in_loop", "completed"),
        ("command", "queued"),
    ]
    assert await db.fetchval("SELECT count(*) FROM jobsd.slot") == slots
    assert await db.fetchval("SELECT count(*) FROM jobsd.run WHERE state = 'running'") == 0
    assert await db.fetchval("SELECT state FROM jobsd.node") == "stopped"
    assert await db.fetchval("SELECT count(*) FROM jobsd.claim WHERE fence > 0") == 0


@pytest.mark.req("C5", "P8")
@pytest.mark.parametrize("number", SECOND)
async def test_the_second_signal_ends_what_runs_and_a_restartable_run_is_queued_again(
    daemon: Start, db: Db, number: int
) -> None:
    node = await daemon(JOBS)
    for job in ("command", "again", "polite"):
        await node.trigger(job)
        await node.traced(f"begun {job}")

    node.signal(number)
    await node.seen("draining")
    node.signal(number)

    assert await node.exited() == 0
    await node.children_gone()
    assert "cleaned polite" in node.traces
    runs = await db.fetch("SELECT job, state, retries FROM jobsd.run WHERE job <> 'often' ORDER BY id")
    assert [tuple(row.values()) for row in runs] == [
        ("command", "failed", 0),
        ("again", "queued", 0),
        ("polite", "failed", 0),
    ]
    attempts = await db.fetch(
        "SELECT DISTINCT outcome, error FROM jobsd.attempt a JOIN jobsd.run r ON r.id = a.run WHERE job <> 'often'"
    )
    assert [tuple(row.values()) for row in attempts] == [("interrupted", "the daemon is shutting down")]


@pytest.mark.req("C5", "P7")
async def test_the_third_signal_leaves_at_once_and_the_next_start_settles(daemon: Start, db: Db) -> None:
    node = await daemon(JOBS)
    for job in ("stubborn", "again"):
        await node.trigger(job)
        await node.traced(f"begun {job}")

    node.signal(signal.SIGTERM)
    await node.seen("draining")
    node.signal(signal.SIGTERM)
    await node.traced("ignored stubborn")
    node.signal(signal.SIGTERM)

    assert await node.exited() != 0
    node.release()
    await node.start()
    await node.seen("run_completed", job="again", attempt=2)
    states = await db.fetch("SELECT job, state FROM jobsd.run WHERE job <> 'often' ORDER BY id")
    assert [tuple(row.values()) for row in states] == [("stubborn", "failed"), ("again", "completed")]
    assert await node.stop() == 0


@pytest.mark.fault(23)
@pytest.mark.req("C5", "P3", "P11")
async def test_work_that_ignores_its_end_does_not_hold_the_daemon_for_ever_and_its_lock_goes_only_with_the_process(
    daemon: Start, db: Db
) -> None:
    node = await daemon(JOBS, settings={"daemon": {"drain": "200ms"}})
    run = await node.trigger("stubborn")
    await node.traced("begun stubborn")
    key = await db.fetchval("SELECT held FROM jobsd.run WHERE job = 'stubborn'")

    node.signal(signal.SIGTERM)
    await eventually(lambda: db.fetchval("SELECT state FROM jobsd.run WHERE job = 'stubborn'"), "failed")
    held_on = await locked(db, key)
    code = await node.exited()

    assert held_on == 1
    assert code == 1
    assert await db.fetchval("SELECT outcome FROM jobsd.attempt WHERE run = $1", run) == "interrupted"
    told = await node.seen("work_does_not_end")
    assert told["runs"] == [run]
    await eventually(lambda: locked(db, key), 0)
    await node.start()
    assert await node.stop() == 0


@pytest.mark.req("P12")
async def test_a_loop_that_dies_takes_the_process_down_with_all_that_it_runs(daemon: Start, db: Db) -> None:
    node = await daemon(JOBS)
    await node.trigger("again")
    await node.traced("begun again")

    await db.execute("ALTER TABLE jobsd.run RENAME COLUMN priority TO hidden")

    assert await node.exited() == 1
    await node.children_gone()
    died = await node.seen("loop_died")
    assert "priority" in died["error"]
    await db.execute("ALTER TABLE jobsd.run RENAME COLUMN hidden TO priority")
    node.release()
    await node.start()
    await node.seen("run_completed", job="again", attempt=2)
