"""Signals besides those that stop and reload: a look inside, and jobs that wait for a signal of their own."""

import os
import signal
from collections.abc import Awaitable, Callable

import pytest

from jobsd.store.db import Db
from tests.support.daemon import Daemon

LIBC_S_OWN = 0b11 << 31  # signals 32 and 33: make(1) ignores them for its children

Start = Callable[..., Awaitable[Daemon]]

JOBS = """
[jobs.long]
handler = "tests.daemon.work:waits"

[jobs.often]
command = ["true"]
schedule = { every = "1h" }
"""
RUNG = """
[jobs.rung]
handler = "tests.daemon.work:ticks"
signal = "SIGUSR2"

[jobs.real_time]
handler = "tests.daemon.work:ticks"
signal = "SIGRTMIN+3"
"""


@pytest.mark.req("C5")
async def test_usr1_writes_tasks_runs_locks_loops_and_next_slots_to_the_log(daemon: Start, db: Db) -> None:
    node = await daemon(JOBS)
    run = await node.trigger("long")
    await node.traced("begun long")

    node.signal(signal.SIGUSR1)
    dump = await node.seen("state")

    key = await db.fetchval("SELECT held FROM jobsd.run WHERE id = $1", run)
    assert [(each["run"], each["job"]) for each in dump["running"]] == [(run, "long")]
    assert dump["locks"] == {str(run): [str(key)]}
    assert dump["lock_session"] == "up"
    assert {"claimer", "scheduler", "settler", "rescuer", "lock session"} <= dump["loops"].keys()
    assert [each["job"] for each in dump["next_slots"]] == ["often"]
    assert any(task.startswith(f"run {run} long at ") and "work.py" in task for task in dump["tasks"]), dump["tasks"]


@pytest.mark.req("C5", "A6")
async def test_usr2_and_real_time_signals_trigger_the_jobs_that_name_them_also_after_a_reload(
    daemon: Start, db: Db
) -> None:
    node = await daemon(JOBS + RUNG)

    node.signal(signal.SIGUSR2)
    await node.traced("tick rung")
    node.signal(signal.SIGRTMIN + 3)
    await node.traced("tick real_time")
    node.write(JOBS + RUNG.replace("SIGRTMIN+3", "SIGRTMIN+4"))
    node.signal(signal.SIGHUP)
    await node.seen("registry_reloaded")
    node.signal(signal.SIGRTMIN + 3)
    node.signal(signal.SIGRTMIN + 4)
    await node.traced("tick real_time", times=2)

    rows = await db.fetch("SELECT job, actor FROM jobsd.run ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [
        ("rung", "signal:SIGUSR2"),
        ("real_time", "signal:SIGRTMIN+3"),
        ("real_time", "signal:SIGRTMIN+4"),
    ]


@pytest.mark.req("C5")
async def test_a_command_gets_the_signals_as_the_system_made_them(daemon: Start, db: Db) -> None:
    ignored = "grep SigIgn /proc/self/status"
    node = await daemon(f'[jobs.asks]\ncommand = ["sh", "-c", "{ignored}"]\n')

    run = await node.trigger("asks")
    await node.seen("run_completed", run=run)

    output = await db.fetchval("SELECT output FROM jobsd.attempt")
    assert int(output.split()[1], 16) & ~LIBC_S_OWN == 0


@pytest.mark.req("C5")
async def test_signals_that_no_job_names_do_no_harm(daemon: Start, db: Db) -> None:
    node = await daemon(JOBS)

    for number in (signal.SIGUSR2, signal.SIGRTMIN + 3, signal.SIGRTMAX, signal.SIGPIPE):
        os.kill(node.pid, number)
    run = await node.trigger("often")

    await node.seen("run_completed", run=run)
    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 1
    assert await node.stop() == 0
