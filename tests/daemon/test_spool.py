"""Outcomes that the database could not take outlive the outage, the fence and the daemon, and nothing runs twice."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from jobsd.store.db import Db
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.locked import shut
from tests.support.postgres import OwnServer

Start = Callable[..., Awaitable[Daemon]]
Own = Callable[..., OwnServer]

JOBS = """
[jobs.waits]
handler = "tests.daemon.work:waits"
restartable = true
retry = { attempts = 3 }

[jobs.command]
command = ["sh", "-c", "echo begun command $JOBSD_ATTEMPT > traces; until [ -e go ]; do sleep 0.02; done; exit 3"]
restartable = true
"""
SHORT = {"beat": "200ms", "deadline": "500ms", "adopt": "1s", "lease": "1500ms", "kill": "500ms", "rescue": "4s"}
PATIENT = {"beat": "200ms", "deadline": "1s", "adopt": "40s", "lease": "45s", "kill": "1s", "rescue": "60s"}


async def finished_without_database(node: Daemon, server: OwnServer) -> tuple[int, int]:
    """Two runs, one that completes and one that fails, while the server is stopped."""
    runs = await node.trigger("waits"), await node.trigger("command")
    await node.traced("begun waits")
    await node.traced("begun command")
    await asyncio.to_thread(server.stop)
    await node.seen("lock_session_lost")
    node.release()
    await node.traced("ended waits")
    await eventually(lambda: spooled(node), 2)
    return runs


async def spooled(node: Daemon) -> int:
    return len(list((node.state_dir / "spool").glob("*.json")))


async def ends(url: str) -> list[tuple[Any, ...]]:
    async with Db.open(url) as db:
        rows = await db.fetch("SELECT job, state, attempts, retries, error_kind, result FROM jobsd.runs ORDER BY id")
        return [(*list(row.values())[:5], orjson.loads(row["result"] or "null")) for row in rows]


async def attempts(url: str) -> list[str]:
    async with Db.open(url) as db:
        return [row["outcome"] for row in await db.fetch("SELECT outcome FROM jobsd.attempts ORDER BY run, started_at")]


REQUEUED = "state = 'queued', ready = true, held = NULL, node = NULL"
ONCE = [("waits", "completed", 1, 0, None, "waited"), ("command", "failed", 1, 0, "exit", None)]


@pytest.mark.req("P5", "P7")
@pytest.mark.fault(14, 4, 1)
async def test_what_ended_while_the_database_was_away_is_settled_as_it_ended_though_its_daemon_was_killed(
    daemon: Start, own_server: Own
) -> None:
    server = own_server()
    url = await server.database()
    node = await daemon(JOBS, url=url, settings={"lease": PATIENT})
    await finished_without_database(node, server)
    modes = {path.stat().st_mode & 0o777 for path in (node.state_dir / "spool").glob("*.json")}

    await node.kill9()
    await asyncio.to_thread(server.start)
    await node.start()

    assert modes == {0o600}
    assert await ends(url) == ONCE
    assert await attempts(url) == ["completed", "failed"]
    await eventually(lambda: spooled(node), 0)
    assert (await node.traced("begun waits"), await node.traced("begun command")) == (["1"], ["1"])
    assert not [line for line in node.lines if line["event"] == "runs_lost"]
    async with Db.open(url) as db:
        assert [row["type"] for row in await db.fetch("SELECT type FROM jobsd.alert")] == ["JOB_FAILED"]
        assert await db.fetchval("SELECT count(*) FROM jobsd.claim WHERE fence > 0") == 0


@pytest.mark.req("P5", "P6", "P4")
@pytest.mark.fault(14, 4)
async def test_what_ended_before_the_node_was_fenced_is_settled_as_it_ended_when_it_stands_again(
    daemon: Start, own_server: Own
) -> None:
    server = own_server()
    url = await server.database()
    node = await daemon(JOBS, url=url, settings={"lease": SHORT, "database": {"statement_timeout": "3s"}})
    await node.trigger("waits")
    await node.trigger("command")
    await node.traced("begun waits")
    await node.traced("begun command")
    async with Db.open(url) as db, db.session() as session:
        await session.execute("BEGIN")
        await shut(session, "jobsd.attempt")  # no settlement is taken; the lock session stands
        node.release()
        await eventually(lambda: spooled(node), 2)
        await asyncio.to_thread(server.stop)
    await node.seen("lock_session_fenced")
    unwritten = (await node.request("GET", "/healthz"))[1]["components"]["settlements"]

    await asyncio.to_thread(server.start)
    await node.seen("run_completed", job="waits", attempt=1)
    await node.seen("run_failed", job="command", attempt=1)

    assert unwritten["figures"]["unwritten"] == unwritten["figures"]["spooled"] == 2
    assert await ends(url) == ONCE
    assert await attempts(url) == ["completed", "failed"]
    await eventually(lambda: spooled(node), 0)
    again = await node.trigger("waits")
    await node.seen("run_completed", run=again)


@pytest.mark.req("P4", "P5")
async def test_an_outcome_whose_run_has_moved_on_meanwhile_is_kept_as_stale(daemon: Start, own_server: Own) -> None:
    server = own_server()
    url = await server.database()
    node = await daemon(JOBS, url=url, settings={"lease": PATIENT})
    waits, _ = await finished_without_database(node, server)
    await node.kill9()
    await asyncio.to_thread(server.start)
    async with Db.open(url) as db:  # as a rescue by another node does
        await db.execute(
            "UPDATE jobsd.run SET state = 'queued', ready = true, held = NULL, node = NULL WHERE id = $1", waits
        )

    await node.start()
    await node.seen("run_refused", run=waits)
    await node.seen("run_completed", run=waits, attempt=2)

    assert await attempts(url) == ["rejected, stale", "completed", "failed"]
    await eventually(lambda: spooled(node), 0)


@pytest.mark.req("P5")
@pytest.mark.fault(15, 14)
async def test_a_spool_that_cannot_be_written_stops_neither_job_nor_settler_and_health_says_so(
    daemon: Start, own_server: Own
) -> None:
    server = own_server()
    url = await server.database()
    node = await daemon(JOBS, url=url, settings={"lease": PATIENT})
    (node.state_dir / "spool").touch()  # a file where the folder should be: refused for root too
    runs = await node.trigger("waits"), await node.trigger("command")
    await node.traced("begun waits")
    await node.traced("begun command")
    await asyncio.to_thread(server.stop)
    await node.seen("lock_session_lost")
    node.release()
    told = await node.seen("outcomes_not_spooled")
    health = (await node.request("GET", "/healthz"))[1]

    await asyncio.to_thread(server.start)
    for run, event in zip(runs, ("run_completed", "run_failed"), strict=True):
        await node.seen(event, run=run)

    assert told["folder"] == str(node.state_dir / "spool")
    assert health["components"]["settlements"]["verdict"] == "degraded"
    assert "not kept on disk" in health["components"]["settlements"]["text"]
    assert len([line for line in node.lines if line["event"] == "outcomes_not_spooled"]) == 1
    assert await ends(url) == ONCE


@pytest.mark.req("P5")
@pytest.mark.fault(15, 37)
async def test_a_spooled_outcome_that_cannot_be_read_or_is_another_database_s_is_set_aside_and_the_start_goes_on(
    daemon: Start, own_server: Own
) -> None:
    server = own_server()
    url = await server.database()
    node = await daemon(JOBS, url=url, settings={"lease": PATIENT})
    await finished_without_database(node, server)
    await node.kill9()
    await asyncio.to_thread(server.start)
    folder = node.state_dir / "spool"
    whole = min(folder.glob("*.json"))
    (folder / "7-7.json").write_bytes(whole.read_bytes()[:100])
    (folder / "8-8.json.new").write_bytes(b"{")
    foreign = orjson.loads(whole.read_bytes()) | {"node": 4711}
    foreign["run"] |= {"id": 9, "fence": 9}
    (folder / "9-9.json").write_bytes(orjson.dumps(foreign))

    await node.start()

    assert (await node.seen("spooled_outcome_unreadable"))["file"] == str(folder / "7-7.json")
    assert (await node.seen("spooled_outcomes_foreign"))["runs"] == [9]
    assert await ends(url) == ONCE
    await eventually(lambda: _names(folder), {"7-7.json.corrupt", "9-9.json.foreign"})


async def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.req("P5")
@pytest.mark.fault(14)
async def test_an_enqueue_that_the_database_does_not_take_is_answered_503_and_never_201(
    daemon: Start, own_server: Own
) -> None:
    server = own_server()
    node = await daemon(JOBS, url=await server.database(), settings={"lease": PATIENT})
    await asyncio.to_thread(server.stop)
    await node.seen("lock_session_lost")

    status, answer = await node.request("POST", "/api/v1/jobs/waits/runs", {})

    assert (status, answer["code"]) == (503, "E0511")
