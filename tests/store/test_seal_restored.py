"""The chain survives a dump and a restore into a cluster whose transaction ids are far behind."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from jobsd.domain.chain import FIRST, wrong_with
from jobsd.store import jobs, seal
from jobsd.store.db import Db
from jobsd.store.seal import Sealed, Waiting
from tests.support.postgres import OwnServer
from tests.support.roles import psql, tool

FAR_AHEAD = 20_000


async def noted(db: Db, count: int) -> None:
    for _ in range(count):
        await jobs.audit(db, "noted", "unix:alice")


async def holds(db: Db) -> int:
    """How many entries the chain covers; fails where it does not hold."""
    before, entries = FIRST, 0
    for link, found in await seal.links(db, 0, 1000, 1_000_000):
        assert wrong_with(before, link, found) is None
        before, entries = link, entries + link.entries
    return entries


USE_UP = f"""
    DO $$
    BEGIN
        WHILE pg_current_xact_id()::text::bigint < {FAR_AHEAD} LOOP COMMIT; END LOOP;
    END $$
"""


async def dumped(url: str, file: Path) -> None:
    process = await asyncio.create_subprocess_exec(tool("pg_dump"), "-d", url, "-f", str(file))
    assert await process.wait() == 0


@pytest.mark.req("P10")
async def test_after_a_restore_into_a_younger_cluster_the_chain_holds_and_goes_on(
    own_server: Callable[..., OwnServer], tmp_path: Path
) -> None:
    old, young = own_server(), own_server()
    await old.database()
    async with Db.open(old.url("jobsd")) as db:
        await db.execute(USE_UP)
        await noted(db, 3)
        assert isinstance(await seal.seal(db, "node:old", 100), Sealed)
        await noted(db, 2)
        assert await db.fetchval("SELECT min(tx) FROM jobsd.audit") >= FAR_AHEAD
    await dumped(old.url("jobsd"), tmp_path / "dump.sql")
    await young.server.create_database("jobsd")
    await psql(young.url("jobsd"), "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", str(tmp_path / "dump.sql"))

    async with Db.open(young.url("jobsd")) as db:
        assert await db.fetchval("SELECT pg_current_xact_id()::text::bigint") < FAR_AHEAD
        restored = await holds(db)
        await noted(db, 4)  # before any node is up: by jobsd.enqueue(), say
        made, since = list[Sealed](), None
        while (await seal.unsealed(db, await seal.head(db))).entries:
            answer = await seal.seal(db, "node:young", 100, since)
            since = answer.since if isinstance(answer, Waiting) else None
            made += [answer] if isinstance(answer, Sealed) else []
        await noted(db, 1)
        last = await seal.seal(db, "node:young", 100)

        assert restored == 3
        assert [each.entries for each in made] == [6], "what was restored without a seal, and what was written since"
        assert isinstance(last, Sealed)
        assert await holds(db) == 10
