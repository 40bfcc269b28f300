"""Exactly-once effects under kill -9: wherever it strikes, a run's effect and its settlement agree (P9)."""

import signal
from collections.abc import Awaitable, Callable

import pytest

from jobsd.store.db import Db
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.locked import locked, shut
from tests.support.postgres import OwnServer

Start = Callable[..., Awaitable[Daemon]]

# The first attempt stops where its run's `stop` says, the second goes through. Before the COMMIT it waits for a table
# that the test has locked: inside the COMMIT too, by a trigger that fires there.
SETUP = """
    CREATE TABLE gate (at text);
    CREATE TABLE effect (run bigint NOT NULL, stop text, attempt int);
    CREATE FUNCTION wait_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.stop = 'committing' AND NEW.attempt = 1 THEN LOCK TABLE gate; END IF;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON effect DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION wait_at_commit();
"""
SQL = """
    DO $$
    DECLARE
        stop text := current_setting('jobsd.params')::jsonb ->> 'stop';
        run bigint := current_setting('jobsd.run_id')::bigint;
        attempt int := (SELECT r.attempts FROM jobsd.runs r WHERE r.id = run);
    BEGIN
        IF stop = 'begun' AND attempt = 1 THEN LOCK TABLE gate; END IF;
        INSERT INTO effect VALUES (run, stop, attempt);
        IF stop = 'written' AND attempt = 1 THEN LOCK TABLE gate; END IF;
    END $$
"""
SHORT = {"beat": "200ms", "deadline": "500ms", "adopt": "1s", "lease": "1500ms", "kill": "500ms", "rescue": "4s"}
STOPS = ("begun", "written", "committing", "committed")
WORK = {
    "loop": 'handler = "tests.daemon.work:writes_exactly_once"',
    "process": 'handler = "tests.daemon.work:writes_exactly_once"\nisolation = "process"',
    "plain": 'handler = "tests.daemon.work:writes_exactly_once_plainly"',
    "sql": f'sql = """{SQL}"""',
}
AT_GATE = """
    SELECT count(*)
      FROM pg_locks
     WHERE NOT granted AND locktype = 'relation' AND relation = 'gate'::regclass
"""


def jobs(more: str) -> str:
    return "".join(f'[jobs.{kind}]\n{work}\nlock_key = "{{run_id}}"\n{more}\n' for kind, work in WORK.items())


async def one_of_each(node: Daemon) -> dict[int, tuple[str, str]]:
    """A run of each kind for each step of its transaction; by id. A SQL job has nothing after its commit."""
    asked = {}
    for kind in WORK:
        for stop in STOPS[: 3 if kind == "sql" else 4]:
            asked[await node.trigger(kind, params={"stop": stop})] = (kind, stop)
    return asked


async def agree(db: Db) -> dict[int, tuple[str, int]]:
    """Each run's state, and how often its effect happened."""
    rows = await db.fetch(
        "SELECT r.id, r.state, (SELECT count(*) FROM effect e WHERE e.run = r.id) AS effects FROM jobsd.run r"
    )
    return {row["id"]: (row["state"], row["effects"]) for row in rows}


@pytest.mark.fault(1, 37)
@pytest.mark.req("P9", "P7", "P4")
@pytest.mark.parametrize("again", [False, True], ids=["once", "restartable"])
async def test_effect_and_settlement_agree_wherever_kill_9_strikes(daemon: Start, db: Db, again: bool) -> None:
    node = await daemon(jobs(f"restartable = {str(again).lower()}"), settings={"daemon": {"slots": 50}})
    await db.execute(SETUP)
    node.release("begin")
    async with db.transaction() as session:
        await shut(session, "gate")
        asked = await one_of_each(node)
        await eventually(lambda: db.fetchval(AT_GATE), 12)
        await node.traced("committed", times=3)

        await node.kill9()
        await node.start()  # while the gate is shut: what stands on its run is a zombie now

        over = "SELECT count(*) FROM jobsd.run WHERE finished_at IS NOT NULL"
        await eventually(lambda: db.fetchval(over), len(asked))

    committed = {run for run, (_, stop) in asked.items() if stop == "committed"}
    completed = set(asked) if again else committed
    assert await agree(db) == {run: ("completed", 1) if run in completed else ("failed", 0) for run in asked}
    attempts = await db.fetch("SELECT run, outcome FROM jobsd.attempts ORDER BY run, number")
    outcomes = {run: [row["outcome"] for row in attempts if row["run"] == run] for run in asked}
    first = {run: "completed" if run in committed else "lost" for run in asked}
    assert outcomes == {
        run: [first[run], "completed"] if first[run] == "lost" and again else [first[run]] for run in asked
    }
    await eventually(lambda: db.fetchval("SELECT count(*) FROM jobsd.claim WHERE fence > 0"), 0)
    await eventually(lambda: locked(db), 0)


