"""A job that is disabled for a time: until when, that it ends by itself, and that everybody can see both."""

from datetime import timedelta

import pytest

from jobsd.engine.steward import Steward
from jobsd.operations import jobs
from jobsd.operations.why import why
from jobsd.registry.load import Registry
from jobsd.store import standing
from jobsd.store.db import Db
from tests.support.engine import enqueued, node, request

AUDIT = "SELECT act, actor, reason FROM jobsd.audit WHERE run IS NULL AND job = 'ping' ORDER BY sequence"


async def off(db: Db, registry: Registry, hours: float | None) -> jobs.JobSummary:
    lasts = None if hours is None else timedelta(hours=hours)
    return await jobs.switch(
        db, registry, "ping", enabled=False, actor="unix:alice", reason="database moves", lasts=lasts
    )


async def time_is_over(db: Db) -> None:
    await db.execute("UPDATE jobsd.job SET disabled_until = now() WHERE disabled_until IS NOT NULL")


@pytest.mark.req("E11")
async def test_it_says_until_when_wherever_it_is_shown(db: Db, registry: Registry) -> None:
    summary = await off(db, registry, 2)

    reasons = [each.text for each in (await why(db, registry, "ping")).reasons if each.code == "disabled"]
    assert summary.disabled_until is not None
    assert reasons == [f'disabled by unix:alice until {summary.disabled_until:%Y-%m-%d %H:%M:%S} UTC: "database moves"']
    assert (await jobs.show(db, registry, "ping")).disabled_until == summary.disabled_until


@pytest.mark.req("A7", "B9")
async def test_it_ends_by_itself_once_and_that_is_audited(db: Db, registry: Registry) -> None:
    await off(db, registry, 2)
    early = await standing.end_windows(db)
    await time_is_over(db)

    ended = [await standing.end_windows(db) for _ in range(2)]

    assert (early, ended) == ([], [["ping"], []])
    assert [tuple(row) for row in await db.fetch(AUDIT)] == [
        ("disabled", "unix:alice", "database moves"),
        ("enabled", "jobsd", "the time for which it was disabled is over"),
    ]


async def test_its_end_lets_queued_runs_go(db: Db, registry: Registry) -> None:
    await off(db, registry, 2)
    await enqueued(db, "ping")
    async with node(db) as here:
        before = await here.keeper.claim(request(here, "ping"))
        await time_is_over(db)
        steward, enabled = Steward(here, None), list[None]()  # type: ignore[arg-type]  # nothing is forced here
        steward.on_enabled = lambda: enabled.append(None)

        await steward._look()
        after = await here.keeper.claim(request(here, "ping"))

    assert (len(before.runs), len(after.runs), len(enabled)) == (0, 1, 1)


async def test_disabled_again_another_time_holds_and_for_good_is_for_good(db: Db, registry: Registry) -> None:
    first = await off(db, registry, 1)
    longer = await off(db, registry, 5)
    for_good = await off(db, registry, None)

    assert first.disabled_until is not None
    assert longer.disabled_until is not None
    assert longer.disabled_until > first.disabled_until
    assert for_good.disabled_until is None
    assert not for_good.enabled


async def test_enabled_by_hand_the_time_is_forgotten(db: Db, registry: Registry) -> None:
    await off(db, registry, 2)

    on = await jobs.switch(db, registry, "ping", enabled=True, actor="unix:bob", reason=None)

    assert (on.enabled, on.disabled_until) == (True, None)
