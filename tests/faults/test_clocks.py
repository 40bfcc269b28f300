"""Wall clocks that step and differ, of nodes and of the server, and a machine that sleeps (P1, P2, P6, P7).

When slots are due the database's clock says. Limits and leases go by clocks that nobody sets.
"""

import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobsd.store.db import Db
from tests.support.clock import Clock, database, needs_faketime
from tests.support.daemon import Daemon
from tests.support.eventually import eventually

Start = Callable[..., Awaitable[Daemon]]
HOUR_S, TEN_YEARS_S = 3600, 10 * 365 * 86400
LEASE = {"beat": "200ms", "deadline": "1s", "adopt": "3s", "lease": "4s", "kill": "1s", "rescue": "8s"}
JOBS = """
[jobs.often]
handler = "tests.daemon.work:ticks"
schedule = { every = "1s", overlap = "wait" }

[jobs.asked]
handler = "tests.daemon.work:ticks"

[jobs.goes_on]
command = ["sh", "-c", "echo begun goes_on > traces; until [ -e go ]; do sleep 0.02; done"]
timeout = "10m"

[jobs.limited]
command = ["sh", "-c", "echo begun limited > traces; sleep 1000"]
timeout = "2s"
grace = "100ms"
"""
STOOD_FOR = """
    SELECT coalesce(sum(count), 0) >= $1 FROM jobsd.slot WHERE job = 'often' AND decision IN ('coalesced', 'too_old')
"""
NOT_SO = ("lock_session_lost", "lock_session_fenced", "runs_lost", "run_refused")


@pytest.fixture
def clock() -> Iterator[Clock]:
    folder = Path(tempfile.mkdtemp(prefix="jobsd-c-"))
    yield Clock(folder)
    shutil.rmtree(folder)


@pytest.fixture
def other_clock() -> Iterator[Clock]:
    folder = Path(tempfile.mkdtemp(prefix="jobsd-c-"))
    yield Clock(folder)
    shutil.rmtree(folder)


async def ticks(node: Daemon, more: int = 2) -> None:
    """Wait until it has done so many more."""
    done = sum(line.startswith("tick often") for line in node.traces)
    await node.traced("tick often", times=done + more)


async def slots_are_whole(db: Db) -> None:
    """Each slot from the first to the last is decided, once; and no slot has two runs."""
    rows = await db.fetch("SELECT slot_at, to_at, count FROM jobsd.slot WHERE job = 'often' ORDER BY 1")
    assert {(later["slot_at"] - slot["to_at"]).total_seconds() for slot, later in pairwise(rows)} <= {1.0}
    assert sum(row["count"] for row in rows) == (rows[-1]["to_at"] - rows[0]["slot_at"]).total_seconds() + 1
    twice = (
        "SELECT count(*) FROM (SELECT FROM jobsd.run WHERE job = 'often' GROUP BY slot_at HAVING count(*) > 1) AS it"
    )
    assert await db.fetchval(twice) == 0


def nothing_happened(*nodes: Daemon) -> None:
    assert not [line for node in nodes for line in node.lines if line["event"] in NOT_SO]


@needs_faketime
@pytest.mark.req("P1", "P2", "P6", "P7")
@pytest.mark.fault(16, 17)
async def test_node_clocks_that_differ_and_step_by_hours_and_years_change_neither_slots_nor_limits_nor_leases(
    daemon: Start, db: Db, clock: Clock, other_clock: Clock
) -> None:
    other_clock.set(-7 * 60)
    settings: dict[str, Any] = {"lease": LEASE, "daemon": {"name": "one"}}
    one = await daemon(JOBS, settings=settings, environ=clock.environ)
    two = await daemon("", settings={**settings, "daemon": {"name": "two"}}, environ=other_clock.environ)
    await one.trigger("goes_on")
    await one.traced("begun goes_on")

    for number, offset_s in enumerate((HOUR_S, -HOUR_S, TEN_YEARS_S), 1):
        await one.trigger("limited")
        await one.traced("begun limited", times=number)
        clock.set(offset_s)
        await ticks(one)
        await one.seen("run_failed", job="limited", outcome="timed_out", times=number)
    beats = await db.fetchval("SELECT min(beat) FROM jobsd.node")
    await eventually(lambda: db.fetchval("SELECT min(beat) > $1 FROM jobsd.node", beats), True)
    one.release()
    await one.seen("run_completed", job="goes_on", attempt=1)

    await slots_are_whole(db)
    assert await db.fetchval("SELECT max(slot_at) <= now() FROM jobsd.slot")
    lasted = "SELECT max(ended_at - started_at) < '10 min' AND min(ended_at - started_at) >= '0' FROM jobsd.attempt"
    assert await db.fetchval(lasted)
    assert await db.fetchval("SELECT count(*) FROM jobsd.node WHERE state = 'live'") == 2
    nothing_happened(one, two)


