"""A Patroni cluster under a running daemon: switched over as an operator does, and its leader's host killed."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from jobsd.store.migrate import migrate
from tests.faults.unharmed import JOBS, PATIENT, all_is_well, at_work, one_at_a_time
from tests.support import patroni as support
from tests.support.daemon import Daemon
from tests.support.load import load
from tests.support.patroni import Patroni
from tests.support.postgres import asked

pytestmark = pytest.mark.skipif(
    not support.available(), reason="needs the Debian packages patroni, etcd-server and postgresql-15"
)
Start = Callable[..., Awaitable[Daemon]]
LONG = bool(os.environ.get("JOBSD_TEST_LONG"))


@pytest.fixture
async def patroni() -> AsyncIterator[Patroni]:
    async with support.patroni() as started:
        yield started


@pytest.mark.timeout(400)
@pytest.mark.req("P3", "P4", "P5", "P6")
@pytest.mark.fault(5, 10, 22)
async def test_a_switchover_and_the_loss_of_the_leader_lose_nothing_acknowledged_and_end_no_run(
    daemon: Start, patroni: Patroni, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    await asked((await patroni.leader()).url(), "CREATE DATABASE jobsd")
    await migrate(patroni.url("jobsd"))
    node = await daemon(JOBS, url=patroni.url("jobsd"), settings=PATIENT)
    await at_work(node)

    async with load(node, "small") as small, load(node, "keyed", file=str(marks)) as keyed:
        await small.grows()
        await patroni.switch_over()
        await node.seen("lock_session_adopted")
        await small.grows()
        switched_s, small.longest_s = small.longest_s, 0.0
        await patroni.in_step()
        (await patroni.leader()).kill9()
        await node.seen("lock_session_lost", times=2)
        await node.seen("lock_session_adopted", times=2, patience_s=90)  # Patroni waits until its leader's key is over
        await small.grows()
        await keyed.grows()

    await all_is_well(node, (await patroni.leader()).url("jobsd"), small, keyed)
    fences = one_at_a_time(marks)
    assert fences == sorted(set(fences))
    assert {fence >> 40 for fence in fences} == {1, 2, 3}
    if LONG:
        print(f"\nPatroni: {switched_s:.2f} s for the switchover, {small.longest_s:.2f} s for the loss of the leader")
