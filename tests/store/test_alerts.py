"""The alerts' outbox: folding, the transaction it belongs to, and how alerts end."""

import asyncio
from datetime import timedelta

import pytest

from jobsd.domain.outcome import AlertRow
from jobsd.store import alerts
from jobsd.store.alerts import Telling
from jobsd.store.db import Db

ALL = Telling(frozenset({"ops"}), timedelta(minutes=15))


def failure(run: int = 1, fingerprint: str = "f", summary: str = "refused") -> AlertRow:
    return AlertRow("JOB_FAILED", fingerprint, summary, "daily_report", run, {"attempt": run})


@pytest.mark.req("C6")
async def test_equal_fingerprints_fold_into_one_open_alert_that_shows_the_latest(db: Db) -> None:
    await alerts.raise_alerts(db, [failure(1), failure(2, "other"), failure(3)])
    await alerts.raise_alerts(db, [failure(4, summary="timed out")])

    rows = {row["fingerprint"]: row for row in await db.fetch("SELECT * FROM jobsd.alert")}
    assert {name: row["count"] for name, row in rows.items()} == {"f": 3, "other": 1}
    assert (rows["f"]["run"], rows["f"]["summary"]) == (4, "timed out")
    assert rows["f"]["first_at"] < rows["f"]["last_at"]


@pytest.mark.req("C6", "P5")
async def test_an_alert_is_raised_with_the_transaction_that_it_tells_of_or_not_at_all(db: Db) -> None:
    with pytest.raises(RuntimeError):
        async with db.transaction() as tx:
            await alerts.raise_alerts(tx, [failure()])
            raise RuntimeError("the settlement failed")

    assert await db.fetchval("SELECT count(*) FROM jobsd.alert") == 0


async def test_nodes_that_raise_the_same_alerts_in_any_order_never_deadlock(db: Db) -> None:
    rows = [failure(n, f"f{n}") for n in range(50)]

    await asyncio.gather(*(alerts.raise_alerts(db, rows if n % 2 else rows[::-1]) for n in range(40)))

    assert await db.fetchval("SELECT min(count) FROM jobsd.alert") == 40
    assert await db.fetchval("SELECT count(*) FROM jobsd.alert") == 50


async def test_text_that_postgresql_cannot_hold_is_raised_without_it(db: Db) -> None:
    odd = AlertRow("JOB_FAILED", "f", "a\0b\ud800", "daily_report", 1, {"error": "x\0y\ud800", "what": object})

    await alerts.raise_alerts(db, [odd])

    assert await db.fetchval("SELECT summary FROM jobsd.alert") == "ab?"


@pytest.mark.req("C6")
async def test_what_comes_while_a_message_is_on_its_way_is_owed_still(db: Db) -> None:
    await alerts.raise_alerts(db, [failure(1)])
    await alerts.hand_over(db, {}, ALL)
    (sent,) = await alerts.take_due(db, "ops", 10, timedelta(minutes=1))
    await alerts.raise_alerts(db, [failure(2), failure(3)])
    await db.execute("UPDATE jobsd.alert SET next_at = now()")
    await alerts.hand_over(db, {}, ALL)

    await alerts.told(db, "ops", [sent])

    (rest,) = await alerts.take_due(db, "ops", 10, timedelta(minutes=1))
    assert (sent.new, rest.new, rest.count) == (1, 2, 3)
    await alerts.told(db, "ops", [rest])
    assert await db.fetchval("SELECT count(*) FROM jobsd.alert_delivery") == 0


async def test_each_failure_doubles_the_wait_up_to_a_quarter_of_an_hour(db: Db) -> None:
    await alerts.raise_alerts(db, [failure(1)])
    await alerts.hand_over(db, {}, ALL)
    waits = []

    for _ in range(10):
        (sent,) = await alerts.take_due(db, "ops", 10, timedelta(minutes=1))
        async with db.transaction() as tx:
            await alerts.failed(tx, "ops", [sent], "refused")
            waits.append(await tx.fetchval("SELECT next_at - now() FROM jobsd.alert_delivery"))
        await db.execute("UPDATE jobsd.alert_delivery SET next_at = now()")

    assert [wait.total_seconds() for wait in waits] == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]


RAN = """
    WITH made AS (
        INSERT INTO jobsd.node (name, host, instance, boot_id, pid, version, pools, registry)
        VALUES ('n', 'h', 'i', 'b', 1, '0', '{}', '') RETURNING id
    )
    INSERT INTO jobsd.run (job, actor) SELECT 'daily_report', 'test' FROM made RETURNING id
"""
RUNNING = "UPDATE jobsd.run SET state = 'running', ready = NULL, node = 1, fence = 1, started_at = now() WHERE id = $1"
COMPLETED = "UPDATE jobsd.run SET state = 'completed', node = NULL, finished_at = now() WHERE id = $1"


@pytest.mark.req("C6")
async def test_an_alert_is_resolved_when_its_job_recovers_but_not_within_the_rate_limit(db: Db) -> None:
    await alerts.raise_alerts(db, [failure(0)])
    await alerts.hand_over(db, {}, ALL)
    run = await db.fetchval(RAN)
    resolved = "SELECT resolved_at IS NOT NULL FROM jobsd.alert ORDER BY id DESC LIMIT 1"

    await alerts.resolve(db)
    assert not await db.fetchval(resolved)
    await db.execute(RUNNING, run)
    await db.execute(COMPLETED, run)
    await alerts.resolve(db)
    assert not await db.fetchval(resolved)
    await db.execute("UPDATE jobsd.alert SET next_at = now()")
    await alerts.resolve(db)
    assert await db.fetchval(resolved)

    await alerts.raise_alerts(db, [failure(9)])
    assert await db.fetchval("SELECT count FROM jobsd.alert WHERE resolved_at IS NULL") == 1


async def test_an_alert_of_no_run_is_over_after_a_quiet_day(db: Db) -> None:
    await alerts.raise_alerts(db, [AlertRow("HEALTH", "h", "the event loop stood still")])
    await db.execute("UPDATE jobsd.alert SET told = count")

    await alerts.resolve(db)
    assert await db.fetchval("SELECT resolved_at IS NULL FROM jobsd.alert")
    await db.execute("UPDATE jobsd.alert SET last_at = now() - interval '25 hours'")
    await alerts.resolve(db)
    assert await db.fetchval("SELECT resolved_at IS NOT NULL FROM jobsd.alert")


async def test_a_message_that_no_channel_took_for_a_week_is_dropped_and_counted(db: Db) -> None:
    await alerts.raise_alerts(db, [failure(1, "a"), failure(2, "b")])
    await alerts.hand_over(db, {}, Telling(frozenset({"gone"}), timedelta(minutes=15)))
    assert await alerts.give_up(db) == {}
    await db.execute("UPDATE jobsd.alert_delivery SET owed_at = now() - interval '8 days'")

    assert await alerts.give_up(db) == {"gone": 2}
    assert await db.fetchval("SELECT count(*) FROM jobsd.alert_delivery") == 0
