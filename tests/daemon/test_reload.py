"""Reading the configuration again while everything runs: all of it or nothing, and nothing that runs is disturbed."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from itertools import pairwise

import orjson
import pytest

from jobsd.store.db import Db
from tests.support.command import jobsd
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.postgres import OwnServer

Start = Callable[..., Awaitable[Daemon]]

BEFORE = """
[jobs.kept]
handler = "tests.daemon.work:ticks"
schedule = { every = "1s" }

[jobs.long]
handler = "tests.daemon.work:waits"
timeout = "1m"

[jobs.leaving]
handler = "tests.daemon.work:ticks"
schedule = { every = "1s" }

[jobs.going]
command = ["sh", "-c", "echo begun going $JOBSD_ATTEMPT > traces; until [ -e go ]; do sleep 0.02; done"]
retry = { attempts = 2 }
"""
AFTER = """
[jobs.kept]
handler = "tests.daemon.work:ticks"
schedule = { every = "1s" }
priority = "high"

[jobs.long]
handler = "tests.daemon.work:waits"
timeout = "2m"

[jobs.new]
handler = "tests.daemon.work:ticks"
schedule = { every = "1s" }
"""


@pytest.mark.req("C5", "C1", "P1")
async def test_hup_takes_up_the_new_registry_whole_while_runs_go_on_and_schedules_keep_their_place(
    daemon: Start, db: Db
) -> None:
    node = await daemon(BEFORE)
    for job in ("long", "going"):
        await node.trigger(job)
        await node.traced(f"begun {job}")
    await node.traced("tick kept", times=2)
    await node.traced("tick leaving")

    node.write(AFTER)
    node.signal(signal.SIGHUP)
    told = await node.seen("registry_reloaded")
    await node.traced("tick new", times=2)
    leaving = await db.fetchval("SELECT count(*) FROM jobsd.slot WHERE job = 'leaving'")
    seen = len(await node.traced("tick kept"))
    await node.traced("tick kept", times=seen + 2)
    node.release()

    await node.seen("run_completed", job="long", attempt=1)
    await node.seen("run_completed", job="going", attempt=1)
    assert (told["added"], told["changed"], told["removed"]) == (["new"], ["kept", "long"], ["going", "leaving"])
    assert await db.fetchval("SELECT count(*) FROM jobsd.slot WHERE job = 'leaving'") == leaving
    assert await db.fetchval("SELECT count(*) FROM jobsd.schedule WHERE job = 'leaving'") == 0
    entry = await db.fetchrow("SELECT actor, detail FROM jobsd.audit WHERE act = 'reloaded'")
    assert entry is not None
    detail = orjson.loads(entry["detail"])
    assert entry["actor"] == "signal:SIGHUP"
    assert detail["plan"] == "+1 added ~2 changed -2 removed"
    assert sorted(detail["changes"]) == ["jobs.kept.priority: 5 -> 3", "jobs.long.timeout: 1m -> 2m"]
    ledger = await db.fetch(
        "SELECT slot_at, to_at, count, decision FROM jobsd.slot WHERE job = 'kept' ORDER BY slot_at"
    )
    gaps = [(later["slot_at"] - slot["to_at"]).total_seconds() for slot, later in pairwise(ledger)]
    assert set(gaps) == {1.0}
    assert [key for key, _ in node.notes if key in ("RELOADING", "READY")] == ["READY", "RELOADING", "READY"]


@pytest.mark.req("C5", "C1", "C6", "E12")
@pytest.mark.fault(31)
async def test_a_wrong_file_changes_nothing_and_is_told_in_log_audit_alert_metric_and_health(
    daemon: Start, db: Db
) -> None:
    node = await daemon(BEFORE)
    before = await node.request("GET", "/api/v1/jobs/long")

    node.write(AFTER.replace("timeout", "timeuot").replace('"1s"', '"0s"'))
    node.signal(signal.SIGHUP)
    told = await node.seen("registry_rejected")
    await node.seen("alert_told", alert="CONFIG_REJECTED")
    ticked = len(await node.traced("tick leaving"))
    await node.traced("tick leaving", times=ticked + 1)
    metrics = (await node.request("GET", "/metrics"))[1]
    health = (await node.request("GET", "/healthz"))[1]

    assert 'error[E0204]: unknown key "timeuot"' in told["error"]
    assert told["error"].count("error[E02") == 3
    assert await node.request("GET", "/api/v1/jobs/long") == before
    assert "\njobsd_config_last_reload_success 0.0\n" in metrics
    assert health["components"]["reload"]["verdict"] == "degraded"
    assert await db.fetchval("SELECT count(*) FROM jobsd.audit WHERE act = 'reload_refused'") == 1
    assert await db.fetchval("SELECT count(*) FROM jobsd.alert WHERE type = 'CONFIG_REJECTED'") == 1
    assert await db.fetchval("SELECT count(*) FROM jobsd.job WHERE name = 'new'") == 0

    node.write(AFTER)
    ended = await asyncio.to_thread(jobsd, "reload", "-o", "table", "--socket", str(node.socket), cwd=node.folder)

    assert (ended.code, ended.out.splitlines()[0]) == (0, "+1 added ~2 changed -2 removed")
    assert "\njobsd_config_last_reload_success 1.0\n" in (await node.request("GET", "/metrics"))[1]
    assert (await node.request("GET", "/healthz"))[1]["components"]["reload"]["verdict"] == "healthy"


@pytest.mark.req("C5")
async def test_settings_that_need_a_restart_are_named_and_the_others_count_at_once(daemon: Start, db: Db) -> None:
    node = await daemon(BEFORE)
    node.settings = {
        "daemon": {"slots": 3, "dry_run": True, "drain": "5s"},
        "http": {"port": 8620},
        "log": {"level": "info"},
    }

    node.write(BEFORE)
    node.signal(signal.SIGHUP)
    told = await node.seen("settings_need_a_restart")
    run = await node.trigger("going")
    await node.seen("run_completed", run=run)

    assert sorted(told["settings"]) == ["daemon.slots", "http.port", "log.level"]
    assert await db.fetchval("SELECT result FROM jobsd.attempt WHERE run = $1", run) is not None
    assert "begun going 1" not in node.traces


@pytest.mark.req("C5", "P1", "P2")
async def test_reloads_that_add_and_remove_jobs_while_these_run_harm_nothing_and_lose_no_run(
    daemon: Start, db: Db
) -> None:
    tick = 'command = ["true"]\nschedule = { every = "1s" }\n'
    steady = f"[jobs.steady]\n{tick}"
    flickering = "".join(f"[jobs.flicker{number}]\n{tick}" for number in range(10))
    node = await daemon(steady + flickering)

    for number in range(6):
        for job in range(10) if number % 2 == 0 else ():
            await node.request("POST", f"/api/v1/jobs/flicker{job}/runs", {})
        node.write(steady + (flickering if number % 2 else ""))
        status, answer = await node.request("POST", "/api/v1/reload", {"reason": f"round {number}"})
        assert status == 200, answer
    slots = await db.fetchval("SELECT count(*) FROM jobsd.slot WHERE job = 'steady'")
    await eventually(lambda: db.fetchval("SELECT count(*) >= $1 FROM jobsd.slot WHERE job = 'steady'", slots + 2), True)

    await eventually(lambda: db.fetchval("SELECT count(*) FROM jobsd.run WHERE state = 'running'"), 0)
    assert not [line for line in node.lines if line["event"] in ("loop_died", "run_refused")]
    twice = "SELECT count(*) FROM jobsd.attempt GROUP BY run HAVING count(*) > 1"
    assert await db.fetch(twice) == []
    outcomes = await db.fetch("SELECT DISTINCT outcome, error_kind FROM jobsd.attempt")
    assert {tuple(row.values()) for row in outcomes} <= {("completed", None), ("failed", "start")}
    assert await node.stop() == 0


@pytest.mark.req("C5", "P6")
async def test_a_reload_while_the_database_is_away_changes_nothing_and_works_later(
    daemon: Start, own_server: Callable[..., OwnServer]
) -> None:
    server = own_server()
    url = await server.database()
    node = await daemon(BEFORE, url=url)
    await asyncio.to_thread(server.stop)

    node.write(AFTER)
    node.signal(signal.SIGHUP)
    await node.seen("signal_not_served")
    shown = (await node.request("GET", "/metrics"))[1]
    await asyncio.to_thread(server.start)
    await node.seen("lock_session_adopted")
    node.signal(signal.SIGHUP)
    await node.seen("registry_reloaded")

    assert 'jobsd_running{job="leaving"}' in shown
    assert 'jobsd_running{job="new"}' not in shown
    await node.traced("tick new")
    assert node.notes[-1][0] != "RELOADING"
