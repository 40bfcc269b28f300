"""What is around the runs, over HTTP: nodes, alerts, a job's figures; and lists by tag."""

from datetime import timedelta

import pytest

from jobsd.domain.outcome import AlertRow
from jobsd.store import alerts
from jobsd.store.db import Db
from tests.support.engine import enqueued, node
from tests.support.web import Site

TRY = """
    INSERT INTO jobsd.attempt (run, fence, number, node, outcome, started_at, ended_at)
    VALUES ($1, $1, 1, 1, $2, now() - $3::interval - $4::interval, now() - $3::interval)
"""
HOUR, DAY, SECOND = timedelta(hours=1), timedelta(days=1), timedelta(seconds=1)


@pytest.mark.req("E11")
async def test_a_jobs_figures_count_its_attempts_by_outcome_in_day_week_and_month(served: Site, db: Db) -> None:
    ids = await enqueued(db, "nightly", 6)
    await enqueued(db, "ping", 1)
    ended = [("completed", HOUR, 1), ("completed", HOUR, 3), ("failed", HOUR, 9)]
    ended += [("completed", 3 * DAY, 100), ("timed_out", 20 * DAY, 5), ("completed", 40 * DAY, 5)]
    for run, (outcome, ago, took) in zip(ids, ended, strict=True):
        await db.execute(TRY, run, outcome, ago, took * SECOND)

    status, stats, _ = await served.ask("GET", "/api/v1/jobs/nightly/stats")

    day, week, month = (stats["stretches"][name] for name in ("24h", "7d", "30d"))
    assert (status, stats["runs"], stats["complete"]) == (200, 6, True)
    assert (day["completed"], day["failed"], day["p50_s"], day["p95_s"]) == (2, 1, 1.0, 3.0)
    assert day["success_rate"] == pytest.approx(2 / 3)
    assert (week["completed"], week["p95_s"], week["success_rate"]) == (3, 100.0, 0.75)
    assert (month["completed"], month["timed_out"], month["success_rate"]) == (3, 1, 0.6)


async def test_a_job_that_never_ran_has_figures_of_nothing(served: Site) -> None:
    _, stats, _ = await served.ask("GET", "/api/v1/jobs/ping/stats")
    missing, problem, _ = await served.ask("GET", "/api/v1/jobs/pong/stats")

    assert stats["stretches"]["30d"]["success_rate"] is None
    assert stats["stretches"]["30d"]["p50_s"] is None
    assert (missing, problem["code"]) == (404, "E0501")


async def test_figures_of_a_job_with_many_runs_say_that_they_do_not_reach_back(served: Site, db: Db) -> None:
    await db.execute("INSERT INTO jobsd.run (job, actor) SELECT 'ping', 'test' FROM generate_series(1, 10001)")

    _, stats, _ = await served.ask("GET", "/api/v1/jobs/ping/stats")

    assert (stats["runs"], stats["complete"]) == (10_000, False)


async def test_nodes_are_listed_the_latest_first_by_state(served: Site, db: Db) -> None:
    async with node(db, "one") as first, node(db, "two") as second:
        await db.execute("UPDATE jobsd.node SET state = 'dead', ended_at = now() WHERE id = $1", first.keeper.node)

        _, every, _ = await served.ask("GET", "/api/v1/nodes")
        _, live, _ = await served.ask("GET", "/api/v1/nodes?state=live")

        assert [each["name"] for each in every["items"]] == ["two", "one"]
        assert [each["id"] for each in live["items"]] == [second.keeper.node]
        assert live["items"][0]["running"] == 0


async def test_alerts_are_listed_open_or_resolved_with_what_channels_are_owed(served: Site, db: Db) -> None:
    rows = [AlertRow("JOB_FAILED", f"print-{n}", f"failed {n}", "nightly", n) for n in range(3)]
    await alerts.raise_alerts(db, rows)
    await db.execute("UPDATE jobsd.alert SET resolved_at = now() WHERE fingerprint = 'print-0'")
    await db.execute(
        "INSERT INTO jobsd.alert_delivery (alert, channel, count) SELECT max(id), 'ops', 1 FROM jobsd.alert"
    )

    _, first, _ = await served.ask("GET", "/api/v1/alerts?state=open&limit=1")
    _, second, _ = await served.ask("GET", f"/api/v1/alerts?state=open&limit=1&cursor={first['cursor']}")
    _, resolved, _ = await served.ask("GET", "/api/v1/alerts?state=resolved&job=nightly&type=JOB_FAILED")

    assert [alert["summary"] for alert in first["items"]] == ["failed 2"]
    assert [(owed["channel"], owed["count"]) for owed in first["items"][0]["owed"]] == [("ops", 1)]
    assert ([alert["summary"] for alert in second["items"]], second["cursor"]) == (["failed 1"], None)
    assert [alert["summary"] for alert in resolved["items"]] == ["failed 0"]


async def test_runs_are_listed_by_every_tag_that_is_given(served: Site, db: Db) -> None:
    (both,) = await enqueued(db, "nightly", tags={"language": "fr", "class": "7b"})
    (one,) = await enqueued(db, "nightly", tags={"language": "fr", "url": "a:b"})

    _, found, _ = await served.ask("GET", "/api/v1/runs?tag=language:fr&tag=class:7b&state=queued")
    _, colon, _ = await served.ask("GET", "/api/v1/runs?tag=url:a:b")

    assert [run["id"] for run in found["items"]] == [both]
    assert [run["id"] for run in colon["items"]] == [one]


@pytest.mark.parametrize("tag", ["fr", ":fr", "Language:fr", "x" * 401, "language%00:fr"])
async def test_a_tag_that_cannot_be_one_is_refused(served: Site, tag: str) -> None:
    status, problem, _ = await served.ask("GET", f"/api/v1/runs?tag={tag}")

    assert (status, problem["code"]) == (422, "E0507")
