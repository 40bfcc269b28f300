"""What a real daemon says of itself, and how it comes through the loss of its database."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from jobsd.store.db import Db
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.postgres import OwnServer
from tests.support.webhook import webhook

Start = Callable[..., Awaitable[Daemon]]
Own = Callable[..., OwnServer]

JOBS = """
[jobs.command]
command = ["sh", "-c", "echo begun command $JOBSD_ATTEMPT $$ > traces; until [ -e go ]; do sleep 0.02; done"]
restartable = true

[jobs.in_loop]
handler = "tests.daemon.work:waits"

[jobs.often]
handler = "tests.daemon.work:ticks"
schedule = { every = "1s", overlap = "wait" }
"""
METRICS = (
    "job_runs_total",
    "job_failures_total",
    "job_duration_ms_bucket",
    "jobsd_slot_lag_seconds_bucket",
    "jobsd_pickup_seconds_bucket",
    "jobsd_slots_total",
    "jobsd_queue_depth",
    "jobsd_oldest_queued_seconds",
    "jobsd_last_success_timestamp_seconds",
    "jobsd_running",
    "jobsd_fenced_total",
    "jobsd_lost_total",
    "jobsd_loop_last_advance_timestamp_seconds",
    "jobsd_event_loop_lag_seconds",
    "jobsd_lock_session_up",
    "jobsd_unwritten_settlements",
    "jobsd_spooled_settlements",
    "jobsd_canary_seconds",
    "jobsd_config_last_reload_success",
    "jobsd_alerts_total",
)
SHORT = {"beat": "200ms", "deadline": "500ms", "adopt": "1s", "lease": "1500ms", "kill": "500ms", "rescue": "4s"}


async def ready(node: Daemon) -> int:
    return (await node.request("GET", "/readyz"))[0]


async def two_runs(node: Daemon) -> list[int]:
    runs = []
    for job in ("command", "in_loop"):
        runs.append(await node.trigger(job))
        await node.traced(f"begun {job}")
    return runs


async def tables(db: Db) -> dict[str, str]:
    """Everything that is stored in the schema."""
    found = await db.fetch("SELECT relname FROM pg_class WHERE relnamespace = 'jobsd'::regnamespace AND relkind = 'r'")
    names = [row["relname"] for row in found]
    return {name: await db.fetchval(f"SELECT string_agg(t::text, '') FROM jobsd.{name} t") or "" for name in names}


@pytest.mark.req("C5")
async def test_probes_and_metrics_answer_on_both_listeners_and_changes_only_on_the_socket(daemon: Start) -> None:
    node = await daemon(JOBS)
    await node.seen("run_completed", job="often")
    url = (await node.seen("ready"))["url"]

    async with aiohttp.ClientSession(url) as tcp:
        for path in ("/livez", "/readyz", "/healthz", "/metrics", "/api/v1/status"):
            async with tcp.get(path) as answer:
                assert (answer.status, (await node.request("GET", path))[0]) == (200, 200), path
        async with tcp.post("/api/v1/jobs/often/runs", json={}) as answer:
            refused = await answer.json()
        async with tcp.get("/metrics") as answer:
            text = await answer.text()
    health = (await node.request("GET", "/healthz"))[1]

    assert (answer.status, refused["status"], refused["code"]) == (200, 401, "E0402")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    missing = [name for name in METRICS if not any(line.startswith((f"{name}{{", f"{name} ")) for line in lines)]
    assert missing == []
    assert 'job_runs_total{job="often",outcome="completed"}' in text
    assert health["components"]["lock_session"]["verdict"] == health["components"]["loops"]["verdict"] == "healthy"


@pytest.mark.req("P6", "P3", "C4")
@pytest.mark.fault(4)
async def test_a_quick_restart_of_the_server_or_a_cut_lock_session_kills_no_run_and_runs_nothing_twice(
    daemon: Start, own_server: Own
) -> None:
    server = own_server()
    node = await daemon(JOBS, url=await server.database())
    await two_runs(node)

    async with Db.open(server.url("jobsd")) as db:
        await db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ '^jobsd lock'"
        )
        await node.seen("lock_session_adopted")
        await eventually(lambda: ready(node), 200)
        await asyncio.to_thread(server.stop)
    await node.seen("lock_session_lost", times=2)
    while_down, alive = await ready(node), (await node.request("GET", "/livez"))[0]
    health = (await node.request("GET", "/healthz"))[1]
    await asyncio.to_thread(server.start)
    await node.seen("lock_session_adopted", times=2)
    await eventually(lambda: ready(node), 200)
    ticked = len(await node.traced("tick often"))
    await node.traced("tick often", times=ticked + 2)
    node.release()
    for job in ("command", "in_loop"):
        await node.seen("run_completed", job=job, attempt=1)

    assert (while_down, alive) == (503, 200)
    assert health["verdict"] == health["components"]["database"]["verdict"] == "critical"
    ticks = await node.traced("tick often")
    assert len(ticks) == len(set(ticks))
    assert not [line for line in node.lines if line["event"] in ("lock_session_fenced", "run_refused")]
    assert await node.stop() == 0
    async with Db.open(server.url("jobsd")) as db:
        assert await db.fetchval("SELECT count(*) FROM jobsd.attempt WHERE outcome <> 'completed'") == 0


@pytest.mark.req("P6", "P3", "P7")
@pytest.mark.fault(4, 9)
async def test_a_server_that_stays_away_fences_the_node_which_ends_what_it_runs_and_comes_back_by_itself(
    daemon: Start, own_server: Own
) -> None:
    server = own_server()
    node = await daemon(JOBS, url=await server.database(), settings={"lease": SHORT})
    runs = await two_runs(node)

    await asyncio.to_thread(server.stop)
    await node.seen("lock_session_fenced")
    await node.children_gone()
    in_vain = await ready(node)
    (first,) = await node.traced("begun command 1")
    gone = not Path(f"/proc/{first}").exists()
    await asyncio.to_thread(server.start)
    await node.seen("lock_session_up", times=2)
    await node.traced("begun command 2")
    await eventually(lambda: ready(node), 200)
    metrics = (await node.request("GET", "/metrics"))[1]
    node.release()
    await node.seen("run_completed", job="command", attempt=2)

    assert (in_vain, gone) == (503, True)
    assert not [line for line in node.lines if line["event"] == "unlock_of_a_lock_not_held"]
    assert "\njobsd_fenced_total 1.0\n" in metrics
    assert await node.stop() == 0, node.log_end()
    async with Db.open(server.url("jobsd")) as db:
        rows = await db.fetch("SELECT job, state, retries FROM jobsd.run WHERE job <> 'often' ORDER BY id")
        assert [tuple(row.values()) for row in rows] == [("command", "completed", 0), ("in_loop", "failed", 0)]
        lost = await db.fetch("SELECT run FROM jobsd.attempt WHERE outcome = 'lost' AND NOT stale ORDER BY run")
        assert [row["run"] for row in lost if row["run"] in runs] == runs
        assert await db.fetchval("SELECT count(*) FROM jobsd.alert WHERE type = 'JOB_LOST' AND job = 'in_loop'") == 1


@pytest.mark.req("C5", "A7", "C8")
async def test_no_secret_is_in_the_log_the_metrics_the_api_or_the_database(
    daemon: Start, db: Db, database_url: str
) -> None:
    canaries = ["canary-1-database", "canary-2-channel", "canary-3-parameter", "canary-4-header"]
    url = database_url.replace("//postgres@", f"//postgres:{canaries[0]}@")
    assert url != database_url
    async with webhook() as hook:
        jobs = f"""
