"""The lock session's keeper while the database is away."""

import asyncio
from collections.abc import Callable

import pytest

from jobsd.store import locks
from jobsd.store.db import Db, Unavailable
from tests.support.engine import node, quick
from tests.support.postgres import OwnServer

SESSIONS = """
    SELECT count(*) FROM pg_stat_activity WHERE application_name = 'jobsd lock one' AND datname = current_database()
"""


@pytest.mark.req("P6", "P12")
async def test_a_keeper_that_tries_to_reach_the_database_does_not_count_as_hung(
    own_server: Callable[..., OwnServer],
) -> None:
    server = own_server()
    async with Db.open(await server.database()) as db, node(db, lease=quick(adopt=0.5)) as here:
        fenced: asyncio.Queue[str] = asyncio.Queue()
        here.keeper.on_fenced = fenced.put_nowait
        await asyncio.to_thread(server.stop)
        await asyncio.wait_for(fenced.get(), 10)
        before = here.pulse._last["lock session"]

        with pytest.raises(Unavailable):
            await here.keeper.open()

        assert here.pulse._last["lock session"] > before


@pytest.mark.req("P6")
async def test_a_session_that_does_not_become_ours_gives_back_what_it_took(
    db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(db) as here:
        here.keeper._loop.call_soon_threadsafe(here.keeper._fence, "told so")

        async def taken(*_: object) -> bool:
            return False

        with monkeypatch.context() as patch, pytest.raises(Unavailable, match="is held by another session"):
            patch.setattr(locks, "try_node", taken)
            await here.keeper.open()
        registered = here.keeper.registered
        async with asyncio.timeout(10):
            while await db.fetchval(SESSIONS):
                pass
        await here.keeper.open()

        assert (registered, here.keeper.registered) == (False, True)
        assert await db.fetchval(SESSIONS) == 1
