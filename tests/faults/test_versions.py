"""Two versions at a time: of the registry on two nodes, of a job while its runs wait and run, of the schema."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from jobsd.domain.errors import Exit
from jobsd.store import migrate
from jobsd.store.db import Db
from tests.support.daemon import Daemon
from tests.support.eventually import eventually

Start = Callable[..., Awaitable[Daemon]]
SHARED = """
[jobs.shared]
handler = "tests.daemon.work:ticks"
schedule = { every = "1s", overlap = "wait" }
"""
ONLY = """
[jobs.only_%s]
handler = "tests.daemon.work:ticks"
schedule = { every = "1s", overlap = "wait" }
"""
HELD = """
[jobs.changes]
command = ["sh", "-c", "echo begun %s $JOBSD_RUN_ID > traces; until [ -e go ]; do sleep 0.02; done"]
lock_key = "%s"
timeout = "%s"
"""
NEXT = """
ALTER TABLE jobsd.run ADD COLUMN of_the_next_version text;
CREATE INDEX run_of_the_next_version ON jobsd.run (of_the_next_version);
"""
DONE = "SELECT count(*) FROM jobsd.run WHERE job = $1 AND state = 'completed'"
TWICE = (
    "SELECT count(*) FROM (SELECT FROM jobsd.run WHERE slot_at IS NOT NULL GROUP BY job, slot_at HAVING count(*) > 1) t"
)


async def _more(db: Db, job: str, than: int) -> bool:
    return int(await db.fetchval(DONE, job)) > than


@pytest.mark.req("P2", "P3", "C2")
@pytest.mark.fault(35)
async def test_nodes_with_different_registries_claim_what_each_knows_and_the_difference_shows(
    daemon: Start, db: Db
) -> None:
    one = await daemon(SHARED + ONLY % "one", settings={"daemon": {"name": "one"}})
    two = await daemon(SHARED + ONLY % "two", settings={"daemon": {"name": "two"}})

    for job in ("shared", "only_one", "only_two"):
        await eventually(lambda job=job: _more(db, job, 2), True)

    told = {node: {line["job"] for line in node.lines if line["event"] == "run_started"} for node in (one, two)}
    assert "only_two" not in told[one]
    assert "only_one" not in told[two]
    assert await db.fetchval(TWICE) == 0
    _, listed = await one.request("GET", "/api/v1/nodes")
    two.write(SHARED + ONLY % "one")
    assert (await two.request("POST", "/api/v1/reload"))[0] == 200
    _, alike = await one.request("GET", "/api/v1/nodes")
    assert len({node["registry"] for node in listed["items"]}) == 2
    assert len({node["registry"] for node in alike["items"]}) == 1


@pytest.mark.req("P3", "P5")
@pytest.mark.fault(34)
async def test_a_job_that_changes_or_goes_while_it_runs_and_waits_ends_as_it_began_and_what_waits_waits(
    daemon: Start, db: Db
) -> None:
    node = await daemon(HELD % ("old", "old", "1h"))
    running = await node.trigger("changes")
    await node.traced(f"begun old {running}")
    waiting = await node.trigger("changes")

    node.write(HELD % ("new", "new", "2h"))
    assert (await node.request("POST", "/api/v1/reload"))[0] == 200
    queued = await db.fetchval("SELECT state FROM jobsd.run WHERE id = $1", waiting)
    node.write("")
    assert (await node.request("POST", "/api/v1/reload"))[0] == 200
    node.release()
    await node.seen("run_completed", run=running, attempt=1)
    gone = await db.fetchval("SELECT state FROM jobsd.run WHERE id = $1", waiting)
    node.write(HELD % ("new", "new", "2h"))
    assert (await node.request("POST", "/api/v1/reload"))[0] == 200
    await node.seen("run_completed", run=waiting, attempt=1)

    assert (queued, gone) == ("queued", "queued")
    assert await node.traced(f"begun new {waiting}")
    outcomes = await db.fetch("SELECT outcome FROM jobsd.attempt")
    assert [row["outcome"] for row in outcomes] == ["completed"] * 2


@pytest.mark.req("P5", "P6")
@pytest.mark.fault(36)
async def test_a_daemon_goes_on_while_the_next_version_migrates_and_does_not_start_on_what_it_does_not_know(
    daemon: Start, db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await daemon(SHARED + HELD % ("old", "old", "1h"))
    run = await old.trigger("changes")
    await old.traced(f"begun old {run}")
    shipped = migrate.shipped()
    number = max(m.number for m in shipped if m.pack == migrate.CORE) + 1
    checksum = hashlib.sha256(NEXT.encode()).hexdigest()
    newer = migrate.Migration(migrate.CORE, number, "of_the_next_version", NEXT, checksum)
    monkeypatch.setattr(migrate, "shipped", lambda packs=None: [*shipped, newer])

    applied = await asyncio.gather(*(migrate.migrate(db.url) for _ in range(2)))
    done = await db.fetchval(DONE, "shared")
    await eventually(lambda: _more(db, "shared", done + 1), True)
    old.release()
    await old.seen("run_completed", run=run, attempt=1)
    ended = await old.stop()
    await old.start(ready=False)

    assert [m.number for each in applied for m in each] == [number]
    assert ended == 0
    assert await old.exited() == Exit.BAD_START
    assert f"error[E0306]: database schema {number:04d} is newer than this jobsd" in "\n".join(old.said)
    bad = ("lock_session_lost", "run_failed", "run_refused", "loop_died")
    assert not [line for line in old.lines if line["event"] in bad]


@pytest.mark.req("P7")
@pytest.mark.fault(1)
async def test_two_daemons_on_one_state_directory_are_refused_and_the_first_goes_on(daemon: Start, db: Db) -> None:
    first = await daemon(SHARED)
    second = await daemon("", settings={"daemon": {"state_dir": str(first.state_dir)}}, ready=False)

    assert await second.exited() == Exit.BAD_START
    assert f"error[E0405]: another jobsd (pid {first.pid})" in "\n".join(second.said)
    assert Path(first.socket).exists()
    await eventually(lambda: _more(db, "shared", 0), True)
