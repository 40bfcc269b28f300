"""A server that is there, and will not: out of connections, its tables locked, read-only for a while."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from jobsd.store.db import Db
from tests.faults.unharmed import JOBS, PATIENT, all_is_well, at_work
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.load import load
from tests.support.locked import shut
from tests.support.postgres import OwnServer, asked

Start = Callable[..., Awaitable[Daemon]]
Own = Callable[..., OwnServer]
FEW = {"max_connections": "12", "superuser_reserved_connections": "0", "max_wal_senders": "0"}
END_ITS_SESSIONS = """
    SELECT bool_and(pg_terminate_backend(pid, 20000))
      FROM pg_stat_activity
     WHERE application_name ~ '^jobsd (lock|work|listen) '
"""
FEWER_THAN_SIX = """
    SELECT count(*) BETWEEN 2 AND 5 FROM pg_stat_activity WHERE application_name ~ '^jobsd (lock|work|listen) '
"""
BEAT = "SELECT beat FROM jobsd.node WHERE state = 'live'"


class Hogs:
    """Takes every connection that the server has to give, and each that becomes free."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._taken: list[asyncpg.Connection] = []

    async def take(self) -> None:
        try:
            while True:
                self._taken.append(await asyncpg.connect(self._url))
        except asyncpg.TooManyConnectionsError:
            return

    async def ask(self, sql: str) -> object:
        return await self._taken[0].fetchval(sql)

    async def go(self) -> None:
        for con in self._taken:
            await con.close()
        self._taken.clear()


@pytest.mark.req("P6", "P5")
@pytest.mark.fault(21, 22)
async def test_without_a_free_connection_the_node_keeps_those_it_has_and_comes_back_when_there_is_one(
    daemon: Start, own_server: Own
) -> None:
    server = own_server(**FEW)
    url = await server.database()
    node = await daemon(JOBS, url=url, settings=PATIENT)
    await at_work(node)
    hogs = Hogs(url)
    async with load(node, "small") as asking:
        await asking.grows()
        await hogs.take()
        await asking.grows()
        node.signal(signal.SIGSTOP)  # or it has new sessions before the places of the old ones are taken
        ended = await hogs.ask(END_ITS_SESSIONS)
        await hogs.take()
        node.signal(signal.SIGCONT)
        lost = await node.seen("lock_session_lost")
        await refused(asking.refused, 2)
        await hogs.go()
        await node.seen("lock_session_adopted")
        await asking.grows()

    assert ended is True
    assert lost["level"] == "error"
    await all_is_well(node, url, asking)
    assert await node.stop() == 0


@pytest.mark.req("P6")
@pytest.mark.fault(21)
async def test_a_daemon_at_rest_has_fewer_than_six_connections(daemon: Start, own_server: Own) -> None:
    server = own_server()
    url = await server.database()
    await daemon(JOBS, url=url)

    async with Db.open(url, application_name="jobsd burst") as db:
        db.idle_s = 0.1
        await asyncio.gather(*(db.fetchval("SELECT pg_sleep(0.1)") for _ in range(4)))
        await db.fetchval("SELECT pg_sleep(0.3)")
        left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'jobsd burst'"
        await eventually(lambda: asked(url, left), 1)
    await eventually(lambda: asked(url, FEWER_THAN_SIX), True)


@pytest.mark.req("P6", "P12")
@pytest.mark.fault(20)
async def test_tables_that_somebody_locks_for_long_stop_no_heartbeat_and_nothing_for_ever(
    daemon: Start, own_server: Own
) -> None:
    server = own_server()
    url = await server.database()
    node = await daemon(JOBS, url=url, settings={**PATIENT, "database": {"statement_timeout": "1s"}})
    await at_work(node)
    async with Db.open(url) as db, load(node, "small") as asking:
        await asking.grows()
        async with db.session() as locking, locking.transaction():
            await shut(locking, "jobsd.run")
            await refused(asking.refused, 2)
            await node.seen("database_trouble", loop="claimer")
            beat = await db.fetchval(BEAT)
            await eventually(lambda: further(db, beat + 2), True)
        await asking.grows()

    assert not [line for line in node.lines if line["event"] == "lock_session_lost"]
    await all_is_well(node, url, asking)
    assert await node.stop() == 0


async def further(db: Db, beat: int) -> bool:
    return bool(await db.fetchval(f"SELECT ({BEAT}) >= $1", beat))


async def refused(statuses: list[int], times: int) -> None:
    async def so_often() -> bool:
        return len(statuses) >= times

    await eventually(so_often, True)


@pytest.mark.req("P6", "P5")
@pytest.mark.fault(7)
async def test_a_server_that_is_made_read_only_gets_no_work_and_ends_none_until_it_takes_writes_again(
    daemon: Start, own_server: Own
) -> None:
    server = own_server()
    url = await server.database()
    node = await daemon(JOBS, url=url, settings=PATIENT)
    await at_work(node)
    async with load(node, "small") as asking:
        await asking.grows()
        await server.set("default_transaction_read_only", "on")
        await node.seen("lock_session_lost")
        await refused(asking.refused, 2)
        ready = (await node.request("GET", "/readyz"))[0]
        await server.set("default_transaction_read_only", "off")
        await node.seen("lock_session_adopted")
        await asking.grows()

    assert ready == 503
    await all_is_well(node, url, asking)
    assert await node.stop() == 0
