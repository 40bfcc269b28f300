"""Runs that a program asks for in SQL, and a job's rate, on real daemons."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from jobsd.client import Run, enqueue, enqueue_many
from jobsd.store.db import Db
from tests.support.daemon import Daemon
from tests.support.eventually import eventually

Start = Callable[..., Awaitable[Daemon]]
WORK = """
[jobs.work]
command = ["true"]
concurrency = 8
params = { n = 0 }
"""
RATED = """
[jobs.rated]
command = ["false"]
concurrency = 8
rate = "3/s"
retry = { attempts = 1, backoff = "constant", base = "10ms" }
"""
OVER = "SELECT count(*) FROM jobsd.run WHERE finished_at IS NOT NULL"


@pytest.mark.req("B1", "D7", "F1", "F8", "P5")
async def test_what_a_program_commits_is_executed_also_when_the_daemon_is_killed_meanwhile(
    daemon: Start, db: Db
) -> None:
    node = await daemon(WORK)
    async with db.session() as session:
        async with session.con.transaction():
            first = await enqueue(session.con, "work", {"n": 1})
        await node.seen("run_completed", run=first)
        async with session.con.transaction():
            ids = await enqueue_many(session.con, "work", [Run({"n": n}, key=f"k{n}") for n in range(100)])
    await node.kill9()
    await node.start()

    await eventually(lambda: db.fetchval(OVER), 101)

    states = await db.fetch("SELECT id, state FROM jobsd.run WHERE id = ANY ($1::bigint[])", ids)
    assert len(states) == 100
    assert {row["state"] for row in states} <= {"completed", "failed"}  # failed: it ran when the daemon was killed


@pytest.mark.req("C4", "F2")
async def test_a_rate_holds_over_two_daemons_and_counts_retries(daemon: Start, db: Db) -> None:
    for name in ("a", "b"):
        await daemon(RATED, settings={"daemon": {"name": name}})

    async with db.session() as session:
        await enqueue_many(session.con, "rated", [Run()] * 6)
    await eventually(lambda: db.fetchval(OVER), 6)

    starts = [row["started_at"] for row in await db.fetch("SELECT started_at FROM jobsd.attempt ORDER BY started_at")]
    assert len(starts) == 12
    assert all(later - early >= timedelta(seconds=1) for early, later in zip(starts, starts[3:], strict=False))
