"""PostgreSQL is shut down in each of its ways, killed, and loses single sessions: no running job ends for that, nothing
that was acknowledged is lost, and nothing is done twice."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from jobsd.store.db import Db
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.load import Load, load
from tests.support.postgres import OwnServer

Start = Callable[..., Awaitable[Daemon]]
Own = Callable[..., OwnServer]

# Longer than any restart here takes, however busy the machine.
PATIENT = {"lease": {"adopt": "50s", "lease": "52s", "rescue": "60s"}, "daemon": {"slots": 50}}
JOBS = """
[jobs.command]
command = ["sh", "-c", "echo begun command $JOBSD_ATTEMPT > traces; until [ -e go ]; do sleep 0.05; done"]

[jobs.in_loop]
handler = "tests.daemon.work:waits"

[jobs.small]
handler = "tests.daemon.work:ticks"
lock_key = "{run_id}"
"""
SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE $1 ORDER BY backend_start"
TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE $1"


async def at_work(node: Daemon) -> None:
    for job in ("command", "in_loop"):
        await node.trigger(job)
        await node.traced(f"begun {job} 1")


async def all_is_well(node: Daemon, asking: Load, url: str) -> None:
    """What ran goes on to its end at the first attempt; what was acknowledged is there, once, and done, once."""
    node.release()
    for job in ("command", "in_loop"):
        await node.seen("run_completed", job=job, attempt=1)
    async with Db.open(url) as db:
        await eventually(lambda: db.fetchval("SELECT count(*) FROM jobsd.run WHERE state <> 'completed'"), 0)
        await eventually(lambda: db.fetchval("SELECT count(*) FROM jobsd.claim"), 0)
        rows = await db.fetch("SELECT id, idempotency_key AS key, attempt FROM jobsd.run WHERE job = 'small'")
        attempts = await db.fetch("SELECT run, outcome FROM jobsd.attempts")
    assert {row["key"]: row["id"] for row in rows if row["key"] in asking.acknowledged} == asking.acknowledged
    done = Counter(row["run"] for row in attempts if row["outcome"] == "completed")
    assert set(done.values()) == {1}
    assert {row["outcome"] for row in attempts} <= {"completed", "lost"}
    ticks = Counter(await node.traced("tick small"))
    assert set(ticks) == {str(row["id"]) for row in rows}
    assert set(ticks.values()) == {1}, "a claim whose answer was lost has not begun, and is not an execution"
    assert not [line for line in node.lines if line["event"] in ("lock_session_fenced", "run_refused")]


@pytest.mark.req("P6", "P5", "P3", "C4")
@pytest.mark.fault(4, 5, 10)
async def test_a_server_that_is_shut_down_in_any_way_or_killed_costs_no_run_and_no_answer(
    daemon: Start, own_server: Own
) -> None:
    server = own_server()
    node = await daemon(JOBS, url=await server.database(), settings=PATIENT)
    await at_work(node)
    async with load(node, "small") as asking:
        await asking.grows()
        os.kill(server.server.pid, signal.SIGTERM)  # smart: nobody new, and who is there may stay
        await eventually(lambda: refused(server.url()), True)
        await asking.grows()
        ways = (lambda: server.end(signal.SIGINT), lambda: server.end(signal.SIGQUIT), server.kill9)
        for times, ends in enumerate(ways, 1):
            await asyncio.to_thread(ends)
            await node.seen("lock_session_lost", times=times)
            await asyncio.to_thread(server.start)
            await node.seen("lock_session_adopted", times=times)
            await asking.grows()

    assert set(asking.refused) <= {503}
    await all_is_well(node, asking, server.url("jobsd"))
    assert await node.stop() == 0


async def refused(url: str) -> bool:
    try:
        con = await asyncpg.connect(url)
    except asyncpg.CannotConnectNowError:
        return True
    await con.close()
    return False


@pytest.mark.req("P6", "P5", "P3", "C4")
@pytest.mark.fault(5, 10, 13)
async def test_single_sessions_that_are_ended_or_killed_are_replaced_and_cost_no_run_and_no_answer(
    daemon: Start, own_server: Own
) -> None:
    server = own_server()
    url = await server.database()
    node = await daemon(JOBS, url=url, settings=PATIENT)
    await at_work(node)
    async with load(node, "small") as asking:
        await asking.grows()
        (listening,) = await pids(url, "jobsd listen %")
        for kind in ("work", "listen"):
            await ended(url, f"jobsd {kind} %")
            await asking.grows()
        await eventually(lambda: replaced(url, "jobsd listen %", listening), True)
        untouched = [line for line in node.lines if line["event"] == "lock_session_lost"]
        await ended(url, "jobsd lock %")
        await node.seen("lock_session_adopted")
        await asking.grows()
        os.kill((await pids(url, "jobsd work %"))[0], signal.SIGKILL)  # the server then ends and restarts all others
        await node.seen("lock_session_adopted", times=2)
        await asking.grows()

    assert untouched == []
    await all_is_well(node, asking, url)
    assert await node.stop() == 0


async def pids(url: str, name: str) -> list[int]:
    async with Db.open(url) as db:
        return [row["pid"] for row in await db.fetch(SESSIONS, name)]


async def ended(url: str, name: str) -> None:
    async with Db.open(url) as db:
        assert await db.fetch(TERMINATE, name)


async def replaced(url: str, name: str, pid: int) -> bool:
    there = await pids(url, name)
    return bool(there) and pid not in there
