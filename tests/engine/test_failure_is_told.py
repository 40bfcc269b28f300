"""From a failed attempt to the log line and the webhook, with everything real in between."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import structlog

from jobsd.domain.lifecycle import SettlePolicy, settle
from jobsd.domain.outcome import Failed
from jobsd.engine.alerter import Alerter
from jobsd.observe import channels, logs
from jobsd.observe.logs import LogObserver
from jobsd.observe.redact import Redactor, secrets_of
from jobsd.registry.settings import LogSettings, Settings
from jobsd.store import history
from jobsd.store.db import Db
from jobsd.store.history import Ended
from tests.support.engine import enqueued, job, node, registered, request
from tests.support.webhook import webhook

CANARY = "canary-90c2-password"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.req("C6", "A1", "A7")
async def test_a_failed_run_is_told_in_the_log_and_to_a_webhook_with_job_error_and_time_and_no_secret(db: Db) -> None:
    definition = job("daily_report", runbook={"owner": "data@example.org"})
    await registered(db, definition)
    await enqueued(db, "daily_report")
    async with node(db) as here:
        (run,) = (await here.keeper.claim(request(here, "daily_report"))).runs
        now = datetime.now(UTC)
        outcome = Failed("ConnectionError", f"cannot reach postgresql://app:{CANARY}@db1/app\nat line 3")
        await history.settle(db, [Ended(run, here.keeper.node, settle(run, SettlePolicy(), outcome, now), now)], "test")

    out = io.StringIO()
    async with webhook() as hook:
        url = f"json://ops:{CANARY}@{hook.address}"
        settings = Settings.model_validate({"alerts": {"channels": {"ops": {"url": url}}}})
        redactor = logs.setup(LogSettings(level="debug", format="json"), Redactor(secrets_of(settings, {})), out)
        tellers = channels.build(settings.alerts, redactor)
        alerter = Alerter(db, tellers, settings.alerts, LogObserver(), {"daily_report": definition})
        task = asyncio.create_task(alerter.run())
        post = await asyncio.wait_for(hook.posts.get(), 30)
        async with asyncio.timeout(30):
            while out.getvalue().count("alert_told") < 2:
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])

    lines = {line["event"]: line for line in map(json.loads, out.getvalue().splitlines())}
    told = lines["job_failed"]
    assert (told["alert"], told["job"], told["run"], told["owner"]) == (
        "JOB_FAILED",
        "daily_report",
        run.id,
        "data@example.org",
    )
    assert told["summary"] == "daily_report: cannot reach postgresql://app:***@db1/app at line 3"
    assert datetime.fromisoformat(told["last_at"]).tzinfo
    assert post["title"] == "jobsd: JOB_FAILED daily_report"
    assert f"jobsd run show {run.id}" in post["message"]
    assert CANARY not in out.getvalue()
    assert CANARY not in json.dumps(post)
