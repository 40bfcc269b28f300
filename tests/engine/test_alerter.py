"""The alerter: every alert reaches every channel at least once, none too often, and nothing holds up another."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from jobsd.domain.alert import AlertMessage
from jobsd.domain.events import AlertTold, DatabaseTrouble, Event
from jobsd.domain.job import JobDefinition
from jobsd.domain.outcome import AlertRow
from jobsd.engine.alerter import Alerter, Pace
from jobsd.registry.settings import AlertSettings
from jobsd.store import alerts
from jobsd.store.db import Db
from tests.support.engine import job
from tests.support.postgres import OwnServer

NEXT_IS_DUE = "UPDATE jobsd.alert SET next_at = now()"
LEASES_ARE_OVER = "UPDATE jobsd.alert_delivery SET next_at = now()"


class Inbox:
    """A channel whose messages the test reads. `gate` keeps it from answering, `error` makes it fail."""

    def __init__(self, name: str, per_minute: int | None = None) -> None:
        self.name = name
        self.per_minute = per_minute
        self.messages: asyncio.Queue[Sequence[AlertMessage]] = asyncio.Queue()
        self.asked: asyncio.Queue[Sequence[AlertMessage]] = asyncio.Queue()
        self.gate = asyncio.Event()
        self.gate.set()
        self.error = ""

    async def send(self, alerts: Sequence[AlertMessage]) -> None:
        self.asked.put_nowait(alerts)
        await self.gate.wait()
        if self.error:
            raise ConnectionError(self.error)
        self.messages.put_nowait(alerts)

    async def next(self) -> Sequence[AlertMessage]:
        return await asyncio.wait_for(self.messages.get(), 20)

    async def covering(self, count: int) -> list[Sequence[AlertMessage]]:
        """Messages until together they stand for `count` occurrences."""
        got: list[Sequence[AlertMessage]] = []
        while sum(alert.new for message in got for alert in message) < count:
            got.append(await self.next())
        return got


class Told:
    """Events, to wait for one."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()

    def __call__(self, event: Event) -> None:
        self.events.put_nowait(event)

    async def first(self, kind: type[Any]) -> Any:
        async with asyncio.timeout(20):
            while not isinstance(event := await self.events.get(), kind):
                continue
        return event


@asynccontextmanager
async def alerting(
    db: Db, *channels: Inbox, jobs: Sequence[JobDefinition] = (), observe: Told | None = None
) -> AsyncIterator[Alerter]:
    named: Mapping[str, JobDefinition] = {each.name: each for each in jobs}
    alerter = Alerter(db, channels, AlertSettings(), observe or Told(), named)
    task = asyncio.create_task(alerter.run())
    try:
        yield alerter
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


def failure(number: int = 0, fingerprint: str = "one", name: str = "daily_report") -> AlertRow:
    return AlertRow("JOB_FAILED", fingerprint, f"{name}: refused", name, number, {"attempt": 1})


async def raised(db: Db, alerter: Alerter, *rows: AlertRow) -> None:
    await alerts.raise_alerts(db, rows)
    alerter.wake()


async def owed(db: Db) -> int:
    return int(await db.fetchval("SELECT count(*) FROM jobsd.alert_delivery"))


async def settled(db: Db) -> None:
    """Wait until nothing is owed to any channel any more."""
    async with asyncio.timeout(20):
        while await owed(db):
            await asyncio.sleep(0.01)


@pytest.mark.req("C6", "A7")
async def test_an_alert_reaches_every_channel_with_the_runbook_of_its_job(db: Db) -> None:
    log, ops = Inbox("log"), Inbox("ops")
    definition = job("daily_report", runbook={"owner": "data@example.org", "on_failure": "Safe to run again."})

    async with alerting(db, log, ops, jobs=[definition]) as alerter:
        await raised(db, alerter, failure(42))
        (one,), (same,) = await log.next(), await ops.next()
        await settled(db)

    assert one == same
    assert (one.type, one.job, one.run, one.summary) == ("JOB_FAILED", "daily_report", 42, "daily_report: refused")
    assert (one.owner, one.on_failure, one.count) == ("data@example.org", "Safe to run again.", 1)


