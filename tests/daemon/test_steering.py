"""Jobs that steer, as a real daemon takes them: wherever they run, the record says what they asked for."""

from collections.abc import Awaitable, Callable

import pytest

from jobsd.store.db import Db
from tests.support.daemon import Daemon
from tests.support.eventually import eventually

Start = Callable[..., Awaitable[Daemon]]
RETRY = 'retry = { attempts = 2, base = "10ms", cap = "10ms" }'
JOBS = f"""
[jobs.loop]
handler = "tests.daemon.work:steers"
{RETRY}
[jobs.process]
handler = "tests.daemon.work:steers"
isolation = "process"
{RETRY}
[jobs.plain]
handler = "tests.daemon.work:steers_plainly"
{RETRY}
[jobs.steps]
handler = "tests.daemon.work:walks_a_pipeline"
isolation = "process"
[jobs.quiet]
handler = "tests.daemon.work:shows_signs_of_life"
atomic = true
"""
KINDS = ("loop", "process", "plain")


@pytest.mark.req("P8", "B5", "B9")
@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_job_asks_for_becomes_of_its_run(daemon: Start, db: Db, kind: str) -> None:
    node = await daemon(JOBS)

    runs = {how: await node.trigger(kind, params={"how": how}) for how in ("cancel", "give up", "later", "fail")}
    await eventually(lambda: db.fetchval("SELECT count(finished_at) FROM jobsd.run"), len(runs))

    rows = {row["id"]: row for row in await db.fetch("SELECT id, state, retries, error, error_kind FROM jobsd.runs")}
    found = {how: (rows[run]["state"], rows[run]["retries"]) for how, run in runs.items()}
    assert found == {
        "cancel": ("cancelled", 0),
        "give up": ("failed", 0),
        "later": ("completed", 0),
        "fail": ("failed", 2),
    }
    assert rows[runs["cancel"]]["error"] == "nobody needs it"
    assert rows[runs["give up"]]["error_kind"] == "GiveUp"
    tries = await db.fetch("SELECT outcome, error FROM jobsd.attempts WHERE run = $1 ORDER BY number", runs["later"])
    assert [(row["outcome"], row["error"]) for row in tries] == [
        ("deferred", "busy"),
        ("deferred", "busy"),
        ("completed", None),
    ]
    acts = await db.fetch("SELECT act, reason FROM jobsd.audit WHERE run = $1 ORDER BY sequence", runs["later"])
    assert [row["act"] for row in acts] == ["queued", *("started", "requeued") * 2, "started", "completed"]
    told = await db.fetch("SELECT run FROM jobsd.alert")
    assert {row["run"] for row in told} == {runs["give up"], runs["fail"]}


@pytest.mark.req("D2", "D3", "B2")
async def test_steps_and_signs_of_life_are_there_to_be_read_while_a_job_runs(daemon: Start, db: Db) -> None:
    node = await daemon(JOBS)

    steps, quiet = await node.trigger("steps"), await node.trigger("quiet")
    reading = "SELECT progress, step, steps->1->>0 FROM jobsd.runs WHERE id = $1 AND state = 'running'"
    await eventually(lambda: look(db, reading, steps), (0.5, "condense", "condense"))
    life = "SELECT progress, step, (heard_at > started_at)::text FROM jobsd.runs WHERE id = $1 AND state = 'running'"
    await eventually(lambda: look(db, life, quiet), (None, None, "true"))
    node.release()

    await node.seen("run_completed", run=steps)
    await node.seen("run_completed", run=quiet)


async def look(db: Db, question: str, run: int) -> tuple[object, ...] | None:
    row = await db.fetchrow(question, run)
    return None if row is None else tuple(row.values())