@pytest.mark.fault(2)
@pytest.mark.req("P9", "P7", "P4")
async def test_a_frozen_nodes_transactions_come_too_late_and_the_rescued_runs_have_their_effect_once(
    daemon: Start, db: Db
) -> None:
    settings = {"lease": SHORT}
    frozen = await daemon(jobs("restartable = true"), settings={**settings, "daemon": {"name": "frozen"}})
    await db.execute(SETUP)
    frozen.release("begin")
    async with db.transaction() as session:
        await shut(session, "gate")
        asked = {kind: [await frozen.trigger(kind, params={"stop": stop}) for stop in STOPS[1:3]] for kind in WORK}
        await eventually(lambda: db.fetchval(AT_GATE), 2 * len(asked))

        frozen.signal(signal.SIGSTOP)
        rescuer = await daemon(jobs("restartable = true"), settings={**settings, "daemon": {"name": "rescuer"}})
        rescuer.release("begin")
        over = "SELECT count(*) FROM jobsd.run WHERE state = 'completed'"
        await eventually(lambda: db.fetchval(over), 2 * len(asked))
    frozen.signal(signal.SIGCONT)
    await frozen.seen("lock_session_fenced")
    await eventually(lambda: db.fetchval("SELECT count(*) FROM jobsd.node WHERE name = 'frozen' AND state = 'live'"), 1)

    assert set((await agree(db)).values()) == {("completed", 1)}
    settled = await db.fetch(
        "SELECT run, outcome FROM jobsd.attempts WHERE outcome <> 'rejected, stale' ORDER BY number"
    )
    for run in (each for both in asked.values() for each in both):
        assert [row["outcome"] for row in settled if row["run"] == run] == ["lost", "completed"]
    ended = "SELECT count(*) FROM jobsd.attempts WHERE evidence->>'session_ended' LIKE 'jobsd job %'"
    assert await db.fetchval(ended) == len(asked), "those that stood in their COMMIT"


@pytest.mark.req("P9")
async def test_a_daemon_killed_again_and_again_between_and_in_transactions_writes_each_effect_once(
    daemon: Start, db: Db
) -> None:
    await db.execute("CREATE TABLE effect (run bigint NOT NULL, stop text, attempt int)")
    node = await daemon(jobs("restartable = true"))
    for _ in range(20):
        for kind in WORK:
            await node.trigger(kind, params={"stop": "never"})
    node.release("begin")
    for written in (3, 17, 40):
        await eventually(lambda n=written: at_least(db, n), True)  # type: ignore[misc]
        await node.kill9()
        await node.start()

    await eventually(lambda: db.fetchval("SELECT count(*) FROM jobsd.run WHERE state = 'completed'"), 80)
    assert set((await agree(db)).values()) == {("completed", 1)}
    once = "SELECT count(*) FROM jobsd.attempt WHERE outcome = 'completed' GROUP BY run"
    assert [row["count"] for row in await db.fetch(once)] == [1] * 80


async def at_least(db: Db, count: int) -> bool:
    return bool(await db.fetchval("SELECT count(*) >= $1 FROM public.effect", count))


@pytest.mark.req("P9", "P6", "P8")
@pytest.mark.fault(5, 10)
async def test_a_crash_of_the_server_in_the_middle_of_transactions_leaves_effect_and_settlement_in_agreement(
    daemon: Start, postgres_server: OwnServer
) -> None:
    url = await postgres_server.database()
    node = await daemon(jobs('retry = { attempts = 1, base = "10ms" }'), url=url, settings={"daemon": {"slots": 50}})
    async with Db.open(url) as db:
        db.path = None  # it has tables of the test's own
        await db.execute(SETUP)
        node.release("begin")
        async with db.session() as session:
            await session.execute("BEGIN")
            await shut(session, "gate")
            asked = [await node.trigger(kind, params={"stop": stop}) for kind in WORK for stop in STOPS[:3]]
            await eventually(lambda: db.fetchval(AT_GATE), len(asked))
            postgres_server.kill9()
    postgres_server.start()

    async with Db.open(url) as db:
        db.path = None  # it has tables of the test's own
        await node.seen("lock_session_adopted")
        over = "SELECT count(*) FROM jobsd.run WHERE state = 'completed'"
        await eventually(lambda: db.fetchval(over), len(asked))
        assert set((await agree(db)).values()) == {("completed", 1)}
        tries = await db.fetch("SELECT outcome FROM jobsd.attempts ORDER BY number")
        assert [row["outcome"] for row in tries] == ["failed"] * len(asked) + ["completed"] * len(asked)