@pytest.mark.req("C6")
async def test_a_thousand_failures_in_a_storm_are_two_messages_that_count_them_all(db: Db) -> None:
    ops = Inbox("ops")

    async with alerting(db, ops) as alerter:
        await raised(db, alerter, *(failure(n) for n in range(100)))
        first = await ops.next()
        for burst in range(1, 10):
            await raised(db, alerter, *(failure(100 * burst + n) for n in range(100)))
        await settled(db)
        waiting = await db.fetchrow("SELECT count - told AS new, next_at - told_at AS every FROM jobsd.alert")
        await db.execute(NEXT_IS_DUE)
        alerter.wake()
        rest = await ops.covering(1000 - first[0].new)

    assert waiting is not None
    assert waiting["every"] == timedelta(minutes=15)
    assert waiting["new"] == 1000 - first[0].new
    assert len(rest) == 1
    assert (rest[0][0].count, rest[0][0].run) == (1000, 999)


@pytest.mark.req("C6")
async def test_a_storm_over_a_thousand_jobs_is_a_handful_of_messages_that_leave_none_out(db: Db) -> None:
    ops = Inbox("ops", per_minute=6)

    async with alerting(db, ops) as alerter:
        for burst in range(4):
            some = [failure(1, f"f{burst}-{n}", f"job{n}") for n in range(250)]
            await raised(db, alerter, *some)
        messages = await ops.covering(1000)

    assert len(messages) <= 6
    assert len({alert.fingerprint for message in messages for alert in message}) == 1000


def test_the_pace_of_a_channel_bounds_messages_in_any_minute() -> None:
    pace = Pace(2)

    pace.note(100.0)
    pace.note(110.0)

    assert Pace(2).wait_s(100.0) == 0
    assert pace.wait_s(120.0) == 40
    assert pace.wait_s(160.0) == 0
    pace.note(160.0)
    assert pace.wait_s(161.0) == 9
    assert Pace(None).wait_s(0.0) == 0


@pytest.mark.req("C6")
async def test_a_job_has_its_own_rate_limit_and_channels_and_the_log_is_told_always(db: Db) -> None:
    log, ops, chat = Inbox("log"), Inbox("ops"), Inbox("chat")
    definition = job("daily_report", alert={"every": "1h", "channels": ["chat"]})

    async with alerting(db, log, ops, chat, jobs=[definition]) as alerter:
        await raised(db, alerter, failure(), failure(1, "other", "other_job"))
        await asyncio.gather(log.covering(2), chat.covering(2))
        (only,) = await ops.next()
        await settled(db)

    limits = await db.fetch("SELECT job, next_at - told_at AS every FROM jobsd.alert")
    assert only.job == "other_job"
    assert {row["job"]: row["every"] for row in limits} == {
        "daily_report": timedelta(hours=1),
        "other_job": timedelta(minutes=15),
    }


@pytest.mark.req("C6")
async def test_a_failing_channel_is_tried_again_and_what_happened_meanwhile_is_folded_in(db: Db) -> None:
    log, ops, observe = Inbox("log"), Inbox("ops"), Told()
    ops.error = "refused by the service"

    async with alerting(db, log, ops, observe=observe) as alerter:
        await raised(db, alerter, failure(1))
        await log.next()
        async with asyncio.timeout(20):
            while (event := await observe.first(AlertTold)).ok:
                continue
        while not (row := await db.fetchrow("SELECT * FROM jobsd.alert_delivery WHERE failures = 1")):
            await asyncio.sleep(0.01)
        await raised(db, alerter, failure(2))
        await db.execute(NEXT_IS_DUE)
        alerter.wake()
        await log.next()
        ops.error = ""
        await db.execute(LEASES_ARE_OVER)
        alerter.wake()
        (late,) = await ops.next()
        await settled(db)

    assert (event.channel, event.error) == ("ops", "refused by the service")
    assert row["error"] == "refused by the service"
    assert (late.new, late.count, late.run) == (2, 2, 2)


