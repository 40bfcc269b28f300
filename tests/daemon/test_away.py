"""A database that is there and lets nobody in, or not under its name: the node fences itself and comes back."""

from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from tests.support.daemon import Daemon
from tests.support.postgres import OwnServer

Start = Callable[..., Awaitable[Daemon]]
SHORT = {"beat": "200ms", "deadline": "500ms", "adopt": "1s", "lease": "1500ms", "kill": "500ms", "rescue": "4s"}
JOBS = """
[jobs.ticks]
handler = "tests.daemon.work:ticks"
schedule = { every = "1s" }

[jobs.asks]
sql = "SELECT pg_sleep(0.2)"
schedule = { every = "1s" }
"""
END_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'jobsd'"


async def closed(admin: asyncpg.Connection) -> None:
    await admin.execute("ALTER DATABASE jobsd ALLOW_CONNECTIONS false")
    await admin.execute(END_ALL)


async def opened(admin: asyncpg.Connection) -> None:
    await admin.execute("ALTER DATABASE jobsd ALLOW_CONNECTIONS true")


async def renamed(admin: asyncpg.Connection) -> None:
    await closed(admin)
    while await admin.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = 'jobsd'"):
        pass
    await admin.execute("ALTER DATABASE jobsd RENAME TO elsewhere")


async def named_again(admin: asyncpg.Connection) -> None:
    await admin.execute("ALTER DATABASE elsewhere RENAME TO jobsd")
    await opened(admin)


@pytest.mark.req("P6")
@pytest.mark.parametrize(("goes", "comes"), [(closed, opened), (renamed, named_again)], ids=["closed", "renamed"])
async def test_a_daemon_outlives_a_database_that_lets_nobody_in(
    daemon: Start,
    postgres_server: OwnServer,
    goes: Callable[..., Awaitable[None]],
    comes: Callable[..., Awaitable[None]],
) -> None:
    url = await postgres_server.database()
    node = await daemon(JOBS, url=url, settings={"lease": SHORT})
    await node.traced("tick ticks")
    admin = await asyncpg.connect(postgres_server.url())

    await goes(admin)
    await node.seen("lock_session_fenced")
    await node.seen("database_trouble", loop="fence")
    ticked = len(await node.traced("tick ticks"))
    await comes(admin)
    await admin.close()

    await node.seen("lock_session_up", times=2)
    await node.traced("tick ticks", times=ticked + 2)
    assert not [line for line in node.lines if line["event"] in ("loop_died", "settlement_not_storable")]
    assert await node.stop() == 0
