"""PostgreSQL is shut down in each of its ways, killed, and loses single sessions: no running job ends for that, nothing
that was acknowledged is lost, and nothing is done twice."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from jobsd.store.db import Db
from tests.faults.unharmed import JOBS, PATIENT, all_is_well, at_work
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.load import load
from tests.support.postgres import OwnServer

Start = Callable[..., Awaitable[Daemon]]
Own = Callable[..., OwnServer]

SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE $1 ORDER BY backend_start"
TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE $1"


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

    await all_is_well(node, server.url("jobsd"), asking)
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
    await all_is_well(node, url, asking)
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
