"""The process survives every job: what one does to itself, to the loop or to its output harms no other."""

from collections.abc import Awaitable, Callable

import pytest

from jobsd.store.db import Db
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.locked import locked

Start = Callable[..., Awaitable[Daemon]]
WAYS = ("exit", "interrupt", "recurse", "garbage", "huge", "flood", "orphan", "cancel")

JOBS = """
[jobs.often]
handler = "tests.daemon.work:ticks"
schedule = { every = "1s", overlap = "wait" }

[jobs.flooding]
command = ["sh", "-c", "yes flood | head -c 300000000"]

[jobs.blocking]
handler = "tests.daemon.work:blocks_the_loop"

[jobs.stubborn]
handler = "tests.daemon.work:ignores"
timeout = "300ms"
grace = "100ms"
retry = { attempts = 1, base = "10ms", cap = "10ms" }
""" + "".join(f'[jobs.{way}]\nhandler = "tests.daemon.work:misbehaves"\nparams = {{ how = "{way}" }}\n' for way in WAYS)


@pytest.mark.fault(28, 29)
@pytest.mark.req("P11")
async def test_the_daemon_goes_on_whatever_a_job_raises_returns_or_writes(daemon: Start, db: Db) -> None:
    node = await daemon(JOBS)

    runs = {way: await node.trigger(way) for way in (*WAYS, "flooding")}
    await eventually(lambda: db.fetchval("SELECT count(finished_at) FROM jobsd.run WHERE job <> 'often'"), len(runs))
    ticked = len(await node.traced("tick often"))
    await node.traced("tick often", times=ticked + 2)

    rows = await db.fetch(
        "SELECT r.job, r.state, a.error_kind, length(a.output) AS kept"
        "  FROM jobsd.run r JOIN jobsd.attempt a ON a.run = r.id"
    )
    ended = {row["job"]: row for row in rows}
    assert {way: (ended[way]["state"], ended[way]["error_kind"]) for way in runs} == {
        "exit": ("failed", "SystemExit"),
        "interrupt": ("failed", "KeyboardInterrupt"),
        "recurse": ("failed", "RecursionError"),
        "garbage": ("failed", "result"),
        "huge": ("failed", "result"),
        "flood": ("completed", None),
        "orphan": ("completed", None),
        "cancel": ("failed", "CancelledError"),
        "flooding": ("completed", None),
    }
    assert 0 < ended["flooding"]["kept"] <= 64 * 1024 + 200
    assert (await node.request("GET", "/readyz"))[0] == 200
    assert await node.stop() == 0


@pytest.mark.req("P3", "P8", "C3")
async def test_runs_that_are_due_again_the_moment_they_fail_never_get_a_lock_that_is_being_given_back(
    daemon: Start, db: Db
) -> None:
    retry = "retry = { attempts = 10, base = '1ms', cap = '1ms' }"
    work = f'handler = "tests.daemon.work:misbehaves"\nparams = {{ how = "exit" }}\n{retry}'
    keys = ["one", "one", "one", *(f"own{number}" for number in range(5))]
    node = await daemon("".join(f'[jobs.job{n}]\n{work}\nlock_key = "{key}"\n' for n, key in enumerate(keys)))
    for number in (*range(8), *range(8)):
        await node.trigger(f"job{number}")

    await eventually(lambda: db.fetchval("SELECT count(*) FROM jobsd.run WHERE state = 'failed'"), 16)

    assert await db.fetchval("SELECT count(*) FROM jobsd.attempt") == 16 * 11
    assert not [line for line in node.lines if line["event"] in ("loop_died", "unlock_of_a_lock_not_held")]
    await eventually(lambda: locked(db), 0)


@pytest.mark.fault(25)
@pytest.mark.req("P11", "C6")
async def test_a_job_that_blocks_the_loop_is_named_with_its_frame_while_it_does_and_alerted(
    daemon: Start, db: Db
) -> None:
    node = await daemon(JOBS)
    run = await node.trigger("blocking")

    blocked = await node.seen("loop_blocked")
    resumed = await node.seen("loop_resumed")
    await node.seen("run_completed", run=run)
    await eventually(lambda: db.fetchval("SELECT count(*) FROM jobsd.alert WHERE type = 'HEALTH'"), 1)

    assert blocked["task"] == f"run {run} blocking"
    assert "in blocks_the_loop" in blocked["stack"]
    assert resumed["for_s"] > blocked["for_s"]
    ticked = len(await node.traced("tick often"))
    await node.traced("tick often", times=ticked + 1)


@pytest.mark.fault(23)
@pytest.mark.req("P11", "P3", "P8")
async def test_work_that_ignores_its_timeout_is_failed_and_keeps_lock_and_place_until_it_ends_so_its_retry_waits(
    daemon: Start, db: Db
) -> None:
    node = await daemon(JOBS, settings={"daemon": {"slots": 2}})
    run = await node.trigger("stubborn")
    other = await node.trigger("stubborn")
    await node.traced("begun stubborn 1")

    told = await node.seen("run_ignores_cancellation", run=run)
    await eventually(lambda: db.fetchval("SELECT state FROM jobsd.run WHERE id = $1", run), "queued")
    ticked = len(await node.traced("tick often"))
    await node.traced("tick often", times=ticked + 2)
    waiting = await db.fetch(
        "SELECT state, attempt FROM jobsd.run WHERE id = ANY ($1::bigint[]) ORDER BY id", [run, other]
    )
    key = await db.fetchval("SELECT lock_key FROM jobsd.run WHERE id = $1", run)
    held = await locked(db, key)
    begun = len(await node.traced("begun stubborn"))
    alerted = "SELECT run FROM jobsd.alert WHERE type = 'HEALTH' AND job = 'stubborn'"
    await eventually(lambda: db.fetchval(alerted), run)
    node.release()
    await node.seen("run_ended_at_last", run=run)
    await node.seen("run_completed", run=run, attempt=2)
    await node.seen("run_completed", run=other)

    assert told["for_s"] >= 0.3
    assert [tuple(row.values()) for row in waiting] == [("queued", 1), ("queued", 0)]
    assert (held, begun) == (1, 1)
    about = [line for line in node.traces if "stubborn" in line and "ignored" not in line]
    assert [line.split()[0] for line in about] == ["begun", "ended"] * 3
    outcomes = await db.fetch("SELECT outcome FROM jobsd.attempt WHERE run = $1 ORDER BY number", run)
    assert [row["outcome"] for row in outcomes] == ["timed_out", "completed"]
    await eventually(lambda: locked(db, key), 0)
    assert await node.stop() == 0
