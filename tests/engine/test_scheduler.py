"""The scheduler against the real ledger: every due slot ends in exactly one decision, on any number of nodes."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobsd.domain.job import JobDefinition
from jobsd.engine.here import Here
from jobsd.engine.scheduler import Scheduler
from jobsd.store import jobs
from jobsd.store.db import Db
from tests.support.engine import STILL, job, node

LEDGER = "SELECT job, slot_at, to_at, count, decision, reason, run FROM jobsd.slot ORDER BY job, slot_at"


async def scheduler(here: Here, *definitions: JobDefinition) -> Scheduler:
    made = Scheduler(here)
    await made.load({each.name: each for each in definitions})
    return made


async def left_undecided(db: Db, name: str, since: timedelta) -> None:
    """As if nobody had decided this job's slots for so long."""
    await db.execute("UPDATE jobsd.schedule SET decided_to = now() - $2::interval WHERE job = $1", name, since)


async def decide(made: Scheduler) -> None:
    """One round of the loop."""
    await made._read_again()
    await made._tick()


async def ledger(db: Db) -> list[Any]:
    return await db.fetch(LEDGER)


def every(seconds: int, name: str = "work", **keys: Any) -> JobDefinition:
    schedule = {"every": f"{seconds}s", **keys.pop("schedule", {})}
    return job(name, schedule=schedule, **keys)


@pytest.mark.req("P1", "P2", "C4")
async def test_two_nodes_decide_each_slot_once_and_make_one_run_for_it(db: Db) -> None:
    definitions = [every(1, f"job{n}", schedule={"missed": "all"}) for n in range(20)]
    async with node(db, "one") as one, node(db, "two") as two:
        first, second = await scheduler(one, *definitions), await scheduler(two, *definitions)
        for each in definitions:
            await left_undecided(db, each.name, timedelta(seconds=5))
        await asyncio.gather(decide(first), decide(second))
        await asyncio.gather(decide(first), decide(second))

    rows = await ledger(db)
    runs = await db.fetch("SELECT job, slot_at FROM jobsd.run")
    assert len(runs) == len({(run["job"], run["slot_at"]) for run in runs}) == len(rows) >= 100
    assert {row["run"] is not None for row in rows} == {True}
    for each in definitions:
        slots = [row["slot_at"] for row in rows if row["job"] == each.name]
        assert slots == [slots[0] + timedelta(seconds=n) for n in range(len(slots))], "no slot without its decision"


@pytest.mark.req("P1")
async def test_after_downtime_one_run_catches_up_and_every_other_slot_says_why_not(db: Db) -> None:
    async with node(db) as here:
        made = await scheduler(here, every(600, schedule={"missed": "once", "missed_within": "1h"}))
        await left_undecided(db, "work", timedelta(days=3650))
        await decide(made)

    rows = await ledger(db)
    assert sum(row["count"] for row in rows) == pytest.approx(3650 * 144, abs=1)
    assert [row["decision"] for row in rows] in (["too_old", "coalesced", "caught_up"], ["too_old", "coalesced", "ran"])
    assert rows[1]["run"] == rows[2]["run"] is not None, "what was coalesced names the run that stands for it"


@pytest.mark.req("P1")
async def test_slots_of_a_time_without_any_node_say_so(db: Db) -> None:
    async with node(db, "earlier") as here:
        await scheduler(here, every(600, schedule={"missed": "skip"}))
    await db.execute("UPDATE jobsd.node SET state = 'dead', ended_at = now() - interval '2 hours'")
    await left_undecided(db, "work", timedelta(hours=2))

    async with node(db, "later") as here:
        made = await scheduler(here, every(600, schedule={"missed": "skip"}))
        await made.note_downtime()
        await decide(made)

    first = (await ledger(db))[0]
    assert first["decision"] == "no_node"
    assert first["count"] >= 11


@pytest.mark.req("P1", "B6")
async def test_a_disabled_job_s_slots_are_one_growing_row_and_make_no_run(db: Db) -> None:
    async with node(db, lease=STILL) as here:
        made = await scheduler(here, every(1))
        await db.execute("UPDATE jobsd.job SET enabled = false, disabled_by = 'test'")
        await left_undecided(db, "work", timedelta(seconds=90))
        made.entries["work"].decided = (await jobs.decided(db, ["work"]))["work"]
        for back in (60, 0):
            here.keeper._clock = (datetime.now(UTC) - timedelta(seconds=back), here.keeper._clock[1])  # type: ignore[index]
            await made._decide(["work"])

    rows = await ledger(db)
    assert [row["decision"] for row in rows] == ["disabled"]
    assert rows[0]["count"] == pytest.approx(90, abs=1)
    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 0


@pytest.mark.req("P1")
async def test_a_slot_whose_job_s_run_is_not_over_is_skipped_and_names_that_run(db: Db) -> None:
    async with node(db, lease=STILL) as here:
        made = await scheduler(here, every(1))
        await left_undecided(db, "work", timedelta(seconds=2))
        await decide(made)
        await left_undecided(db, "work", timedelta(seconds=-1))
        made.entries["work"].decided = (await jobs.decided(db, ["work"]))["work"]
        here.keeper._clock = (datetime.now(UTC) + timedelta(seconds=3), here.keeper._clock[1])  # type: ignore[index]
        await made._decide(["work"])

    rows = await ledger(db)
    run = await db.fetchval("SELECT id FROM jobsd.run")
    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 1
    assert (rows[-1]["decision"], rows[-1]["reason"]) == ("overlap", f"run {run} is not over")


@pytest.mark.req("P1")
async def test_a_changed_schedule_first_decides_what_the_old_one_left(db: Db) -> None:
    async with node(db) as here:
        await scheduler(here, every(600))
        await left_undecided(db, "work", timedelta(minutes=30))
        made = await scheduler(here, every(3600))

    rows = await ledger(db)
    assert sum(row["count"] for row in rows) == 3
    assert made.entries["work"].decided.decided_to >= rows[-1]["to_at"]


async def test_a_schedule_that_did_not_change_goes_on_where_it_was(db: Db) -> None:
    async with node(db) as here:
        await scheduler(here, every(3600))
        before = (await jobs.decided(db, ["work"]))["work"].decided_to
        made = await scheduler(here, every(3600, timeout="1m", priority="high"))

    assert made.entries["work"].decided.decided_to == before


async def test_a_clock_that_was_set_back_refires_nothing(db: Db) -> None:
    async with node(db) as here:
        made = await scheduler(here, every(1))
        await left_undecided(db, "work", timedelta(seconds=-3600))
        await decide(made)

    assert await ledger(db) == []


async def test_a_job_that_lost_its_schedule_and_got_it_back_owes_nothing_for_the_time_between(db: Db) -> None:
    async with node(db) as here:
        await scheduler(here, every(60))
        await left_undecided(db, "work", timedelta(days=1))
        await scheduler(here, job())
        rows = len(await ledger(db))
        made = await scheduler(here, every(60))
        await decide(made)

    assert len(await ledger(db)) == rows


@pytest.mark.req("A8")
async def test_dry_run_of_the_node_is_written_to_the_runs_it_makes(db: Db) -> None:
    async with node(db) as here:
        made = await scheduler(here, every(1))
        made.dry_run = True
        await left_undecided(db, "work", timedelta(seconds=2))
        await decide(made)

    assert await db.fetchval("SELECT dry_run FROM jobsd.run") is True
