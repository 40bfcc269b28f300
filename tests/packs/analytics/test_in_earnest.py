"""The whole walk from files to signals as the registry declares it, in one transaction that is rolled back."""

import tomllib
from datetime import UTC, datetime
from typing import Any

import pytest

from jobsd.sdk.testing import job_test
from jobsd.store.db import Db
from tests.packs.analytics.conftest import EXTRACT, ROOT

AT = datetime(2026, 11, 22, tzinfo=UTC)


def shipped(name: str) -> dict[str, Any]:
    jobs = tomllib.loads((ROOT / "config" / "jobs.d" / "analytics.toml").read_text())["jobs"]
    return {"name": name, **jobs[name]}


@pytest.mark.req("A1", "A2", "C4")
async def test_the_shipped_jobs_run_as_declared_and_leave_the_database_as_it_was(database_url: str, db: Db) -> None:
    async with job_test(database_url) as t:
        imported = await t.run(shipped("import_events"), {"folder": str(EXTRACT)}, at=AT)
        again = await t.run(shipped("import_events"), {"folder": str(EXTRACT)})
        counted = await t.run(shipped("analytics_jobs"))
        judged = await t.run(shipped("generate_signals"))
        events, aggregated, signals = [
            await t.connection.fetchval(f"SELECT {what} FROM analytics.{table}")
            for what, table in (("count(*)", "event"), ("sum(events)", "daily_aggregate"), ("count(*)", "signal"))
        ]

    assert [ended.state for ended in (imported, again, counted, judged)] == ["completed"] * 4
    assert events == aggregated > 0
    assert signals == judged.result["signals"] > 0
    assert imported.progress[-1][0] == 1.0
    assert await db.fetchval("SELECT count(*) FROM analytics.event") == 0
