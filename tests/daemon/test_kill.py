"""kill -9 in the middle of everything: the next start settles what the last one left, by evidence, and at once."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import orjson
import pytest

from jobsd.store.db import Db
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.webhook import Webhook, webhook

KINDS = ("in_loop", "plain", "apart", "command", "sql", "http")
Start = Callable[..., Awaitable[Daemon]]


def jobs(hook: Webhook, more: str = "") -> str:
    """One job for each executor, each of which would not end by itself; the command's grandchild leaves its session."""
    script = "setsid sh -c 'echo grandchild command $$ > traces; exec sleep 1000' & echo begun command 1 $$ > traces"
    return f"""
[jobs.in_loop]
handler = "tests.daemon.work:waits"
{more}
[jobs.plain]
handler = "tests.daemon.work:hangs_with_a_family"
{more}
[jobs.apart]
handler = "tests.daemon.work:hangs_apart"
isolation = "process"
{more}
[jobs.command]
command = ["sh", "-c", "[ $JOBSD_ATTEMPT = 2 ] || {{ {script}; sleep 1000; }}"]
{more}
[jobs.sql]
sql = "SELECT pg_sleep(1000) FROM slow"
{more}
[jobs.http]
http = {{ method = "POST", url = "http://{hook.address}/work" }}
{more}
"""


@pytest.fixture
async def hook() -> AsyncIterator[Webhook]:
    async with webhook(hang=True) as opened:
        yield opened


async def sleeping(db: Db) -> int:
    ours = "datname = current_database() AND query LIKE 'SELECT pg_sleep%'"
    return int(await db.fetchval(f"SELECT count(*) FROM pg_stat_activity WHERE {ours}"))


async def in_the_middle(daemon: Daemon, db: Db, hook: Webhook) -> set[int]:
    """Trigger them all and wait until each does its work; the processes that this made."""
    for kind in KINDS:
        await daemon.trigger(kind)
    await daemon.traced("begun in_loop")
    begun = [(await daemon.traced(f"begun {kind} 1"))[0] for kind in ("plain", "apart", "command")]
    grandchildren = [(await daemon.traced(f"grandchild {kind}"))[0] for kind in ("plain", "command")]
    await hook.posts.get()
    await eventually(lambda: sleeping(db), 1)
    return {int(pid) for pid in (*begun, *grandchildren)}


def living(pids: set[int]) -> set[int]:
    """Those that are there and no zombies, which only wait for their parent to look."""
    return {pid for pid in pids if "State:\tZ" not in _status(pid)}


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "State:\tZ"


@pytest.mark.fault(1, 26, 37)
@pytest.mark.req("P7", "C4", "C6", "P8")
async def test_runs_of_every_kind_that_kill_9_cut_are_lost_by_the_next_start_with_an_alert_and_nothing_lives_on(
    daemon: Start, db: Db, hook: Webhook
) -> None:
    await db.execute("CREATE TABLE public.slow AS SELECT 1")
    first = await daemon(jobs(hook, "retry = { attempts = 3 }"))
    pids = await in_the_middle(first, db, hook)
    assert living(pids) == pids

    await first.kill9()
    await first.start()

    assert living(pids) == set()
    await eventually(lambda: sleeping(db), 0)
    runs = await db.fetch("SELECT job, state, retries FROM jobsd.run")
    assert {(row["job"], row["state"], row["retries"]) for row in runs} == {(kind, "failed", 0) for kind in KINDS}
    attempts = await db.fetch("SELECT outcome, error, evidence, stale FROM jobsd.attempt")
    assert [(row["outcome"], row["stale"]) for row in attempts] == [("lost", False)] * len(KINDS)
    assert all("state directory" in orjson.loads(row["evidence"])["proof"] for row in attempts)
    alerts = await db.fetch("SELECT type, job FROM jobsd.alert")
    assert {(row["type"], row["job"]) for row in alerts} == {("JOB_LOST", kind) for kind in KINDS}
    assert await db.fetchval("SELECT count(*) FROM jobsd.claim WHERE fence > 0") == 0
    told = await first.seen("runs_lost")
    assert told["runs"] == len(KINDS)


@pytest.mark.fault(1, 37)
@pytest.mark.req("P7", "P8", "C4")
async def test_restartable_runs_that_kill_9_cut_are_queued_again_and_complete_without_using_a_retry(
    daemon: Start, db: Db, hook: Webhook
) -> None:
    await db.execute("CREATE TABLE public.slow AS SELECT 1")
    node = await daemon(jobs(hook, "restartable = true"))
    pids = await in_the_middle(node, db, hook)

    await node.kill9()
    await db.execute("DELETE FROM public.slow")
    hook.hang.set()
    await node.start()

    for kind in KINDS:
        await node.seen("run_completed", job=kind, attempt=2)
    assert living(pids) == set()
    runs = await db.fetch("SELECT job, state, attempt, retries FROM jobsd.run")
    assert {tuple(row.values()) for row in runs} == {(kind, "completed", 2, 0) for kind in KINDS}
    attempts = await db.fetch("SELECT run, outcome FROM jobsd.attempt ORDER BY run, number")
    assert [row["outcome"] for row in attempts] == ["lost", "completed"] * len(KINDS)
    fences = await db.fetch("SELECT max(fence) > min(fence) AS rises FROM jobsd.attempt GROUP BY run")
    assert all(row["rises"] for row in fences)
    acts = await db.fetch("SELECT act FROM jobsd.audit WHERE run = 1 ORDER BY sequence")
    assert [row["act"] for row in acts] == ["queued", "started", "requeued", "started", "completed"]


@pytest.mark.fault(1, 37)
@pytest.mark.req("P7", "P4")
async def test_a_daemon_that_is_killed_between_claim_and_settlement_again_and_again_ends_every_run_once(
    daemon: Start, db: Db
) -> None:
    work = 'command = ["sh", "-c", "echo begun $JOBSD_RUN_ID $JOBSD_FENCE > traces; sleep 0.2"]'
    node = await daemon(f'[jobs.quick]\n{work}\nlock_key = "{{run_id}}"\nrestartable = true\n')
    for _ in range(30):
        await node.trigger("quick")
    for begun in (5, 15, 25):
        await node.traced("begun", times=begun)
        await node.kill9()
        await node.start()

    await eventually(lambda: db.fetchval("SELECT count(*) FROM jobsd.run WHERE state = 'completed'"), 30)
    completed = "SELECT count(*) FROM jobsd.attempt WHERE outcome = 'completed' GROUP BY run"
    assert [row["count"] for row in await db.fetch(completed)] == [1] * 30
    begun_lines = await node.traced("begun")
    assert len(begun_lines) == len(set(begun_lines)) <= await db.fetchval("SELECT count(*) FROM jobsd.attempt")
