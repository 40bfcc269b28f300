"""Two daemons on one database, no leader: each slot is decided once and run once, and no job ever beside itself.

Counted twice: from the ledger, and from what the jobs themselves wrote. With JOBSD_TEST_LONG=1 for two minutes, with
the figures on the terminal.
"""

import asyncio
import os
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from jobsd.store.db import Db, Row
from tests.support.daemon import Daemon
from tests.support.eventually import eventually

Start = Callable[..., Awaitable[Daemon]]
JOBS = 50
LONG = bool(os.environ.get("JOBSD_TEST_LONG"))
SLOTS = 120 if LONG else 8

RAN = ("ran", "caught_up")
LEAST = """
    SELECT count(*) = $1 AND min(slots) >= $2 AND (SELECT count(DISTINCT node) = 2 FROM jobsd.attempt)
      FROM (SELECT sum(count) AS slots FROM jobsd.slot GROUP BY job) AS each
"""


def registry(file: Path) -> str:
    job = f'handler = "tests.daemon.work:writes_a_log"\nschedule = {{ every = "1s" }}\nparams = {{ file = "{file}" }}\n'
    return "".join(f"[jobs.job{number}]\n{job}" for number in range(JOBS))


def by_job(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["job"]].append(row)
    return found


@pytest.mark.timeout(400)
@pytest.mark.req("P1", "P2", "P3", "C2")
async def test_every_slot_is_decided_once_and_no_job_runs_twice_for_one_or_beside_itself(
    daemon: Start, db: Db, tmp_path: Path
) -> None:
    file = tmp_path / "effects"
    nodes = [await daemon(registry(file), settings={"daemon": {"name": name}}) for name in ("a", "b")]

    await eventually(lambda: db.fetchval(LEAST, JOBS, SLOTS), True, patience_s=SLOTS + 60)
    assert await asyncio.gather(*(node.stop() for node in nodes)) == [0, 0]

    ledger = await db.fetch("SELECT job, slot_at, to_at, count, decision, run, node FROM jobsd.slot ORDER BY 1, 2")
    for job, slots in by_job(ledger).items():
        steps = {(later["slot_at"] - slot["to_at"]).total_seconds() for slot, later in pairwise(slots)}
        assert steps == {1.0}, f"{job}: a slot is missing, or decided twice"
        assert sum(slot["count"] for slot in slots) == (slots[-1]["to_at"] - slots[0]["slot_at"]).total_seconds() + 1
    runs = await db.fetch("SELECT id, job, slot_at, state, attempt FROM jobsd.run")
    assert {row["id"] for row in runs} == {slot["run"] for slot in ledger if slot["decision"] in RAN}
    assert len({(row["job"], row["slot_at"]) for row in runs}) == len(runs)
    completed = {row["id"]: row for row in runs if row["state"] == "completed"}
    assert all(row["attempt"] == 1 for row in completed.values())
    assert {row["state"] for row in runs} <= {"completed", "queued"}  # those that were due when the drain began

    effects = [line.split() for line in file.read_text().splitlines()]
    last: dict[str, tuple[str, str, str]] = {}
    for word, job, slot_at, fence, _ in effects:
        before = last.get(job, ("end", "", "0"))
        beside_itself = (before[0] == word) or (word == "end" and before[1:] != (slot_at, fence))
        assert not beside_itself, f"{job}: {before} is followed by {word, slot_at, fence}"
        assert word == "end" or int(fence) > int(before[2])
        last[job] = (word, slot_at, fence)
    began = Counter((job, slot_at) for word, job, slot_at, *_ in effects if word == "begin")
    assert set(began.values()) == {1}
    assert set(began) == {(row["job"], f"{row['slot_at']:%Y-%m-%dT%H:%M:%S}") for row in completed.values()}

    attempts = await db.fetch(
        "SELECT n.name, count(*) FROM jobsd.attempt a JOIN jobsd.node n ON n.id = a.node GROUP BY 1"
    )
    deciders = await db.fetch("SELECT n.name, count(*) FROM jobsd.slot s JOIN jobsd.node n ON n.id = s.node GROUP BY 1")
    assert {row["name"] for row in attempts} == {"a", "b"}
    assert {row["name"] for row in deciders} <= {"a", "b"}  # who comes first decides: it may always be the same
    if LONG:
        print(f"\n{sum(slot['count'] for slot in ledger)} slots of {JOBS} jobs, {len(completed)} runs completed,")
        print(f"decisions {dict(Counter(slot['decision'] for slot in ledger))},")
        print(f"run by {dict(attempts)}, decided by {dict(deciders)}, {len(effects)} lines written by the jobs")
        lags = [line["lag_s"] for node in nodes for line in node.lines if line["event"] == "slot_decided"]
        pickups = [line["pickup_s"] for node in nodes for line in node.lines if line["event"] == "run_started"]
        for name, values in (("from slot to decision", lags), ("from due to start", pickups)):
            values.sort()
            print(f"{name}: median {values[len(values) // 2]:.3f} s, 99 % {values[len(values) * 99 // 100]:.3f} s")
