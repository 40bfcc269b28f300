"""Backfill: a run for each slot of the past that never ran, once, and the ledger as it was."""

from datetime import UTC, datetime, timedelta

import pytest

from jobsd.domain.errors import JobsdError
from jobsd.operations.backfill import BackfillRequest, backfill
from jobsd.registry.load import Registry
from jobsd.store.db import Db
from tests.support.engine import node, request

DAY = datetime(2026, 3, 1, tzinfo=UTC)
LEDGER = """
    INSERT INTO jobsd.slot (job, slot_at, to_at, count, decision, reason, run, node)
    VALUES ('ping', $1, $2, $3, $4, '', $5, $6)
"""


def stretch(start: datetime, end: datetime, **keys: object) -> BackfillRequest:
    return BackfillRequest.model_validate({"from": start, "to": end, "reason": "late data", **keys})


def minute(n: int = 0) -> datetime:
    return DAY + timedelta(minutes=n)


@pytest.mark.req("A6")
async def test_each_slot_of_the_stretch_gets_a_run_both_ends_included(db: Db, registry: Registry) -> None:
    filled = await backfill(db, registry, "ping", stretch(DAY, minute(1)), "unix:alice")

    rows = await db.fetch("SELECT id, slot_at, state, actor FROM jobsd.run ORDER BY id")
    assert (filled.slots, filled.ran, filled.missing, filled.made) == (7, 0, 7, 7)
    assert [row["slot_at"] for row in rows] == [DAY + timedelta(seconds=10 * n) for n in range(7)]
    assert {(row["state"], row["actor"]) for row in rows} == {("queued", "unix:alice")}
    assert filled.runs == [row["id"] for row in rows]


@pytest.mark.req("P2")
async def test_to_ask_twice_makes_no_run_twice(db: Db, registry: Registry) -> None:
    await backfill(db, registry, "ping", stretch(DAY, minute(1)), "unix:alice")

    again = await backfill(db, registry, "ping", stretch(DAY, minute(2)), "unix:alice")

    assert (again.slots, again.ran, again.made) == (13, 7, 6)
    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 13


@pytest.mark.req("P1")
async def test_slots_that_ran_are_left_also_when_their_run_is_gone_and_decisions_stay(
    db: Db, registry: Registry
) -> None:
    ran, off_from, off_to = DAY, DAY + timedelta(seconds=10), DAY + timedelta(seconds=30)
    async with node(db) as here:
        await db.execute(LEDGER, ran, ran, 1, "ran", 4711, here.keeper.node)
        await db.execute(LEDGER, off_from, off_to, 3, "disabled", None, here.keeper.node)

        filled = await backfill(db, registry, "ping", stretch(ran, off_to), "unix:alice")

    ledger = [tuple(row) for row in await db.fetch("SELECT decision, count, run FROM jobsd.slot ORDER BY slot_at")]
    assert (filled.slots, filled.ran, filled.made) == (4, 1, 3)
    assert ledger == [("ran", 1, 4711), ("disabled", 3, None)]


async def test_a_dry_run_says_which_slots_are_missing_and_queues_none(db: Db, registry: Registry) -> None:
    filled = await backfill(db, registry, "ping", stretch(DAY, minute(1), dry_run=True), "unix:alice")

    assert (filled.missing, filled.made, filled.runs) == (7, 0, [])
    assert (filled.first_slot_at, filled.last_slot_at) == (DAY, minute(1))
    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 0


@pytest.mark.req("A7", "B9")
async def test_the_whole_and_each_run_are_audited_with_who_and_why(db: Db, registry: Registry) -> None:
    await backfill(db, registry, "ping", stretch(DAY, DAY), "unix:alice")

    audited = await db.fetch("SELECT act, actor, reason FROM jobsd.audit ORDER BY act")
    assert [tuple(row) for row in audited] == [
        ("backfill", "unix:alice", "late data"),
        ("queued", "unix:alice", "late data"),
    ]


async def test_filled_slots_are_claimed_the_earliest_first_with_their_slot(db: Db, registry: Registry) -> None:
    await backfill(db, registry, "ping", stretch(DAY, minute(1)), "unix:alice")

    async with node(db) as here:
        (first,) = (await here.keeper.claim(request(here, "ping"))).runs

    assert first.slot_at == DAY


@pytest.mark.parametrize(
    ("job", "start", "end", "code"),
    [
        ("by-hand", DAY, minute(1), "E0519"),
        ("nope", DAY, minute(1), "E0501"),
        ("ping", minute(1), DAY, "E0507"),
        ("ping", DAY, datetime(2199, 1, 1, tzinfo=UTC), "E0507"),
        ("ping", datetime(2001, 1, 1, tzinfo=UTC), DAY, "E0507"),
    ],
    ids=["no slots of its own", "no such job", "backwards", "the future", "more than 10,000"],
)
async def test_what_cannot_be_filled_is_refused(
    db: Db, registry: Registry, job: str, start: datetime, end: datetime, code: str
) -> None:
    with pytest.raises(JobsdError) as refused:
        await backfill(db, registry, job, stretch(start, end), "unix:alice")

    assert refused.value.problems[0].code == code
    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 0
