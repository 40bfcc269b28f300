"""A real daemon as the runtime role of sql/roles.sql: nothing that it does needs more than that."""

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from jobsd.store.db import Db
from tests.packs.analytics.conftest import EXTRACT
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.postgres import OwnServer
from tests.support.roles import as_login, granted, logins
from tests.support.settled import settled
from tests.support.webhook import webhook

Start = Callable[..., Awaitable[Daemon]]

JOBS = """
[jobs.loop]
handler = "tests.daemon.work:writes_exactly_once"
params = {{ stop = "never" }}
keep = {{ latest = 1 }}

[jobs.plain]
handler = "tests.daemon.work:writes_exactly_once_plainly"
params = {{ stop = "never" }}

[jobs.apart]
handler = "tests.daemon.work:writes_exactly_once"
isolation = "process"
params = {{ stop = "never" }}

[jobs.command]
command = ["true"]

[jobs.sql]
sql = "INSERT INTO effect VALUES (current_setting('jobsd.run_id')::bigint, 'sql', 1)"
rate = "100/min"
max_active = 10
concurrency = 2

[jobs.http]
http = {{ method = "POST", url = "http://{hook}/work" }}

[jobs.outside]
external = true

[jobs.fails]
command = ["false"]

[jobs.every]
command = ["true"]
schedule = {{ every = "1s" }}

[jobs.waits]
handler = "tests.daemon.work:waits"
timeout = "1h"
restartable = true

[jobs.import_events]
handler = "jobsd.packs.analytics.importing:import_events"
params = {{ format = "oulad", folder = "{events}" }}

[jobs.analytics_jobs]
handler = "jobsd.packs.analytics.aggregating:analytics_jobs"

[jobs.generate_signals]
handler = "jobsd.packs.analytics.deriving:generate_signals"
"""
QUICK = ("loop", "plain", "apart", "command", "sql", "http", "import_events", "analytics_jobs", "generate_signals")
STATE = "SELECT state FROM jobsd.runs WHERE id = $1"


async def server_of(server: OwnServer) -> tuple[str, str]:
    """The database as its superuser and as the runtime's login, with a table of the application."""
    url = await server.database()
    await granted(url)
    await logins(url)
    con = await asyncpg.connect(url)
    await con.execute("CREATE TABLE effect (run bigint NOT NULL, stop text, attempt int); GRANT ALL ON effect TO app")
    await con.close()
    return url, as_login(url, "app")


async def ask(daemon: Daemon, method: str, path: str, body: object = None) -> dict[str, Any]:
    status, answer = await daemon.request(method, f"/api/v1{path}", body)
    assert status < 300, answer
    return dict(answer)


def denied(daemon: Daemon) -> list[str]:
    """What the log tells of a privilege that was missing."""
    return [
        str(line) for line in [*daemon.lines, *daemon.said] if "denied" in str(line) or "must be owner" in str(line)
    ]


@pytest.mark.req("P10", "C8")
async def test_it_runs_jobs_of_every_kind_and_all_acts_of_people(daemon: Start, postgres_server: OwnServer) -> None:
    url, app = await server_of(postgres_server)
    async with webhook() as hook, Db.open(url) as db:
        here = await daemon(JOBS.format(hook=hook.address, events=EXTRACT), url=app)
        here.release("begin")
        for job in QUICK:
            run = await here.trigger(job, tags={"kind": job})
            await eventually(lambda run=run: db.fetchval(STATE, run), "completed", patience_s=90)  # type: ignore[misc]
        failed = await here.trigger("fails")
        await here.seen("job_failed", run=failed)
        outside = await ask(here, "POST", "/jobs/outside/runs", {"start": True})
        held = {"fence": outside["fence"]}
        await ask(here, "POST", f"/runs/{outside['id']}/progress", {**held, "progress": 0.5})
        await ask(here, "POST", f"/runs/{outside['id']}/messages", {**held, "level": "info", "text": "half way"})
        await ask(here, "POST", f"/runs/{outside['id']}/complete", held)
        await ask(here, "POST", f"/runs/{failed}/retry", {"reason": "mended"})
        await here.seen("run_failed", run=failed, attempt=2)
        await ask(here, "POST", f"/runs/{failed}/cancel", {"reason": "nobody needs it"})
        await ask(here, "DELETE", f"/runs/{failed}?reason=done")
        await ask(here, "POST", "/jobs/command/disable", {"for": "1s", "reason": "a moment"})
        waits = await here.trigger("waits")
        await here.traced("begun waits")
        await ask(here, "POST", f"/runs/{waits}/force-fail", {"reason": "hangs"})
        await eventually(lambda: db.fetchval(STATE, waits), "failed")
        await ask(here, "POST", "/tokens", {"name": "web", "scope": "trigger", "reason": "a page"})
        await ask(here, "DELETE", "/tokens/web?reason=gone")
        await ask(here, "GET", "/audit/verify")
        await here.seen("slot_decided", job="every", decision="ran")
        assert await here.stop() == 0

        assert denied(here) == []
        assert await db.fetchval("SELECT count(*) FROM public.effect") == 4
        assert await db.fetchval("SELECT count(*) FROM analytics.event") > 1000


@pytest.mark.req("P10", "P7", "C7")
async def test_it_rescues_clears_and_seals(daemon: Start, postgres_server: OwnServer) -> None:
    url, app = await server_of(postgres_server)
    async with Db.open(url) as db:
        here = await daemon(JOBS.format(hook="127.0.0.1:1", events=EXTRACT), url=app)
        here.release("begin")
        runs = [await here.trigger("loop") for _ in range(3)]
        for run in runs:
            await here.seen("run_completed", run=run)
        waits = await here.trigger("waits")
        await here.traced("begun waits")
        await here.kill9()
        await settled(db)
        await here.start()
        here.release()
        await here.seen("run_completed", run=waits)
        await here.seen("audit_sealed")
        await here.seen("runs_deleted", job="loop")
        assert await here.stop() == 0

        assert denied(here) == []
        outcomes = await db.fetch("SELECT outcome FROM jobsd.attempts WHERE run = $1 ORDER BY number", waits)
        assert [row["outcome"] for row in outcomes] == ["lost", "completed"]
        assert await db.fetchval("SELECT count(*) FROM jobsd.runs WHERE job = 'loop'") == 1
