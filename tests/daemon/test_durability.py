"""A start says what of the acknowledged the server's settings allow to be lost."""

from collections.abc import Awaitable, Callable

import pytest

from jobsd.store import durability
from jobsd.store.db import Db
from tests.support.daemon import Daemon
from tests.support.postgres import OwnServer

Start = Callable[..., Awaitable[Daemon]]


@pytest.mark.req("P5")
@pytest.mark.fault(6)
async def test_a_server_that_may_lose_what_it_acknowledged_is_told_of_at_the_start_and_no_other(
    daemon: Start, own_server: Callable[..., OwnServer]
) -> None:
    server = own_server(fsync="off")
    url = await server.database()
    async with Db.open(url) as db:
        assert await durability.losses(db) == []
    await server.set("synchronous_commit", "off")

    node = await daemon(url=url)

    told = await node.seen("commits_may_be_lost", level="warning")
    assert told["reason"] == "synchronous_commit is off: a crash of the server loses the last commits"
