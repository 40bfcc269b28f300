"""When the claimer looks again, and what it leaves alone."""

import pytest

from jobsd.domain.job import JobDefinition
from jobsd.engine.claimer import POLL_S, Claimer
from jobsd.engine.here import Here
from jobsd.engine.settler import Settler
from jobsd.engine.worker import Workers
from jobsd.store.db import Db
from jobsd.store.runs import Claim
from tests.support.engine import enqueued, job, node, registered


async def claimer(here: Here, *definitions: JobDefinition) -> Claimer:
    """One that serves these jobs; nothing runs it but the test."""
    jobs = {each.name: each for each in definitions}
    await registered(here.db, *definitions)
    made = Claimer(here, Workers(100, here.keeper, Settler(here), here.observe))
    made.load(jobs, ("default",), await made.seats(jobs))
    return made


async def claimed(here: Here, made: Claimer) -> Claim:
    return await here.keeper.claim(made._request(100))


@pytest.mark.req("F1")
async def test_it_looks_again_when_a_job_at_its_rate_may_start_again_and_not_before(db: Db) -> None:
    async with node(db) as here:
        made = await claimer(here, job(rate="2/3s", lock_key="{run_id}"))
        await enqueued(db, count=5)
        idle_s = await made._until_due()
        taken = await claimed(here, made)
        waits_s = await made._until_due()
        again = await claimed(here, made)

    assert idle_s == POLL_S
    assert (len(taken.runs), len(again.runs)) == (2, 0)
    assert 0 <= waits_s <= 3 < POLL_S


@pytest.mark.req("D1")
async def test_runs_that_another_program_executes_are_left_to_it(db: Db) -> None:
    async with node(db) as here:
        made = await claimer(here, JobDefinition(name="outside", external=True), job())
        await enqueued(db, "outside")
        (mine,) = await enqueued(db)
        taken = await claimed(here, made)

    assert [run.id for run in taken.runs] == [mine]


async def test_a_reload_that_changes_a_rate_changes_the_tickets(db: Db) -> None:
    async with node(db) as here:
        await claimer(here, job(rate="7/min"))
        await claimer(here, job(rate="3/min"))
        fewer = await db.fetchval("SELECT count(*) FROM jobsd.ticket")
        await claimer(here, job(rate="9/min"))

    assert fewer == 3
    assert await db.fetchval("SELECT count(*) FROM jobsd.ticket") == 9
