"""The emergency stop asks for the end of all that runs, spares what is atomic and alive, and switches off if asked."""

from datetime import timedelta

import pytest

from jobsd.domain.run import RunState
from jobsd.operations.emergency import EmergencyRequest, emergency_stop
from jobsd.registry.load import Registry
from jobsd.store.db import Db
from tests.operations.acts import run_in, silent_for
from tests.operations.test_moves import registry  # noqa: F401  # a registry with an atomic and an external job
from tests.support.engine import node

ASKED = "SELECT run FROM jobsd.force_fail ORDER BY run"
AUDIT = "SELECT act, actor, reason, detail FROM jobsd.audit WHERE act = 'emergency_stop'"


@pytest.mark.req("D4", "E13", "A7")
async def test_runs_of_every_node_are_ended_and_the_stop_is_audited(db: Db, registry: Registry) -> None:  # noqa: F811
    async with node(db, "one") as one, node(db, "two") as two:
        here, there = await run_in(one, RunState.RUNNING), await run_in(two, RunState.RUNNING)
        await run_in(one, RunState.QUEUED)

        stopped = await emergency_stop(db, registry, EmergencyRequest(reason="flood"), "unix:alice")

    assert stopped.ending == [here, there]
    assert [row["run"] for row in await db.fetch(ASKED)] == [here, there]
    audited = [tuple(row) for row in await db.fetch(AUDIT)]
    assert audited == [("emergency_stop", "unix:alice", "flood", '{"left": 0, "ending": 2, "disabled": 0}')]


@pytest.mark.req("D4", "D3")
async def test_atomic_runs_are_left_and_listed_unless_they_are_stale(db: Db, registry: Registry) -> None:  # noqa: F811
    async with node(db) as here:
        alive, silent = await run_in(here, RunState.RUNNING, "draft"), await run_in(here, RunState.RUNNING, "ping")
        await silent_for(db, alive, timedelta(minutes=1))
        await silent_for(db, silent, timedelta(minutes=1))

        stopped = await emergency_stop(db, registry, EmergencyRequest(reason="flood"), "unix:alice")

    assert stopped.ending == [silent]
    assert [each.id for each in stopped.left] == [alive]
    assert "atomic job draft and was heard of 1m ago" in stopped.left[0].detail


@pytest.mark.req("E13", "D4")
async def test_with_disable_jobs_nothing_is_claimed_afterwards(db: Db, registry: Registry) -> None:  # noqa: F811
    from tests.support.engine import request

    async with node(db) as here:
        await run_in(here, RunState.QUEUED)
        stop = EmergencyRequest(reason="flood", disable_jobs=True)

        stopped = await emergency_stop(db, registry, stop, "unix:alice")
        claim = await here.keeper.claim(request(here, "ping"))

    switches = await db.fetch("SELECT disabled_by, disabled_reason FROM jobsd.job")
    assert stopped.disabled == ["capped", "draft", "elsewhere", "ping"]
    assert claim.runs == ()
    assert {tuple(row) for row in switches} == {("unix:alice", "emergency stop: flood")}
    assert await db.fetchval("SELECT count(*) FROM jobsd.audit WHERE act = 'disabled'") == 4
