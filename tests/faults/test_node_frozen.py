"""A node that sleeps longer than its lease: what it ran ends or stands still, and awake it can change nothing."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from jobsd.store.db import Db
from tests.faults.stepping import KINDS, SHORT, all_begun, below, living_in, stepping, taken
from tests.support.command import jobsd
from tests.support.daemon import Daemon
from tests.support.eventually import eventually

Start = Callable[..., Awaitable[Daemon]]
HERE = '\n[jobs.only_here]\ncommand = ["true"]\npool = "frozen"\n'


async def two_nodes(daemon: Start, folder: Path) -> tuple[Daemon, Callable[[], Awaitable[Daemon]]]:
    """The one that will freeze, and how to start the other, on another state directory."""
    jobs = stepping(folder) + HERE
    frozen = await daemon(jobs, settings={"lease": SHORT, "daemon": {"name": "frozen", "pools": ["default", "frozen"]}})
    return frozen, lambda: daemon(jobs, settings={"lease": SHORT, "daemon": {"name": "rescuer"}})


async def rescued(rescuer: Daemon) -> None:
    for kind in KINDS:
        await rescuer.seen("run_completed", job=kind, attempt=2)


async def awake(frozen: Daemon, db: Db) -> None:
    """It has heard of its death, has been refused all it wrote, and works again."""
    await frozen.seen("lock_session_fenced")
    for kind in KINDS:
        await frozen.seen("run_refused", job=kind)
    await frozen.seen("lock_session_up", times=2)
    run = await frozen.trigger("only_here")
    await frozen.seen("run_completed", run=run)
    states = "SELECT state FROM jobsd.node WHERE name = 'frozen' ORDER BY id"
    await eventually(lambda: _column(db, states), ["dead", "live"])


async def _column(db: Db, query: str, *args: object) -> list[object]:
    return [row[0] for row in await db.fetch(query, *args)]


@pytest.mark.fault(2)
@pytest.mark.req("P3", "P4", "P7")
async def test_a_frozen_daemons_trees_end_at_the_lease_and_what_it_writes_awake_is_refused_kept_and_told(
    daemon: Start, db: Db, tmp_path: Path
) -> None:
    frozen, other = await two_nodes(daemon, tmp_path)
    runs = await all_begun(frozen, tmp_path)

    frozen.signal(signal.SIGSTOP)
    await frozen.children_gone()
    left, still_running = living_in(frozen.folder) - {frozen.pid}, await _column(db, "SELECT state FROM jobsd.run")
    rescuer = await other()
    await rescued(rescuer)
    slept = {kind: len(taken(tmp_path, kind)) for kind in KINDS}
    frozen.signal(signal.SIGCONT)
    await awake(frozen, db)

    assert (left, still_running) == (set(), ["running"] * len(KINDS)), "ended by their guardians, rescued only later"
    for kind in KINDS:
        fences = [step.fence for step in taken(tmp_path, kind)]
        before = fences[: slept[kind]]
        assert before == sorted(before), f"{kind}: a step of the first attempt after the second had begun"
        assert set(fences[slept[kind] :]) <= {min(fences)} and len(fences) <= slept[kind] + (kind == "in_loop")
    started = [line for line in frozen.lines if line["event"] == "run_started" and line["job"] in KINDS]
    assert [line["attempt"] for line in started] == [1] * len(KINDS), "awake, it starts nothing of this"
    await all_is_told(frozen, db, runs)


async def all_is_told(frozen: Daemon, db: Db, runs: dict[str, int]) -> None:
    """The refused results: in the database, the API, the audit, the command, the metrics, the alerts."""
    for kind, run in runs.items():
        attempts = (await frozen.request("GET", f"/api/v1/runs/{run}/attempts"))[1]["items"]
        assert sorted(each["outcome"] for each in attempts) == ["completed", "lost", "rejected, stale"], kind
        (lost,) = (each for each in attempts if each["outcome"] == "lost")
        seen = lost["evidence"]
        assert (seen["proof"], seen["node"], seen["seen_by"]) == ("its heartbeat stood still", "frozen", "rescuer")
        assert seen["beat"] > 0 and seen["looks"] >= 2 and seen["for_s"] >= seen["rescue_s"] == 4
        assert seen["beat_at"] < seen["declared_at"]
        audit = (await frozen.request("GET", f"/api/v1/runs/{run}/audit"))[1]["items"]
        acts = [entry["act"] for entry in audit]
        assert acts == ["queued", "started", "requeued", "started", "completed", "refused"]
        assert "rejected, stale" in audit[-1]["reason"] and audit[-1]["fence"] == lost["fence"]
    show = ("run", "show", str(runs["command"]), "-o", "table")
    shown = (await asyncio.to_thread(jobsd, *show, JOBSD_SOCKET=str(frozen.socket))).out
    assert "rejected, stale" in shown
    (evidence,) = (line for line in shown.splitlines() if line.startswith("evidence of attempt 1 (lost):"))
    assert "proof its heartbeat stood still" in evidence and "seen_by rescuer" in evidence
    alerts = await db.fetch("SELECT type, job FROM jobsd.alert WHERE type IN ('JOB_FENCED', 'NODE_DOWN')")
    assert {tuple(row) for row in alerts} == {("NODE_DOWN", None), *(("JOB_FENCED", kind) for kind in KINDS)}
    metrics = (await frozen.request("GET", "/metrics"))[1]
    assert f"\njobsd_fenced_total {1 + len(KINDS)}.0\n" in metrics, "once the node, and each result"


@pytest.mark.fault(3)
@pytest.mark.req("P3", "P4", "P7")
async def test_when_the_whole_machine_pauses_each_job_takes_at_most_one_more_step_and_no_outcome_of_it_counts(
    daemon: Start, db: Db, tmp_path: Path
) -> None:
    frozen, other = await two_nodes(daemon, tmp_path)
    runs = await all_begun(frozen, tmp_path)

    machine = [frozen.pid, *below(frozen.pid)]
    for pid in machine:  # guardians before what they guard
        os.kill(pid, signal.SIGSTOP)
    rescuer = await other()
    await rescued(rescuer)
    paused = {kind: taken(tmp_path, kind) for kind in KINDS}
    for pid in reversed(machine):  # what they guard goes on first
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    await frozen.children_gone()
    await awake(frozen, db)

    assert living_in(frozen.folder) == {frozen.pid}
    for kind in KINDS:
        more = taken(tmp_path, kind)[len(paused[kind]) :]
        assert [step.fence for step in more] in ([], [paused[kind][0].fence]), f"{kind}: more than one more step"
    counted = await db.fetch("SELECT run, outcome FROM jobsd.attempt WHERE NOT stale ORDER BY run, number")
    assert [row["outcome"] for row in counted if row["run"] in runs.values()] == ["lost", "completed"] * len(KINDS)
