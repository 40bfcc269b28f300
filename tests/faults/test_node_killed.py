"""SIGKILL of a node, wherever it strikes: nothing lives on, nothing is lost, and what it ran is settled by evidence."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from jobsd.store.db import Db
from tests.faults.stepping import KINDS, SHORT, all_begun, living_in, stepping, taken
from tests.support.command import jobsd
from tests.support.daemon import Daemon
from tests.support.eventually import eventually

Start = Callable[..., Awaitable[Daemon]]
ENDED = "SELECT count(*) FROM jobsd.run WHERE state = 'completed'"
RUNS, KILLS = 5, 3  # of each kind; in all


def marking(folder: Path) -> str:
    """Jobs of each kind with one lock key a kind, that mark their begin and end in a log of their key."""
    script = """
trap '' TERM
echo "begin $JOBSD_FENCE" >> "$FILE"
( setsid sh -c 'trap "" TERM; exec sleep 1000' & ) &
sleep 0.05
echo "end $JOBSD_FENCE" >> "$FILE"
"""
    work = {
        "in_loop": 'handler = "tests.faults.jobs:marks"',
        "apart": 'handler = "tests.faults.jobs:marks"\nisolation = "process"',
        "plain": 'handler = "tests.faults.jobs:marks_plainly"',
        "command": f"command = [\"sh\", \"-c\", '''{script}''']\ngrace = \"100ms\"",
    }
    return "\n".join(
        f"[jobs.{kind}]\n{how}\nrestartable = true\n"
        f'params = {{ file = "{folder / kind}" }}\nenv = {{ FILE = "{folder / kind}" }}\n'
        for kind, how in work.items()
    )


@pytest.mark.fault(1, 26, 37)
@pytest.mark.req("P3", "P5", "P7")
async def test_killed_at_random_moments_of_mixed_work_it_leaves_no_process_no_run_and_no_overlap(
    daemon: Start, db: Db, tmp_path: Path
) -> None:
    moments = random.Random()
    node = await daemon(marking(tmp_path))
    for _ in range(RUNS):
        for kind in KINDS:
            await node.trigger(kind)
    for _ in range(KILLS):
        begun = sum(len(_marks(tmp_path, kind)) for kind in KINDS)
        more = moments.randint(1, 2 * RUNS)
        await eventually(lambda most=begun + more: _marked(tmp_path, most), True)  # type: ignore[misc]
        earlier = living_in(node.folder)
        await node.kill9()
        await node.start()
        assert living_in(node.folder).isdisjoint(earlier), (
            f"a process of the killed daemon lives on, after {more} marks"
        )

    await eventually(lambda: db.fetchval(ENDED), RUNS * len(KINDS))
    assert await node.stop() == 0
    assert living_in(node.folder) == set()
    for kind in KINDS:
        marks = _marks(tmp_path, kind)
        fences = [int(mark.split()[1]) for mark in marks]
        assert fences == sorted(fences), f"{kind}: the lock key had two owners at once"
        assert max(Counter(marks).values()) == 1
    once = "SELECT count(*) FROM jobsd.attempt WHERE outcome = 'completed' AND NOT stale GROUP BY run"
    assert [row["count"] for row in await db.fetch(once)] == [1] * RUNS * len(KINDS)
    lost = await db.fetch("SELECT evidence FROM jobsd.attempt WHERE outcome = 'lost'")
    assert all("a successor holds the state directory's lock" in row["evidence"] for row in lost)


async def _marked(folder: Path, most: int) -> bool:
    return sum(len(_marks(folder, kind)) for kind in KINDS) >= min(most, 2 * RUNS * len(KINDS) - 1)


def _marks(folder: Path, kind: str) -> list[str]:
    return (folder / kind).read_text().splitlines() if (folder / kind).exists() else []


@pytest.mark.fault(1)
@pytest.mark.req("P3", "P7")
async def test_a_node_that_is_killed_and_never_comes_back_is_rescued_from_another_host_by_its_beat(
    daemon: Start, db: Db, tmp_path: Path
) -> None:
    gone = await daemon(stepping(tmp_path), settings={"lease": SHORT, "daemon": {"name": "gone"}})
    runs = await all_begun(gone, tmp_path)
    there = await daemon(
        stepping(tmp_path), settings={"lease": SHORT, "daemon": {"name": "there", "pools": ["default"]}}
    )

    await gone.kill9()
    await gone.children_gone()
    left = living_in(gone.folder)
    for kind in KINDS:
        await there.seen("run_completed", job=kind, attempt=2)

    assert left == set()
    for kind, run in runs.items():
        fences = [step.fence for step in taken(tmp_path, kind)]
        assert fences == sorted(fences)
        first = (await there.request("GET", f"/api/v1/runs/{run}/attempts"))[1]["items"][0]
        seen = first["evidence"]
        assert (first["outcome"], first["node"], seen["node"], seen["seen_by"]) == ("lost", "gone", "gone", "there")
        assert seen["beat"] == await db.fetchval("SELECT beat FROM jobsd.node WHERE name = 'gone'")
        assert seen["for_s"] >= seen["rescue_s"] and seen["looks"] >= 2
    told = await asyncio.to_thread(jobsd, "run", "show", str(run), "-o", "table", JOBSD_SOCKET=str(there.socket))
    assert "evidence of attempt 1 (lost):" in told.out
    down = await there.seen("alert_told", alert="NODE_DOWN")
    assert "node gone is down: its heartbeat stood still" in down["summary"]


@pytest.mark.req("P7", "C5")
async def test_what_a_node_cuts_short_when_it_is_stopped_another_takes_at_once_and_nobody_waits_for_its_death(
    daemon: Start, db: Db, tmp_path: Path
) -> None:
    leaving = await daemon(stepping(tmp_path), settings={"daemon": {"name": "leaving"}})
    await all_begun(leaving, tmp_path)
    staying = await daemon(stepping(tmp_path), settings={"daemon": {"name": "staying"}})  # rescues after 20 s

    leaving.signal(signal.SIGTERM)
    await leaving.seen("draining")
    leaving.signal(signal.SIGTERM)
    stopped = await leaving.exited()
    state = await db.fetchval("SELECT state FROM jobsd.node WHERE name = 'leaving'")
    for kind in KINDS:
        await staying.seen("run_completed", job=kind, attempt=2)

    assert (stopped, state, living_in(leaving.folder)) == (0, "stopped", set())
    outcomes = await db.fetch("SELECT outcome FROM jobsd.attempt ORDER BY number, run")
    assert [row["outcome"] for row in outcomes] == ["interrupted"] * 4 + ["completed"] * 4
    assert not [line for line in staying.lines if line["event"] in ("runs_lost", "node_declared_dead")]