async def test_a_channel_that_hangs_holds_up_no_other(db: Db) -> None:
    log, ops = Inbox("log"), Inbox("ops")
    ops.gate.clear()

    async with alerting(db, log, ops) as alerter:
        await raised(db, alerter, failure(1, "a"))
        await asyncio.wait_for(ops.asked.get(), 20)
        for number in range(3):
            await raised(db, alerter, failure(number, f"b{number}"))
            await log.next()
        ops.gate.set()
        await ops.covering(4)


@pytest.mark.req("C6", "P5")
async def test_a_message_whose_sender_died_is_sent_by_another_node_once_the_lease_is_over(db: Db) -> None:
    dying, other = Inbox("ops"), Inbox("ops")
    dying.gate.clear()

    async with alerting(db, dying) as alerter:
        await raised(db, alerter, failure(7))
        await asyncio.wait_for(dying.asked.get(), 20)

    assert await alerts.take_due(db, "ops", 10, timedelta(seconds=1)) == []  # leased
    await db.execute(LEASES_ARE_OVER)
    async with alerting(db, other):
        (again,) = await other.next()
        await settled(db)
    assert again.run == 7


@pytest.mark.req("C4", "C6")
async def test_two_nodes_tell_each_alert_once(db: Db) -> None:
    one, two = Inbox("ops"), Inbox("ops")

    async with alerting(db, one) as first, alerting(db, two) as second:
        for number in range(60):
            await raised(db, first if number % 2 else second, failure(number, f"f{number}"))
        await settled_and_handed(db)

    told = [
        alert.fingerprint
        for inbox in (one, two)
        for _ in range(inbox.messages.qsize())
        for alert in inbox.messages.get_nowait()
    ]
    assert sorted(told) == sorted(f"f{number}" for number in range(60))


async def settled_and_handed(db: Db) -> None:
    async with asyncio.timeout(30):
        while await db.fetchval("SELECT count(*) FROM jobsd.alert WHERE told < count") or await owed(db):
            await asyncio.sleep(0.01)


@pytest.mark.req("P5")
async def test_it_waits_for_the_database_and_then_tells_what_is_due(postgres_server: OwnServer) -> None:
    ops, observe = Inbox("ops"), Told()
    url = await postgres_server.database()

    async with Db.open(url) as db, alerting(db, ops, observe=observe) as alerter:
        await raised(db, alerter, failure(1, "a"), failure(2, "b"))
        await ops.covering(2)
        await settled(db)
        await asyncio.to_thread(postgres_server.stop)
        alerter.wake()
        trouble = await observe.first(DatabaseTrouble)
        await asyncio.to_thread(postgres_server.start)
        async with Db.open(url) as other:
            await alerts.raise_alerts(other, [failure(3, "c")])
        (after,) = await ops.next()

    assert trouble.loop == "alerter"
    assert after.fingerprint == "c"


async def test_a_reload_changes_channels_and_jobs(db: Db) -> None:
    before, after = Inbox("before"), Inbox("after")
    definition = job("daily_report", runbook={"owner": "new@example.org"})

    async with alerting(db, before) as alerter:
        alerter.reload([after], AlertSettings(every="1h"), {"daily_report": definition})  # type: ignore[arg-type]
        await raised(db, alerter, failure())
        (told,) = await after.next()
        await settled(db)

    assert told.owner == "new@example.org"
    assert before.messages.empty()
    assert await db.fetchval("SELECT next_at - told_at FROM jobsd.alert") == timedelta(hours=1)
