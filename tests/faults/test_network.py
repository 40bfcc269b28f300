"""Networks that reset, stall, forget and crawl, for each kind of connection by itself (P6, P3, P5).

A proxy stands between the daemon and a real server. What a lost route does, without a proxy, is in test_routes.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from jobsd.store.db import Db
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.proxy import Proxy, proxy

Start = Callable[..., Awaitable[Daemon]]
Via = Callable[[], Proxy]
FAULTS: dict[str, Callable[[Proxy, str], int]] = {
    "reset": Proxy.reset,
    "cut": Proxy.cut,
    "half-open": Proxy.half_open,
    "stall": Proxy.stall,
    "deaf": lambda link, kind: link.stall(kind, up=False),  # what we say arrives, no answer does
    "mute": lambda link, kind: link.stall(kind, down=False),
}
PATIENT = {"beat": "200ms", "deadline": "1s", "adopt": "20s", "lease": "22s", "kill": "1s", "rescue": "40s"}
SHORT = {"beat": "200ms", "deadline": "500ms", "adopt": "1500ms", "lease": "2s", "kill": "500ms", "rescue": "5s"}
LISTENS = """
    SELECT max(pid) FROM pg_stat_activity
     WHERE pid <> $1 AND datname = current_database() AND application_name ~ '^jobsd listen'
       AND state = 'idle' AND query ~ '^LISTEN'
"""
JOBS = """
[jobs.command]
command = ["sh", "-c", "echo begun command $JOBSD_ATTEMPT $$ > traces; until [ -e go ]; do sleep 0.02; done"]
restartable = true

[jobs.in_loop]
handler = "tests.daemon.work:waits"

[jobs.tick]
handler = "tests.daemon.work:ticks"
"""


@pytest.fixture
def via(database_url: str) -> Iterator[Via]:
    """Make proxies before the test's database."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(proxy(database_url))


def settings(lease: dict[str, str], **daemon: Any) -> dict[str, Any]:
    return {"lease": lease, "daemon": daemon, "database": {"statement_timeout": "1s"}}


def place(node: Daemon, event: str, **fields: object) -> int:
    """Where in the log an event is, for the first time."""
    found = (n for n, line in enumerate(node.lines) if line["event"] == event and fields.items() <= line.items())
    return next(found)


async def two_runs(node: Daemon) -> None:
    for job in ("command", "in_loop"):
        await node.trigger(job)
        await node.traced(f"begun {job}")


@pytest.mark.req("P6", "P3")
@pytest.mark.fault(9, 13)
async def test_whatever_happens_to_the_lock_session_for_less_than_adopt_runs_go_on_and_none_begins_without_one(
    daemon: Start, db: Db, database_url: str, via: Via
) -> None:
    link = via()
    node = await daemon(JOBS, url=link.url(database_url), settings=settings(PATIENT))
    await two_runs(node)

    for number, (name, break_it) in enumerate(FAULTS.items(), 1):
        assert break_it(link, "jobsd lock") == 1, name
        await node.seen("lock_session_lost", times=number)
        run = await node.trigger("tick")
        link.mend("jobsd lock")
        await node.seen("lock_session_adopted", times=number)
        await node.seen("run_completed", run=run)
    node.release()
    for job in ("command", "in_loop"):
        await node.seen("run_completed", job=job, attempt=1)

    told = [line["event"] for line in node.lines]
    down = False
    for event in told:
        down = {"lock_session_lost": True, "lock_session_adopted": False}.get(event, down)
        assert not (down and event == "run_started")
    assert "lock_session_fenced" not in told
    ticks = await node.traced("tick tick")
    assert len(ticks) == len(set(ticks)) == len(FAULTS)
    # A claim that is under way when the session is cut may arrive late: it is put back, having begun nowhere.
    odd = "SELECT count(*) FROM jobsd.attempt WHERE stale OR NOT (outcome = 'completed' OR error ~ 'never began')"
    assert await db.fetchval(odd) == 0


@pytest.mark.req("P6", "P3", "P7")
@pytest.mark.fault(9)
async def test_a_node_whose_every_connection_hangs_ends_its_commands_and_another_takes_over_never_two_at_once(
    daemon: Start, db: Db, database_url: str, via: Via, tmp_path: Path
) -> None:
    lock, link = tmp_path / "alone", via()
    wait = f"until [ -e {tmp_path}/go ]; do sleep 0.02; done"
    script = f"flock -n 9 || echo overlap > traces; echo begun $$ > traces; {wait}"
    jobs = f"""
[jobs.alone]
command = ["sh", "-c", "exec 9>{lock}; {script}"]
lock_key = "alone"
restartable = true
"""
    one = await daemon(jobs, url=link.url(database_url), settings=settings(SHORT, name="one"))
    run = await one.trigger("alone")
    (first,) = await one.traced("begun")
    two = await daemon(jobs, settings=settings(SHORT, name="two"))

    link.stall()
    await one.seen("lock_session_fenced")
    await one.children_gone()
    await two.seen("runs_lost", node="one")
    await two.traced("begun")
    gone = not Path(f"/proc/{first}").exists()
    (tmp_path / "go").touch()
    await two.seen("run_completed", run=run, attempt=2)
    link.mend()
    await one.seen("lock_session_up", times=2)
    await one.trigger("alone")
    await eventually(lambda: db.fetchval("SELECT count(*) FROM jobsd.run WHERE state = 'completed'"), 2)

    assert gone
    assert "overlap" not in one.traces + two.traces
    attempts = await db.fetch("SELECT outcome FROM jobsd.attempt WHERE run = $1 AND NOT stale ORDER BY number", run)
    assert [row["outcome"] for row in attempts] == ["lost", "completed"]


