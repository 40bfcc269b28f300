"""`rate`: at most so many starts of a job in any stretch of time, over all nodes, retries too."""

import asyncio
from datetime import datetime, timedelta

import pytest

from jobsd.domain.rate import StartRate
from jobsd.engine.here import Here
from jobsd.store import tickets
from jobsd.store.db import Db
from jobsd.store.runs import Claim, ClaimRequest
from tests.support.engine import enqueued, job, node, registered

MINUTE = timedelta(minutes=1)
USED = "UPDATE jobsd.ticket SET used_at = used_at - $1::interval WHERE used_at > '-infinity'"


async def rated(db: Db, starts: int, **keys: object) -> None:
    await registered(db, job("rated", rate=f"{starts}/min", **keys), job())
    await tickets.fit(db, {"rated": StartRate(starts, MINUTE)})


async def claim(here: Here, limit: int = 100) -> Claim:
    rates = [("rated", MINUTE)]
    return await here.keeper.claim(
        ClaimRequest(("rated", "work"), (), (), (), limit, here.keeper.node, here.actor, rates)
    )


def names(*claims: Claim) -> list[str]:
    return [run.job for each in claims for run in each.runs]


@pytest.mark.req("C4", "F1")
async def test_two_nodes_that_claim_at_once_start_no_more_than_the_rate_allows(db: Db) -> None:
    await rated(db, 5)
    await enqueued(db, "rated", count=40)

    async with node(db, "one") as one, node(db, "two") as two:
        at_once = await asyncio.gather(*(claim(here, 2) for _ in range(6) for here in (one, two)))
        rest = [await claim(here) for here in (one, two)]

    assert len(names(*at_once, *rest)) == 5
    assert await db.fetchval("SELECT count(*) FROM jobsd.run WHERE state = 'running'") == 5


async def test_each_start_gives_its_place_back_when_its_time_is_over_and_not_before(db: Db) -> None:
    await rated(db, 2)
    await enqueued(db, "rated", count=9)

    async with node(db) as here:
        first = await claim(here, 1)
        await db.execute(USED, timedelta(seconds=40))
        second = await claim(here)
        await db.execute(USED, timedelta(seconds=19))
        full = await claim(here)
        await db.execute(USED, timedelta(seconds=2))
        third = await claim(here)

    assert [len(each.runs) for each in (first, second, full, third)] == [1, 1, 0, 1]


async def test_a_job_that_has_used_up_its_rate_hides_no_other(db: Db) -> None:
    await rated(db, 3)
    await enqueued(db, "rated", count=30, priority=0)
    await enqueued(db, priority=9)

    async with node(db) as here:
        claims = [await claim(here, 4) for _ in range(2)]

    assert sorted(names(*claims)) == ["rated"] * 3 + ["work"]


async def test_a_run_whose_lock_key_is_held_uses_no_ticket(db: Db) -> None:
    await rated(db, 2)
    await enqueued(db, "rated", count=5, key="shared")

    async with node(db) as here:
        taken = await claim(here)

    assert len(taken.runs) == 1
    assert await db.fetchval("SELECT count(*) FROM jobsd.ticket WHERE used_at > '-infinity'") == 1


async def test_of_a_smaller_rate_the_latest_starts_still_count(db: Db) -> None:
    await rated(db, 4)
    await enqueued(db, "rated", count=9)

    async with node(db) as here:
        await claim(here, 2)
        await tickets.fit(db, {"rated": StartRate(2, MINUTE)})
        smaller = await claim(here)
        await tickets.fit(db, {"rated": StartRate(3, MINUTE)})
        larger = await claim(here)

    assert (len(smaller.runs), len(larger.runs)) == (0, 1)


async def test_nodes_that_fit_at_once_end_with_the_right_number(db: Db) -> None:
    await registered(db, job("rated"))

    await asyncio.gather(*(tickets.fit(db, {"rated": StartRate(n, MINUTE)}) for n in (50, 20, 50, 20)))
    await tickets.fit(db, {"rated": StartRate(35, MINUTE)})

    assert await db.fetchval("SELECT count(*) FROM jobsd.ticket") == 35


async def test_only_a_job_without_any_ticket_left_says_when_the_next_is_free(db: Db) -> None:
    await rated(db, 2)
    await enqueued(db, "rated", count=2)
    rates = [("rated", MINUTE)]

    async with node(db) as here:
        (run,) = (await claim(here, 1)).runs
        with_one_left = await tickets.next_free(db, rates)
        await claim(here)
        with_none = await tickets.next_free(db, rates)

    started: datetime = run.started_at
    assert (with_one_left, with_none) == (None, started + MINUTE)
