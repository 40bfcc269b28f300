"""Slots that wait for other jobs (`needs`), and jobs that start after others (`after`)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobsd.domain.job import JobDefinition
from jobsd.engine.dependencies import Dependencies
from jobsd.engine.here import Here
from jobsd.engine.scheduler import Scheduler
from jobsd.store.db import Db
from tests.support.engine import STILL, job, node

END = """
    UPDATE jobsd.run
       SET state = 'running', ready = NULL, node = 1, held = lock_key, fence = 1, started_at = now()
     WHERE id = $1
"""
OVER = """
    UPDATE jobsd.run SET state = $2, node = NULL, held = NULL, finished_at = now() WHERE id = $1
"""


class Bench:
    """A node whose clock the test sets, with a scheduler and its dependencies."""

    def __init__(self, here: Here) -> None:
        self.here = here
        self.scheduler = Scheduler(here)
        self.dependencies = Dependencies(here, self.scheduler)
        now = datetime.now(UTC)
        self.now = now.replace(second=now.second // 10 * 10, microsecond=0)  # where slots of "10s" are

    async def load(self, *definitions: JobDefinition) -> None:
        await self.scheduler.load({each.name: each for each in definitions})
        await self.here.db.execute("UPDATE jobsd.schedule SET decided_to = $1", self.now)
        await self.scheduler._read_again()

    async def at(self, seconds: float) -> None:
        """Look at everything, so many seconds later."""
        clock = self.here.keeper._clock
        assert clock is not None
        self.here.keeper._clock = (self.now + timedelta(seconds=seconds), clock[1])
        await self.scheduler._tick()
        await self.dependencies._look()

    async def end(self, name: str, state: str) -> int:
        """End the job's queued run."""
        run: int = await self.here.db.fetchval("SELECT id FROM jobsd.run WHERE job = $1 AND state = 'queued'", name)
        await self.here.db.execute(END, run)
        await self.here.db.execute(OVER, run, state)
        return run

    async def slots(self, name: str) -> list[Any]:
        rows = await self.here.db.fetch("SELECT * FROM jobsd.slot WHERE job = $1 ORDER BY slot_at", name)
        return [(row["decision"], row["run"] is not None) for row in rows]

    async def reason(self, name: str) -> str:
        found: str = await self.here.db.fetchval(
            "SELECT reason FROM jobsd.slot WHERE job = $1 ORDER BY slot_at DESC LIMIT 1", name
        )
        return found


def once(name: str, seconds: int, start: datetime, **keys: Any) -> JobDefinition:
    """A job with a single slot, `seconds` after `start`."""
    first = start + timedelta(seconds=seconds)
    schedule = {"every": "1s", "starts": first.isoformat(), "ends": (first + timedelta(seconds=1)).isoformat()}
    return job(name, schedule=schedule, **keys)


@pytest.mark.req("E2", "P1")
async def test_a_slot_waits_for_what_it_needs_and_runs_when_that_has_completed(db: Db) -> None:
    async with node(db, lease=STILL) as here:
        bench = Bench(here)
        await bench.load(once("usage", 10, bench.now), once("backup", 20, bench.now, needs=["usage"]))
        await bench.at(20)
        waiting = await bench.slots("backup")
        await bench.end("usage", "completed")
        await bench.at(25)

        assert waiting == [("waiting", False)]
        assert await bench.slots("backup") == [("ran", True)]


@pytest.mark.req("E2", "P1")
async def test_a_slot_whose_need_failed_does_not_run_and_says_why(db: Db) -> None:
    async with node(db, lease=STILL) as here:
        bench = Bench(here)
        await bench.load(once("usage", 10, bench.now), once("backup", 20, bench.now, needs=["usage"]))
        await bench.at(20)
        run = await bench.end("usage", "failed")
        await bench.at(25)

        assert await bench.slots("backup") == [("needs", False)]
        assert await bench.reason("backup") == f"run {run} of usage is failed"


@pytest.mark.req("E2", "P1")
async def test_a_wait_ends_when_its_time_is_over(db: Db) -> None:
    async with node(db, lease=STILL) as here:
        bench = Bench(here)
        needy = once("backup", 20, bench.now, needs=["usage"], needs_within="30s")
        await bench.load(once("usage", 10, bench.now), needy)
        await bench.at(20)
        await bench.at(49)
        before = await bench.slots("backup")
        await bench.at(51)

        assert before == [("waiting", False)]
        assert await bench.slots("backup") == [("needs", False)]
        assert "waited 30s in vain: run" in await bench.reason("backup")


@pytest.mark.req("E2")
async def test_a_need_that_was_skipped_itself_lets_nothing_run(db: Db) -> None:
    async with node(db, lease=STILL) as here:
        bench = Bench(here)
        await bench.load(once("usage", 10, bench.now, enabled=False), once("backup", 20, bench.now, needs=["usage"]))
        await bench.at(80)

        assert await bench.slots("usage") == [("disabled", False)]
        assert await bench.slots("backup") == [("needs", False)]


@pytest.mark.req("E2", "A1")
async def test_a_job_starts_after_all_it_follows_have_completed_for_their_latest_slot(db: Db) -> None:
    async with node(db, lease=STILL) as here:
        bench = Bench(here)
        follower = job("signals", schedule={"after": ["a", "b"]})
        await bench.load(once("a", 10, bench.now), once("b", 15, bench.now), follower)
        await bench.at(15)
        await bench.end("a", "completed")
        await bench.at(16)
        early = await bench.slots("signals")
        await bench.end("b", "completed")
        await bench.at(17)
        await bench.at(18)

        assert early == []
        assert await bench.slots("signals") == [("ran", True)]
        slot_at = await db.fetchval("SELECT slot_at FROM jobsd.slot WHERE job = 'signals'")
        assert slot_at == bench.now + timedelta(seconds=15)


@pytest.mark.req("E2", "P1")
async def test_a_failed_run_holds_its_followers_back_and_the_slot_is_told_of_when_the_next_one_completes(
    db: Db,
) -> None:
    async with node(db, lease=STILL) as here:
        bench = Bench(here)
        ticking = job("a", schedule={"every": "10s"})
        await bench.load(ticking, job("signals", schedule={"after": ["a"]}))
        await bench.at(10)
        await bench.end("a", "failed")
        await bench.at(11)
        held_back = await bench.slots("signals")
        await bench.at(20)
        await bench.end("a", "completed")
        await bench.at(21)

        assert held_back == []
        assert await bench.slots("signals") == [("needs", False), ("ran", True)]


async def test_a_follower_that_is_switched_off_has_its_slot_told_of(db: Db) -> None:
    async with node(db, lease=STILL) as here:
        bench = Bench(here)
        await bench.load(once("a", 10, bench.now), job("signals", schedule={"after": ["a"]}, enabled=False))
        await bench.at(10)
        await bench.end("a", "completed")
        await bench.at(11)

        assert await bench.slots("signals") == [("disabled", False)]
