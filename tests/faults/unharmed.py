"""What a daemon has to do while its database is harmed, and the proof that none of it suffered."""

import os
from collections import Counter
from datetime import datetime
from pathlib import Path

from jobsd.store.db import Db
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.load import Load

# Longer than any restart or failover here takes, however busy the machine.
PATIENT = {"lease": {"adopt": "70s", "lease": "72s", "rescue": "80s"}, "daemon": {"slots": 50}}
JOBS = """
[jobs.command]
command = ["sh", "-c", "echo begun command $JOBSD_ATTEMPT > traces; until [ -e go ]; do sleep 0.05; done"]

[jobs.in_loop]
handler = "tests.daemon.work:waits"

[jobs.small]
handler = "tests.daemon.work:ticks"
lock_key = "{run_id}"

[jobs.keyed]
handler = "tests.daemon.work:marks"
params = { key = "one" }
"""
LONG = bool(os.environ.get("JOBSD_TEST_LONG"))  # tell how long things took
LATER = "SELECT count(*) FROM jobsd.run WHERE state <> 'completed'"


async def at_work(node: Daemon) -> None:
    """Two runs that go on until `all_is_well`."""
    for job in ("command", "in_loop"):
        await node.trigger(job)
        await node.traced(f"begun {job} 1")


async def all_is_well(node: Daemon, url: str, *loads: Load) -> None:
    """What ran goes on to its end at the first attempt; what was acknowledged is there, once, and done, once."""
    if LONG:
        print("\nwithout a lock session:", ", ".join(f"{each:.2f} s" for each in outages_s(node)))
    node.release()
    for job in ("command", "in_loop"):
        await node.seen("run_completed", job=job, attempt=1)
    async with Db.open(url) as db:
        await eventually(lambda: db.fetchval(LATER), 0, 60)
        await eventually(lambda: db.fetchval("SELECT count(*) FROM jobsd.claim"), 0)
        rows = await db.fetch("SELECT id, job, idempotency_key AS key FROM jobsd.run WHERE idempotency_key IS NOT NULL")
        attempts = await db.fetch("SELECT run, outcome FROM jobsd.attempts")
    for asking in loads:
        assert set(asking.refused) <= {503}
        made = {row["key"]: row["id"] for row in rows if row["job"] == asking.job and row["key"] in asking.acknowledged}
        assert made == asking.acknowledged
    done = Counter(row["run"] for row in attempts if row["outcome"] == "completed")
    assert set(done.values()) == {1}
    assert {row["outcome"] for row in attempts} <= {"completed", "lost"}
    ticks = Counter(await node.traced("tick small"))
    assert set(ticks) == {str(row["id"]) for row in rows if row["job"] == "small"}
    assert set(ticks.values()) == {1}, "a claim whose answer was lost has not begun, and is not an execution"
    assert not [line for line in node.lines if line["event"] in ("lock_session_fenced", "run_refused")]


def outages_s(node: Daemon) -> list[float]:
    """From each loss of the lock session to its replacement. Seconds."""
    at = {
        event: [datetime.fromisoformat(line["at"]) for line in node.lines if line["event"] == f"lock_session_{event}"]
        for event in ("lost", "adopted")
    }
    return [(adopted - lost).total_seconds() for lost, adopted in zip(at["lost"], at["adopted"], strict=True)]


def one_at_a_time(marks: Path) -> list[int]:
    """The fences of all executions under the one key, in order; none began before the one before it had ended."""
    lines = [line.split() for line in marks.read_text().splitlines()]
    begun, ended = lines[::2], lines[1::2]
    assert [line[0] for line in begun] == ["begin"] * len(begun)
    assert [line[1:] for line in ended] == [line[1:] for line in begun]
    return [int(line[2]) for line in begun]
