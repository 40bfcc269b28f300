"""Progress on its way to the database: seldom, and never with the last word missing."""

import pytest

from jobsd.engine.executors.pipeline import Progress
from jobsd.engine.reporter import Reporter
from jobsd.store.db import Db
from tests.support.engine import enqueued, job, node, registered, request
from tests.support.eventually import eventually

READ = "SELECT progress, progress_note, step, steps->0->>0 AS first FROM jobsd.runs"


async def told(db: Db) -> tuple[object, ...]:
    row = await db.fetchrow(READ)
    assert row is not None
    return tuple(row.values())


@pytest.mark.req("D2")
async def test_the_last_of_many_reports_is_written_though_nothing_follows_it(db: Db) -> None:
    async with node(db) as here:
        await registered(db, job())
        await enqueued(db)
        (run,) = (await here.keeper.claim(request(here))).runs
        reporter = Reporter(here, run)

        for number in range(101):
            await reporter.progress(Progress(number / 100, f"{number} of 100\0", "load", (("load", 1.0),)))

        await eventually(lambda: told(db), (1.0, "100 of 100", "load", "load"))


@pytest.mark.req("D2", "P4")
async def test_what_is_held_back_is_written_at_the_end_and_not_for_a_run_that_is_over(db: Db) -> None:
    async with node(db) as here:
        await registered(db, job())
        await enqueued(db)
        (run,) = (await here.keeper.claim(request(here))).runs
        reporter = Reporter(here, run)

        for fraction in (0.1, 0.2):
            await reporter.progress(Progress(fraction))
        await reporter.flush()
        at_the_end = (await told(db))[0]
        await reporter.progress(Progress(0.3))
        reporter.drop()
        await reporter.flush()

    assert at_the_end == 0.2
    assert (await told(db))[0] == 0.2
