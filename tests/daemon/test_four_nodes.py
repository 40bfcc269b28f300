"""Four daemons on one queue, one of them killed half way: each run ends once or in a recorded failure, none is lost.

Counted twice: from the history, and from what the jobs themselves wrote. With JOBSD_TEST_LONG=1 100,000 runs, with
the figures on the terminal.
"""

import asyncio
import os
import signal
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic

import pytest

from jobsd.store.db import Db
from tests.support.daemon import Daemon
from tests.support.eventually import eventually

Start = Callable[..., Awaitable[Daemon]]
LONG = bool(os.environ.get("JOBSD_TEST_LONG"))
RUNS = 50_000 if LONG else 1_000  # of each of the two jobs
CHUNK = RUNS // 20
KEYS = 200
QUICK = {"beat": "500ms", "deadline": "2s", "adopt": "4s", "lease": "5s", "kill": "1s", "rescue": "8s"}
SETTINGS = {"lease": QUICK, "log": {"format": "json", "level": "warning"}}

OPEN = "SELECT count(*) FROM (SELECT FROM jobsd.run WHERE state IN ('queued', 'running') LIMIT 1) AS open"
DONE = "SELECT count(*) >= $1 FROM (SELECT FROM jobsd.run WHERE state = 'completed' LIMIT $1) AS over"

AT_WORK = """
    SELECT count(*)
      FROM jobsd.run r
      JOIN jobsd.node n ON n.id = r.node AND n.name = $1
     WHERE r.state = 'running'
"""


def registry(file: Path) -> str:
    handler = f'handler = "tests.daemon.work:marks"\nparams = {{ file = "{file}", key = 0 }}\n'
    keyed = 'lock_key = "key:{key}"\nrestartable = true\n'
    return f'[jobs.free]\n{handler}lock_key = "{{run_id}}"\n[jobs.keyed]\n{handler}{keyed}'


async def ask_for_all(node: Daemon) -> list[int]:
    """`RUNS` runs of each job, by turns in calls for `CHUNK`; the ids that were answered."""
    ids: list[int] = []
    for first in range(0, RUNS, CHUNK):
        runs = [{"params": {"key": n % KEYS}} for n in range(first, first + CHUNK)]
        for job in ("free", "keyed"):
            status, answer = await node.request("POST", f"/api/v1/jobs/{job}/runs", {"runs": runs})
            assert status == 201, answer
            ids += answer["ids"]
    return ids


async def kill_at_work(node: Daemon, db: Db) -> None:
    """Kill -9 while it has runs: frozen first, so that what is seen of it stays so."""
    while True:
        node.signal(signal.SIGSTOP)
        if await db.fetchval(AT_WORK, node.settings["daemon"]["name"]):
            return await node.kill9()
        node.signal(signal.SIGCONT)
        await asyncio.sleep(0.01)


@pytest.mark.timeout(900)
@pytest.mark.req("P3", "P4", "P5", "P7", "C4", "F1", "F8")
async def test_of_many_runs_on_four_nodes_none_is_lost_or_done_twice_when_one_node_is_killed(
    daemon: Start, db: Db, tmp_path: Path
) -> None:
    file = tmp_path / "effects"
    names = ("a", "b", "c", "d")
    nodes = [await daemon(registry(file), settings={**SETTINGS, "daemon": {"name": name}}) for name in names]
    began_s = monotonic()

    asked_for = await ask_for_all(nodes[0])
    asked_s = monotonic() - began_s
    await eventually(lambda: db.fetchval(DONE, RUNS), True, patience_s=400)
    await kill_at_work(nodes[2], db)
    await eventually(lambda: db.fetchval(OPEN), 0, patience_s=400)
    took_s = monotonic() - began_s
    assert await asyncio.gather(*(node.stop() for node in nodes if node is not nodes[2])) == [0, 0, 0]

    runs = {row["id"]: row for row in await db.fetch("SELECT id, job, state, attempt FROM jobsd.run")}
    assert sorted(runs) == sorted(asked_for)
    assert len(runs) == 2 * RUNS
    outcomes: dict[int, list[str]] = defaultdict(list)
    for row in await db.fetch(
        "SELECT a.*, n.name FROM jobsd.attempt a JOIN jobsd.node n ON n.id = a.node ORDER BY fence"
    ):
        assert not row["stale"]
        assert row["outcome"] == "completed" or (row["outcome"], row["name"]) == ("lost", "c")
        assert row["outcome"] == "completed" or row["evidence"] is not None
        outcomes[row["run"]].append(row["outcome"])
    for run_id, run in runs.items():
        lost_then_done = run["job"] == "keyed" and run["state"] == "completed"
        ended = {"completed": ["completed"], "failed": ["lost"]}[run["state"]]
        assert outcomes[run_id] == ended or (lost_then_done and outcomes[run_id] == ["lost", "completed"])
        assert run["attempt"] == len(outcomes[run_id])
    final = "SELECT run, count(*) FROM jobsd.audit WHERE act IN ('completed', 'failed') GROUP BY run"
    assert {row["run"]: row["count"] for row in await db.fetch(final)} == dict.fromkeys(runs, 1)

    marks = [line.split() for line in file.read_text().splitlines()]
    began = Counter(int(run) for word, run, *_ in marks if word == "begin")
    ended_by = {(int(run), int(fence)) for word, run, fence, _ in marks if word == "end"}
    lost = {run_id for run_id, each in outcomes.items() if "lost" in each}
    assert lost
    assert {run_id for run_id, times in began.items() if times > 1} <= lost
    assert set(runs) - lost <= set(began)
    completed = await db.fetch("SELECT run, fence FROM jobsd.attempt WHERE outcome = 'completed'")
    assert {(row["run"], row["fence"]) for row in completed} <= ended_by
    held: dict[str, tuple[str, str]] = {}  # key: the run and fence that began last and has not ended
    for word, run, fence, key in marks:
        if key == "-":
            continue
        if word == "begin":
            assert key not in held or int(held[key][0]) in lost, f"{key}: {run} began beside {held[key]}"
            held[key] = (run, fence)
        else:
            assert held.pop(key) == (run, fence)
    if LONG:
        by = await db.fetch(
            "SELECT n.name, count(*) FROM jobsd.attempt a JOIN jobsd.node n ON n.id = a.node GROUP BY 1"
        )
        print(f"\n{len(runs)} runs asked for in {asked_s:.1f} s, over in {took_s:.1f} s; attempts {dict(by)}")
        print(f"{len(lost)} lost with node c, {sum(run['state'] == 'failed' for run in runs.values())} of them failed")
        print(f"{len(marks)} marks written by the jobs")