[alerts.channels.ops]
url = "json://ops:{canaries[1]}@{hook.address}"

[jobs.fails]
command = ["sh", "-c", "echo the parameter is $JOBSD_PARAMS >&2; exit 3"]
params = {{ token = "${{TOKEN}}" }}

[jobs.raises]
handler = "tests.daemon.work:raises_what_it_knows"
params = {{ token = "${{TOKEN}}" }}

[jobs.http]
http = {{ url = "http://{hook.address}/x", headers = {{ Authorization = "Bearer ${{HEADER}}" }} }}
"""
        node = await daemon(jobs, url=url, environ={"TOKEN": canaries[2], "HEADER": canaries[3]})
        runs = [await node.trigger(job) for job in ("fails", "raises", "http")]
        for run in runs[:2]:
            await node.seen("run_failed", run=run)
        await node.seen("run_completed", run=runs[2])
        await node.seen("alert_told", channel="ops", times=2)
        posts = str([hook.posts.get_nowait() for _ in range(hook.posts.qsize())])  # alerts due together go together
        node.write(jobs.replace("exit 3", "exit 4").replace("[jobs.http]", "[jobs.other]"))
        node.signal(signal.SIGHUP)
        await node.seen("registry_reloaded")
        node.signal(signal.SIGUSR1)
        await node.seen("state")
        lists = [
            "/metrics",
            "/healthz",
            "/readyz",
            *(f"/api/v1/{name}" for name in ("jobs", "runs", "status", "health")),
        ]
        shown = [f"/api/v1/jobs/{job}{end}" for job in ("fails", "raises") for end in ("", "/why", "/slots")]
        shown += [f"/api/v1/runs/{run}{end}" for run in runs for end in ("", "/attempts", "/audit", "/messages")]
        answers = {path: str((await node.request("GET", path))[1]) for path in (*lists, *shown)}
        assert await node.stop() == 0

    texts = {**answers, "log": str(node.lines), "stderr": str(node.said), "notes": str(node.notes)}
    own_words = (
        "attempt",
        "message",
        "alert",
        "audit",
    )  # what jobs wrote is stored word for word, and masked when shown
    stored = await tables(db)
    texts |= {"posts": posts} | {name: text for name, text in stored.items() if name not in own_words}
    texts |= {name: stored[name].replace(canaries[2], "") for name in own_words}
    found = {(place, canary) for place, text in texts.items() for canary in canaries if canary in text}
    assert found == set()
    assert "fails: exited with 3" in posts
    assert "raises: ConnectionError" in posts