@needs_faketime
@pytest.mark.req("P1", "P2", "P6", "P7")
@pytest.mark.fault(16)
async def test_a_server_clock_that_steps_makes_no_burst_and_loses_no_slot_and_touches_no_lease_and_no_limit(
    daemon: Start, clock: Clock
) -> None:
    with clock.server() as server:
        url = await database(server)
        one = await daemon(JOBS, url=url, settings={"lease": LEASE, "daemon": {"name": "one"}})
        two = await daemon("", url=url, settings={"lease": LEASE, "daemon": {"name": "two"}})
        async with Db.open(url) as db:
            await one.trigger("goes_on")
            await one.traced("begun goes_on")
            await ticks(one)

            await one.trigger("limited")
            await one.traced("begun limited")
            clock.set(HOUR_S)
            await eventually(lambda: db.fetchval(STOOD_FOR, HOUR_S - 100), True)
            await ticks(one)
            await one.seen("run_failed", job="limited", outcome="timed_out")
            await one.trigger("limited")
            await one.traced("begun limited", times=2)
            clock.set(0)
            asked = await one.trigger("asked")
            await one.seen("run_completed", run=asked)
            await one.seen("run_failed", job="limited", outcome="timed_out", times=2)
            made = await db.fetchval("SELECT count(*) FROM jobsd.run WHERE job = 'often'")
            clock.set(2 * HOUR_S)
            await eventually(lambda: db.fetchval(STOOD_FOR, 2 * HOUR_S - 300), True)
            await ticks(one)
            one.release()
            await one.seen("run_completed", job="goes_on", attempt=1)

            await slots_are_whole(db)
            decided = await db.fetchval("SELECT sum(count) FROM jobsd.slot WHERE job = 'often'")
            runs = await db.fetchval("SELECT count(*) FROM jobsd.run WHERE job = 'often'")
            assert decided > 2 * HOUR_S
            assert await db.fetchval("SELECT min(ended_at - started_at) >= '0' FROM jobsd.attempt")
            assert made <= runs < HOUR_S / 10
            assert await db.fetchval("SELECT count(*) FROM jobsd.node WHERE state = 'live'") == 2
            nothing_happened(one, two)


@pytest.mark.req("P3", "P4", "P7")
@pytest.mark.fault(3)
async def test_after_a_sleep_longer_than_the_lease_what_was_rescued_meanwhile_ends_and_writes_nothing(
    daemon: Start, db: Db
) -> None:
    jobs = """
[jobs.sleeper]
command = ["sh", "-c", "echo begun $JOBSD_ATTEMPT $$ > traces; until [ -e go ]; do sleep 0.02; done"]
restartable = true
"""
    one = await daemon(jobs, settings={"lease": LEASE, "daemon": {"name": "one"}})
    run = await one.trigger("sleeper")
    (pid,) = await one.traced("begun 1")
    two = await daemon(jobs, settings={"lease": LEASE, "daemon": {"name": "two"}})

    machine = psutil.Process(one.pid)
    asleep = [machine, *machine.children(recursive=True)]
    for process in asleep:
        with suppress(psutil.NoSuchProcess):  # the shell's own short sleeps come and go
            process.send_signal(signal.SIGSTOP)
    await two.seen("runs_lost", node="one")
    await two.traced("begun 2")
    assert str(pid) in {str(process.pid) for process in asleep}
    one.release()  # it would complete at once
    for process in reversed(asleep):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)
    await one.seen("lock_session_fenced")
    await one.children_gone()
    await one.seen("lock_session_up", times=2)
    two.release()
    await two.seen("run_completed", run=run, attempt=2)

    assert not Path(f"/proc/{pid}").exists()
    attempts = await db.fetch("SELECT outcome FROM jobsd.attempt WHERE run = $1 AND NOT stale ORDER BY number", run)
    assert [row["outcome"] for row in attempts] == ["lost", "completed"]
    assert not [line for line in one.lines if line["event"] == "run_completed"]
