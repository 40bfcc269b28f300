"""What jobs do to their node: they block its loop, eat its memory, fork without end. It goes on, and says why."""

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from jobsd.store.db import Db
from tests.faults.stepping import SHORT, living_in, taken
from tests.support.daemon import Daemon
from tests.support.eventually import eventually

Start = Callable[..., Awaitable[Daemon]]
GROUPS = Path("/sys/fs/cgroup")
LASTS = """
[jobs.lasts]
command = ["sh", "-c", "echo begun lasts > traces; until [ -e go ]; do sleep 0.02; done"]
"""


@pytest.mark.fault(24, 25)
@pytest.mark.req("P7", "P11", "P12")
@pytest.mark.parametrize("how", ["blocks", "spins"])
async def test_a_loop_that_is_blocked_past_lease_and_rescue_is_named_and_the_node_is_alive_to_all_others(
    daemon: Start, db: Db, how: str
) -> None:
    jobs = LASTS + f'[jobs.{how}]\nhandler = "tests.faults.jobs:{how}"\nparams = {{ for_s = 6 }}\n'
    node = await daemon(jobs, settings={"lease": SHORT, "daemon": {"name": "blocked"}})
    other = await daemon("", settings={"lease": SHORT, "daemon": {"name": "other"}})
    lasting = await node.trigger("lasts")
    await node.traced("begun lasts")

    run = await node.trigger(how)
    blocked = await node.seen("loop_blocked")
    beats = "SELECT beat FROM jobsd.node WHERE name = 'blocked'"
    before = await db.fetchval(beats)
    await node.seen("loop_resumed")
    after = await db.fetchval(beats)
    await node.seen("run_completed", run=run, attempt=1)
    node.release()
    await node.seen("run_completed", run=lasting, attempt=1)

    assert (blocked["task"], f"in {how}" in blocked["stack"]) == (f"run {run} {how}", True)
    assert after > before
    assert not [line for line in other.lines if line["event"] in ("node_declared_dead", "runs_lost")]
    await eventually(lambda: db.fetchval("SELECT count(*) FROM jobsd.alert WHERE type = 'HEALTH'"), 1)


@pytest.mark.fault(23, 24)
@pytest.mark.req("P3", "P11")
async def test_a_thread_that_outlives_its_jobs_timeout_keeps_the_lock_until_it_ends_and_is_alerted(
    daemon: Start, db: Db, tmp_path: Path
) -> None:
    work = 'handler = "tests.faults.jobs:steps_in_a_thread"\ntimeout = "300ms"\ngrace = "100ms"'
    node = await daemon(f'[jobs.threaded]\n{work}\nparams = {{ file = "{tmp_path / "steps"}" }}\n')
    first, second = [await node.trigger("threaded") for _ in range(2)]

    await node.seen("run_ignores_cancellation", run=first)
    states = await db.fetch("SELECT state FROM jobsd.run ORDER BY id")
    await eventually(lambda: db.fetchval("SELECT run FROM jobsd.alert WHERE type = 'HEALTH'"), first)
    node.release()
    await node.seen("run_ended_at_last", run=first)
    await node.seen("run_completed", run=second)

    assert [row["state"] for row in states] == ["failed", "queued"]
    fences = [step.fence for step in taken(tmp_path, "steps")]
    assert fences == sorted(fences) and len(fences) == 4
    assert await node.stop() == 0


@pytest.mark.fault(26)
@pytest.mark.req("P11")
async def test_a_child_that_gets_no_more_memory_fails_with_that_and_harms_nobody(daemon: Start) -> None:
    node = await daemon('[jobs.eats]\nhandler = "tests.faults.jobs:eats"\n' + LASTS)
    await node.trigger("lasts")
    await node.traced("begun lasts")

    await node.trigger("eats")
    failed = await node.seen("run_failed", job="eats")
    node.release()
    await node.seen("run_completed", job="lasts")

    assert failed["kind"] == "MemoryError"


@pytest.fixture
def group() -> Iterator[Callable[..., Path]]:
    """Make control groups (version 1) with limits of their own."""
    made: list[Path] = []

    def limited(controller: str, **limits: int) -> Path:
        made.append(GROUPS / controller / f"jobsd-test-{os.getpid()}")
        made[-1].mkdir()
        for name, value in limits.items():
            (made[-1] / name.replace("_", ".", 1)).write_text(str(value))
        return made[-1]

    yield limited
    for each in made:
        with suppress(FileNotFoundError):
            each.rmdir()


def cannot_limit(controller: str) -> bool:
    return os.geteuid() != 0 or not os.access(GROUPS / controller / "cgroup.procs", os.W_OK)


@pytest.mark.skipif(cannot_limit("memory"), reason="needs root and a memory control group (version 1)")
@pytest.mark.fault(26)
@pytest.mark.req("P11")
async def test_a_command_that_the_kernel_kills_for_its_memory_fails_as_such_and_alone(
    daemon: Start, group: Callable[..., Path]
) -> None:
    folder = group("memory", memory_limit_in_bytes=60 << 20)
    script = f"echo $$ > {folder}/cgroup.procs; exec dd if=/dev/zero of=/dev/null bs=500M count=1"
    node = await daemon(f'[jobs.eats]\ncommand = ["sh", "-c", "{script}"]\n' + LASTS)
    await node.trigger("lasts")
    await node.traced("begun lasts")

    await node.trigger("eats")
    failed = await node.seen("run_failed", job="eats")
    node.release()
    await node.seen("run_completed", job="lasts")

    assert failed["kind"] == "signal"
    assert "SIGKILL, not by jobsd: by a person, or by the kernel for want of memory" in failed["error"]


@pytest.mark.skipif(cannot_limit("pids"), reason="needs root and a pids control group (version 1)")
@pytest.mark.fault(26)
@pytest.mark.req("P11")
async def test_a_command_that_forks_without_end_is_stopped_by_its_limit_and_swept(
    daemon: Start, group: Callable[..., Path]
) -> None:
    folder = group("pids", pids_max=30)
    script = f"trap '' TERM; echo $$ > {folder}/cgroup.procs; while :; do setsid sleep 1000 & done"
    node = await daemon(f'[jobs.bomb]\ncommand = ["sh", "-c", "{script}"]\ngrace = "100ms"\n' + LASTS)
    await node.trigger("lasts")
    await node.traced("begun lasts")

    await node.trigger("bomb")
    failed = await node.seen("run_failed", job="bomb")
    node.release()
    await node.seen("run_completed", job="lasts")
    left = living_in(node.folder) - {node.pid}

    assert (failed["kind"], "fork" in failed["error"].lower()) == ("exit", True)
    assert left == set()