@pytest.mark.req("P5", "P4", "P6")
@pytest.mark.fault(9, 10)
@pytest.mark.parametrize("name", ["reset", "half-open", "deaf"])
async def test_an_outcome_whose_way_to_the_database_is_broken_is_written_once_when_it_is_whole(
    daemon: Start, db: Db, database_url: str, via: Via, name: str
) -> None:
    link = via()
    node = await daemon(JOBS, url=link.url(database_url), settings=settings(PATIENT))
    await two_runs(node)

    assert FAULTS[name](link, "jobsd work") >= 1
    node.release()
    await node.traced("ended in_loop")
    if name != "reset":
        await node.seen("database_trouble", loop="settler")
    link.mend("jobsd work")
    for job in ("command", "in_loop"):
        await node.seen("run_completed", job=job, attempt=1)

    attempts = await db.fetch("SELECT outcome, stale FROM jobsd.attempt")
    assert [tuple(row) for row in attempts] == [("completed", False)] * 2
    assert not [
        line for line in node.lines if line["event"].startswith("lock_session_") and line["event"] != "lock_session_up"
    ]


@pytest.mark.req("P5", "D6")
@pytest.mark.fault(10)
async def test_a_run_asked_for_again_because_the_answer_was_lost_is_one_run(
    daemon: Start, db: Db, database_url: str, via: Via
) -> None:
    link = via()
    node = await daemon(JOBS, url=link.url(database_url), settings=settings(PATIENT))
    wanted = {"key": "once"}

    link.stall("jobsd work", up=False)
    status, _ = await node.request("POST", "/api/v1/jobs/tick/runs", wanted)
    link.mend("jobsd work")
    again, answer = await node.request("POST", "/api/v1/jobs/tick/runs", wanted)
    await node.seen("run_completed", run=answer["id"])

    assert status == 503
    assert again in (200, 201)
    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 1


@pytest.mark.req("P6", "P11")
@pytest.mark.fault(9)
async def test_a_listen_session_that_is_lost_is_told_and_replaced_and_one_that_is_deaf_stops_nothing(
    daemon: Start, db: Db, database_url: str, via: Via
) -> None:
    link = via()
    node = await daemon(JOBS, url=link.url(database_url))
    asking = "SELECT jobsd.enqueue('tick')"

    await eventually(lambda: _listens(db, 0), True)
    first = await db.fetchval(LISTENS, 0)
    assert link.reset("jobsd listen") == 1
    await node.seen("listen_session_lost")
    await eventually(lambda: _listens(db, first), True)
    assert link.half_open("jobsd listen") == 1
    run = await db.fetchval(asking)
    await node.seen("run_completed", run=run)

    assert not [line for line in node.lines if line["event"] == "lock_session_lost"]


async def _listens(db: Db, other: int) -> bool:
    """Whether a session listens that is not the `other`."""
    return await db.fetchval(LISTENS, other) is not None


@pytest.mark.req("P6", "P7", "P3")
@pytest.mark.fault(11)
async def test_nodes_on_slow_links_are_slow_and_neither_dead_nor_fenced(
    daemon: Start, db: Db, database_url: str, via: Via
) -> None:
    links = [via(), via()]
    nodes = [
        await daemon(JOBS, url=link.url(database_url), settings={"daemon": {"name": name, "slots": 1}})
        for name, link in zip(("one", "two"), links, strict=True)
    ]

    for link in links:
        link.slow()
    for _ in range(5):
        for node in nodes:
            await node.trigger("tick")
    await eventually(lambda: db.fetchval("SELECT count(*) FROM jobsd.run WHERE state = 'completed'"), 10)
    await eventually(lambda: db.fetchval("SELECT min(beat) >= 4 FROM jobsd.node"), True)

    assert await db.fetchval("SELECT count(*) FROM jobsd.node WHERE state = 'live'") == 2
    bad = ("lock_session_lost", "lock_session_fenced", "runs_lost", "run_refused")
    assert not [line for node in nodes for line in node.lines if line["event"] in bad]
