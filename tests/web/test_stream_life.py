"""How a stream lives and ends: with its client, with the daemon, without the database, and when a look goes wrong."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from jobsd.domain.events import Event as Observed
from jobsd.domain.events import Noted
from jobsd.domain.run import RunId
from jobsd.store.db import Db, Unavailable
from jobsd.store.migrate import migrate
from jobsd.web.app import build
from jobsd.web.listen import listening
from jobsd.web.patience import Patience
from tests.support.engine import enqueued
from tests.support.eventually import eventually
from tests.support.postgres import OwnServer
from tests.support.site import Site, site
from tests.support.sse import stream

JOBS = """
[jobs.import]
command = ["true"]
lock_key = "{run_id}"
"""


@pytest.fixture
async def here(db: Db) -> AsyncIterator[Site]:
    async with site(db, JOBS) as started:
        yield started


async def test_nobody_looks_when_nobody_follows(here: Site) -> None:
    async with stream(here.addresses.socket, "/events") as live:
        await live.placed()
        during = await looking()

    assert during
    await eventually(looking, False)


async def looking() -> bool:
    return any(task.get_name() == "feed" for task in asyncio.all_tasks())


async def test_a_stream_ends_whole_when_the_daemon_stops(here: Site) -> None:
    other, serving = here.folder / "other.sock", AsyncExitStack()
    await serving.enter_async_context(listening(build(here.deps), "127.0.0.1", 0, other))

    async with stream(other, "/events") as live:
        await live.placed()
        stopping = asyncio.create_task(serving.aclose())
        told = await live.next()
        await stopping

    assert told is None


async def test_a_client_that_does_not_read_is_let_go(here: Site) -> None:
    given_up: asyncio.Queue[Observed] = asyncio.Queue()
    deps = replace(here.deps, observe=given_up.put_nowait, patience=Patience(answer_s=0.3))
    async with listening(build(deps), "127.0.0.1", 0, here.folder / "other.sock"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(here.folder / "other.sock"))
            client.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            async with stream(here.folder / "other.sock", "/events") as reading:
                await reading.placed()
                while given_up.empty():
                    latest = max(await enqueued(here.db, "import", 1500))
                    await reading.until("run", id=latest)

    assert given_up.get_nowait() == Noted("client_too_slow", "info", {"path": "/api/v1/events"})


async def test_a_look_that_goes_wrong_ends_the_streams_and_the_next_one_starts_the_feed_anew(here: Site) -> None:
    seen: list[Observed] = []
    deps = replace(here.deps, observe=seen.append)
    async with listening(build(deps), "127.0.0.1", 0, here.folder / "other.sock"):
        async with stream(here.folder / "other.sock", "/events") as live:
            await live.placed()
            await here.db.execute("ALTER TABLE jobsd.audit RENAME TO elsewhere")
            await here.db.execute("SELECT pg_current_xact_id()")
            ended = await live.next()
            await here.db.execute("ALTER TABLE jobsd.elsewhere RENAME TO audit")
        async with stream(here.folder / "other.sock", "/events", live.last_id) as again:
            (run,) = await enqueued(here.db, "import")
            told = await again.until("run")

    assert ended is None
    assert [event.event for event in seen if isinstance(event, Noted)] == ["feed_failed"]
    assert [event.data["id"] for event in told] == [run]


@pytest.mark.req("E13")
async def test_a_stream_outlives_a_database_that_goes_away_and_misses_nothing(postgres_server: OwnServer) -> None:
    url = await postgres_server.database()
    await migrate(url)
    async with Db.open(url) as db, site(db, JOBS) as here, stream(here.addresses.socket, "/events") as live:
        await live.placed()
        postgres_server.stop()
        postgres_server.start()
        (run,) = await eventually_enqueued(db)
        told = await live.until("run")

    assert [event.data["id"] for event in told] == [run]


async def eventually_enqueued(db: Db) -> list[RunId]:
    """The first connections are of the server that was."""
    while True:
        try:
            return await enqueued(db, "import")
        except Unavailable:
            continue


async def test_streams_are_as_many_as_may_be_and_one_more_is_told_to_poll(here: Site) -> None:
    async with AsyncExitStack() as streams:
        for _ in range(100):
            await streams.enter_async_context(stream(here.addresses.socket, "/events"))
        with pytest.raises(AssertionError, match="E0528"):
            await streams.enter_async_context(stream(here.addresses.socket, "/events"))
