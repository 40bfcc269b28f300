"""Several hosts in one URL: each connection goes to one that takes writes, whatever becomes of the others."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from jobsd.domain.errors import JobsdError
from jobsd.store import durability
from jobsd.store.db import Db, ReadOnly, Unavailable, connect
from tests.support.daemon import Daemon
from tests.support.pair import Pair
from tests.support.postgres import OwnServer, asked

Start = Callable[..., Awaitable[Daemon]]
MakePair = Callable[..., Awaitable[Pair]]
RECOVERING = "SELECT pg_is_in_recovery()"
WRITE = "INSERT INTO jobsd.lock_key (name) VALUES ($1)"


class Hanging:
    """A host that takes connections and never says a word."""

    def __init__(self) -> None:
        self.port = 0
        self.asked = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self) -> asyncio.Server:
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        self._writers.append(writer)
        await reader.read()

    def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


@pytest.fixture
async def hanging() -> AsyncIterator[Hanging]:
    host = Hanging()
    async with await host.serve():
        yield host
        host.close()


def url_of(*hosts: object, database: str = "jobsd") -> str:
    """Sockets' folders, and ports of loopback."""
    names = ",".join("127.0.0.1" if isinstance(host, int) else str(host) for host in hosts)
    ports = ",".join(str(host) if isinstance(host, int) else "5432" for host in hosts)
    return f"postgresql://postgres@/{database}?host={names}&port={ports}"


@pytest.mark.req("P6")
@pytest.mark.fault(7, 8, 21)
async def test_hosts_that_hang_refuse_are_full_or_cannot_be_written_are_passed_over(
    pair: MakePair, own_server: Callable[..., OwnServer], hanging: Hanging
) -> None:
    servers = await pair()
    full = own_server(max_connections="2", superuser_reserved_connections="0", max_wal_senders="0")
    hogs = [await asyncpg.connect(full.url()) for _ in range(2)]
    bad = (hanging.port, 1, full.server.socket_dir, servers.standby.server.socket_dir)
    url = url_of(*bad, servers.primary.server.socket_dir)

    first = await connect(url, application_name="test", timeout_s=30)
    asked_first = hanging.asked
    second = await connect(url, application_name="test", timeout_s=30)

    assert [await con.fetchval(RECOVERING) for con in (first, second)] == [False, False]
    assert hanging.asked == asked_first, "the host that answered last is asked first"
    for con in (first, second, *hogs):
        await con.close()


@pytest.mark.req("P6", "C8")
@pytest.mark.fault(7)
async def test_standbys_alone_are_e0304_once_the_time_is_over_and_their_promotion_ends_the_wait(
    daemon: Start, pair: MakePair
) -> None:
    servers = await pair()
    url = servers.standby.url("jobsd")

    too_long = await daemon(url=url, settings={"database": {"connect_timeout": "500ms"}}, ready=False)
    code = await too_long.exited()
    node = await daemon(url=url, settings={"database": {"connect_timeout": "25s"}}, ready=False)
    await node.seen("waiting_for_database")
    await servers.promote()
    await node.notified("READY", "1")

    assert code == 7
    assert "\n".join(too_long.said).startswith("error[E0304]: no server at ")
    assert await node.stop() == 0


@pytest.mark.req("P6", "P5")
@pytest.mark.fault(7, 6)
async def test_a_session_on_a_server_that_became_read_only_is_left_at_once_for_one_that_takes_writes(
    pair: MakePair,
) -> None:
    servers = await pair()
    async with Db.open(servers.url()) as db:
        assert await durability.losses(db) == ["no standby is synchronous: a failover loses what it has not received"]
        await db.execute(WRITE, "before")
        await servers.primary.set("default_transaction_read_only", "on")
        with pytest.raises(ReadOnly):
            await asked_twice(db, "in vain")
        await servers.promote()

        await db.execute(WRITE, "after")

        assert await asked(servers.standby.url("jobsd"), "SELECT count(*) FROM jobsd.lock_key") == 2


async def asked_twice(db: Db, name: str) -> None:
    """The first goes to a session that does not know yet; the second has to connect."""
    try:
        await db.execute(WRITE, name)
    except Exception as first:
        assert "read-only" in str(first)
    await db.execute(WRITE, name)


@pytest.mark.req("P6", "P5")
@pytest.mark.fault(7, 6)
async def test_a_former_primary_that_still_takes_writes_is_left_once_a_newer_timeline_has_been_seen(
    pair: MakePair,
) -> None:
    servers = await pair()
    async with Db.open(servers.url()) as db:
        async with db.session() as busy:
            await db.execute(WRITE, "on the first")
            await servers.promote()  # and nobody tells the first, which answers as before

            db.mistrust(2)  # what the lock session has found

            with pytest.raises(Exception, match="closed"):
                await busy.execute(WRITE, "too late")
        await db.execute(WRITE, "on the second")

        assert await asked(servers.primary.url("jobsd"), "SELECT max(name) FROM jobsd.lock_key") == "on the first"
        assert await asked(servers.standby.url("jobsd"), "SELECT max(name) FROM jobsd.lock_key") == "on the second"
        await asyncio.to_thread(servers.standby.stop)
        with pytest.raises(Unavailable, match="a former primary: timeline 1, and 2 has been seen"):
            await connect(servers.url(), application_name="test")


@pytest.mark.req("C8")
async def test_a_url_for_reading_only_or_with_ports_that_do_not_match_is_e0302() -> None:
    wrong = {
        "postgresql://a,b/app?target_session_attrs=standby": 'target_session_attrs=read-write, got "standby"',
        "postgresql:///app?host=a,b,c&port=1,2": "one for each of 3 hosts, got 2",
    }
    for url, words in wrong.items():
        with pytest.raises(JobsdError) as refused:
            await connect(url, application_name="test")
        assert (refused.value.problems[0].code, words in str(refused.value)) == ("E0302", True)
