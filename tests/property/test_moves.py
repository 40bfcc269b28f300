"""Whatever is done to runs, by whomever, in whatever order and at once: no state is reached that the rules forbid.

Random operations go through the operations' own doors, the engine's claim and settlement, and raw SQL as the runtime
role, several at once on connections of their own. An observer that nobody can turn off writes down every move.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from jobsd.domain.errors import JobsdError
from jobsd.domain.lifecycle import SettlePolicy, settle
from jobsd.domain.outcome import Cancelled, Completed, Deferred, Failed, Lost, Outcome, RetryPolicy
from jobsd.domain.run import MOVES, OVER, Act, ClaimedRun, RunId, RunState
from jobsd.engine.here import Here
from jobsd.operations import moves
from jobsd.operations.bulk import Order, bulk
from jobsd.operations.enqueue import trigger
from jobsd.operations.moves import ChangeRequest
from jobsd.operations.run_requests import TriggerRequest
from jobsd.registry.load import Registry
from jobsd.store import history
from jobsd.store.db import Db, Row
from jobsd.store.history import Ended
from jobsd.store.lists import RunFilter
from jobsd.store.locks import Key
from jobsd.store.moves import Who
from jobsd.store.runs import Overtaken
from tests.support.engine import node, registered, request
from tests.support.postgres import CARELESS, OwnServer
from tests.support.roles import as_login, granted, logins
from tests.support.web import registry_of

T = TypeVar("T")
SETTINGS = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # what several do at once need not happen again, so there is no use in shrinking it
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
JOBS = """
[jobs.plain]
command = ["true"]
lock_key = "{run_id}"

[jobs.keyed]
command = ["true"]
retry = { attempts = 1, base = "1ms", cap = "1ms" }

[jobs.atomic]
command = ["true"]
atomic = true
stale_after = "1s"

[jobs.capped]
command = ["true"]
lock_key = "{run_id}"
max_active = 2
"""
NAMES = ("plain", "keyed", "atomic", "capped")
POLICY = SettlePolicy(RetryPolicy(1, base_s=0.0))

OBSERVER = """
    CREATE TABLE public.seen (
        n bigserial PRIMARY KEY, run bigint, job text, before text, after text, permanent boolean
    );
    CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        INSERT INTO public.seen (run, job, before, after, permanent)
        VALUES (coalesce(NEW.id, OLD.id), coalesce(NEW.job, OLD.job), OLD.state, NEW.state,
                coalesce(OLD.permanent, NEW.permanent));
        RETURN NULL;
    END $$;
    CREATE TRIGGER zz_see AFTER INSERT OR UPDATE OR DELETE ON jobsd.run FOR EACH ROW EXECUTE FUNCTION public.see();
"""
SEEN = "SELECT * FROM public.seen WHERE n > $1 ORDER BY n"
ACTIVE = "SELECT count(*) FROM jobsd.run WHERE job = 'capped' AND capped"
HISTORY = """
    SELECT 'attempt ' || run || ' ' || fence || ' ' || stale AS name, md5(a::text) AS hash FROM jobsd.attempt a
     UNION ALL
    SELECT 'audit ' || coalesce(run::text, '-') || ' ' || sequence, md5(a::text) FROM jobsd.audit a
"""
STANDING = """
    WITH moves AS NOT MATERIALIZED (SELECT * FROM jobsd.audit WHERE act <> 'refused')
    SELECT r.id, r.state, r.version, r.attempt, r.lock_key,
           (SELECT count(*) FROM jobsd.attempt a WHERE a.run = r.id AND NOT a.stale) AS attempts,
           (SELECT array_agg(m.act ORDER BY m.sequence) FROM moves m WHERE m.run = r.id) AS acts,
           (SELECT array_agg(m.sequence ORDER BY m.sequence) FROM moves m WHERE m.run = r.id) AS numbers
      FROM jobsd.run r
     WHERE r.id = ANY ($1::bigint[])
"""
TWICE = """
    SELECT lock_key
      FROM jobsd.run
     WHERE state = 'running' AND lock_key IS NOT NULL
     GROUP BY lock_key
    HAVING count(*) > 1
"""
STATE_AFTER = {
    "queued": "queued",
    "changed": "queued",
    "retry": "queued",
    "requeued": "queued",
    "started": "running",
    "completed": "completed",
    "failed": "failed",
    "force_failed": "failed",
    "cancelled": "cancelled",
}

# Straight into the tables, as the role that the daemon has. Rows are made fit for their new state, so that only the
# rules on moves are left to refuse it.
OVER_NOW = (
    "ready = NULL, node = NULL, held = NULL, seat = NULL, capped = NULL, finished_at = coalesce(finished_at, now())"
)
FIT = {
    "queued": "ready = true, node = NULL, held = NULL, seat = NULL, finished_at = NULL",
    "running": "ready = NULL, node = 1, held = lock_key, started_at = now(), finished_at = NULL,"
    " fence = coalesce(fence, 0) + 1",
}
RAW_MOVES = {
    state: f"UPDATE jobsd.run SET state = '{state}', {FIT.get(state, OVER_NOW)} WHERE id = $1" for state in RunState
}
CLEAR = {
    RunState.FAILED: f"UPDATE jobsd.run SET state = 'failed', {OVER_NOW} WHERE state = 'running'",
    RunState.CANCELLED: f"UPDATE jobsd.run SET state = 'cancelled', {OVER_NOW} WHERE state = 'queued'",
}
RAW_FORBIDDEN = (
    'UPDATE jobsd.run SET params = \'{"prompt": "another"}\' WHERE id = $1',
    "UPDATE jobsd.run SET permanent = NOT permanent, actor = 'nobody' WHERE id = $1",
    "UPDATE jobsd.run SET retries = -1 WHERE id = $1",
    "UPDATE jobsd.run SET attempt = attempt - 1 WHERE id = $1",
    "UPDATE jobsd.run SET version = version - 1 WHERE id = $1",
    "INSERT INTO jobsd.run (job, state, actor, finished_at, ready) SELECT job, 'completed', 'me', now(), NULL"
    " FROM jobsd.run WHERE id = $1",
    "UPDATE jobsd.attempt SET error = 'it was nothing' WHERE run = $1",
    "DELETE FROM jobsd.attempt WHERE run = $1",
    "UPDATE jobsd.audit SET actor = 'nobody' WHERE run = $1",
    "DELETE FROM jobsd.audit WHERE run = $1",
    "TRUNCATE jobsd.audit",
    "TRUNCATE jobsd.attempt",
    "TRUNCATE jobsd.run",
    "ALTER TABLE jobsd.run DISABLE TRIGGER ALL",
    "DROP TRIGGER only_legal_moves ON jobsd.run",
    "SET session_replication_role = replica",
)
REFUSALS = ("23001", "23514", "23505", "42501")  # our triggers, constraints, unique keys, no privilege


OUTCOMES: tuple[Outcome, ...] = (
    Completed({"rows": 3}),
    Failed("exit", "exited with 3"),
    Failed("E", "no more", final=True),
    Cancelled("nobody needs it"),
    Deferred(timedelta(0), "not yet"),
    Lost("its node is gone"),
)


@dataclass(frozen=True)
class Step:
    """One thing to do. What it is done to is chosen by `which`, so that the same steps can be tried again."""

    kind: str
    which: int
    job: str
    act: Act
    outcome: Outcome
    state: RunState | None  # for a raw move; None: out of the table
    sql: str


STEPS = st.builds(
    Step,
    st.sampled_from((*["act"] * 5, *["settle"] * 4, *["claim"] * 3, "raw", "forbidden", "ask", "bulk")),
    st.integers(0, 1000),
    st.sampled_from(NAMES),
    st.sampled_from((*Act, Act.RETRY, Act.RETRY)),
    st.sampled_from(OUTCOMES),
    st.sampled_from((*RunState, None)),
    st.sampled_from(RAW_FORBIDDEN),
)


@dataclass
class World:
    """The database with all that works on it, shared by all examples."""

    owner: Db
    db: Db  # as the runtime role, like the nodes
    registry: Registry
    nodes: Sequence[Here]
    loop: asyncio.AbstractEventLoop
    judged: int = 0  # the last move that was
    kept: dict[str, str] = field(default_factory=dict)  # history that was seen, which must stay
    counts: Counter[str] = field(default_factory=Counter)  # what was done and what was refused


@dataclass
class Taken:
    """A claim of the past or the present: a late result may come at any time."""

    here: Here
    run: ClaimedRun
    keys: Sequence[Key]


class Moves(RuleBasedStateMachine):
    """Runs of one example, and whatever has claimed them."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[RunId] = []
        self.taken: list[Taken] = []
        self.moved_raw: set[RunId] = set()  # by raw SQL, so that their audit cannot tell all

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self.world.loop.run_until_complete(work)

    @initialize(jobs=st.lists(st.sampled_from(NAMES), min_size=2, max_size=5))
    def begin(self, jobs: list[str]) -> None:
        for job in jobs:
            self.wait(self.ask(job))

    @rule(steps=st.lists(STEPS, min_size=1, max_size=5))
    def at_once(self, steps: list[Step]) -> None:
        self.wait(_together([self.done(step) for step in steps]))

    # -- what may be done -------------------------------------------------------------------------------------------

    def done(self, step: Step) -> Coroutine[Any, Any, None]:
        if step.kind == "ask" or not self.runs:
            return self.ask(step.job)
        run = self.runs[step.which % len(self.runs)]
        match step.kind:
            case "claim":
                return self.claim(self.world.nodes[step.which % len(self.world.nodes)])
            case "settle" if self.taken:
                return self.settle(self.taken[step.which % len(self.taken)], step.outcome)
            case "raw":
                return self.raw_move(run, step.state)
            case "forbidden":
                return self.forbidden(run, step.sql)
            case "bulk":
                return self.bulk(step.act, step.job)
            case _:
                return self.act(run, step.act)

    async def ask(self, job: str) -> None:
        wanted = TriggerRequest(reason="to see")
        made = await self.tried("ask", trigger(self.world.db, self.world.registry, job, wanted, "unix:alice"))
        if made is not None:
            self.runs.append(RunId(made.id))

    async def claim(self, here: Here) -> None:
        try:
            claim = await here.keeper.claim(request(here, *NAMES, limit=3))
        except Overtaken:  # by a raw move that took the key in the same moment
            self.world.counts["claim overtaken"] += 1
            return
        await here.keeper.unlock(claim.surplus, here.keeper.node)
        self.taken.extend(Taken(here, run, claim.keys[run.id]) for run in claim.runs)
        self.world.counts["claimed"] += len(claim.runs)

    async def settle(self, taken: Taken, outcome: Outcome) -> None:
        here, now = taken.here, taken.here.keeper.now()
        ended = Ended(taken.run, here.keeper.node, settle(taken.run, POLICY, outcome, now), now)
        moved = await history.settle(self.world.db, [ended], here.actor)
        self.world.counts["settled" if moved else "settled too late"] += 1
        await self.give_back(taken)

    async def give_back(self, taken: Taken) -> None:
        keys, taken.keys = taken.keys, ()
        if keys:
            await taken.here.keeper.unlock(keys, taken.here.keeper.node)

    async def act(self, run: RunId, act: Act) -> None:
        db, who = self.world.db, Who("unix:alice", "because")
        match act:
            case Act.RETRY:
                await self.tried(act, moves.retry(db, run, who))
            case Act.CANCEL:
                await self.tried(act, moves.cancel(db, run, who))
            case Act.CHANGE:
                await self.tried(act, moves.change(db, run, ChangeRequest(priority=3), who))
            case Act.DELETE:
                await self.tried(act, moves.delete(db, run, who))
            case Act.FORCE_FAIL:
                await self.tried(act, moves.force_fail(db, self.world.registry, run, "unix:alice", "hangs"))

    async def bulk(self, act: Act, job: str) -> None:
        chosen = act if act in (Act.RETRY, Act.DELETE) else Act.CANCEL
        order = Order(chosen, RunFilter(job=job), Who("token:ops", "all of them"))
        await self.tried(f"{chosen} by filter", bulk(self.world.db, order))

    async def raw_move(self, run: RunId, state: RunState | None) -> None:
        """None: out of the table."""
        self.moved_raw.add(run)
        await self.raw("DELETE FROM jobsd.run WHERE id = $1" if state is None else RAW_MOVES[state], run)

    async def forbidden(self, run: RunId, sql: str) -> None:
        assert not await self.raw(sql, run), f"the database took: {sql}"

    async def raw(self, sql: str, run: RunId) -> bool:
        """Whether it changed anything. Any other error than a refusal is one of ours."""
        try:
            answer = await self.world.db.execute(sql, *([run] if "$1" in sql else []))
        except asyncpg.PostgresError as error:
            assert error.sqlstate in REFUSALS, error
            self.world.counts["raw refused"] += 1
            return False
        self.world.counts["raw done"] += 1
        return not answer.endswith(" 0")

    async def tried(self, what: str, work: Coroutine[Any, Any, T]) -> T | None:
        try:
            answer = await work
        except JobsdError as refused:
            self.world.counts[f"{what} refused, {refused.problems[0].code}"] += 1
            return None
        self.world.counts[f"{what} done"] += 1
        return answer

    # -- what must hold ---------------------------------------------------------------------------------------------

    @invariant()
    def nothing_forbidden_was_reached(self) -> None:
        self.wait(self.judge())

    async def judge(self) -> None:
        for move in await self.world.owner.fetch(SEEN, self.world.judged):
            _require_legal(move)
            self.world.judged = move["n"]
        history_now = {row["name"]: row["hash"] for row in await self.world.owner.fetch(HISTORY)}
        changed = [name for name, was in self.world.kept.items() if history_now.get(name) != was]
        assert not changed, f"history was rewritten: {changed}"
        self.world.kept = history_now
        assert await self.world.owner.fetch(TWICE) == [], "two runs hold one lock key"
        assert await self.world.owner.fetchval(ACTIVE) <= 2, "more active runs than max_active"
        for row in await self.world.owner.fetch(STANDING, self.runs):
            if row["id"] not in self.moved_raw:
                _require_told(row)

    def teardown(self) -> None:
        self.wait(self.clear())

    async def clear(self) -> None:
        """Leave nothing that could be claimed, and no lock."""
        for state in (RunState.FAILED, RunState.CANCELLED):
            await self.world.owner.execute(CLEAR[state])
        for taken in self.taken:
            await self.give_back(taken)
        await self.world.owner.execute("DELETE FROM jobsd.force_fail")


def _require_legal(move: Row) -> None:
    before, after = move["before"], move["after"]
    if before is None:
        assert after == RunState.QUEUED, f"run {move['run']} began {after}"
    elif after is None:
        assert before in OVER, f"run {move['run']} was deleted while it was {before}"
        assert not move["permanent"], f"run {move['run']} was permanent, and deleted"
    else:
        assert before == after or after in MOVES[RunState(before)], f"run {move['run']}: {before} to {after}"


def _require_told(run: Row) -> None:
    """Its audit tells each of its moves, in order and without a gap, and each attempt that is over is there."""
    assert run["numbers"] == list(range(1, run["version"] + 1)), f"run {run['id']}: a move without its entry"
    states = [STATE_AFTER[act] for act in run["acts"]]
    assert states[-1] == run["state"], f"run {run['id']} is {run['state']}, its audit says {run['acts']}"
    for before, after in pairwise(states):
        assert before == after == "queued" or RunState(after) in MOVES[RunState(before)], run["acts"]
    assert run["attempts"] == run["attempt"] - (run["state"] == "running"), f"run {run['id']} lost an attempt"


async def _together(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """All at once; the first thing that goes wrong when all are done."""
    for answer in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(answer, BaseException):
            raise answer


@asynccontextmanager
async def opened(server: OwnServer, folder: Path, loop: asyncio.AbstractEventLoop) -> AsyncIterator[World]:
    url = await server.database()
    await granted(url)
    await logins(url)
    async with AsyncExitStack() as stack:
        owner = await stack.enter_async_context(Db.open(url))
        db = await stack.enter_async_context(Db.open(as_login(url, "app"), size=8))
        registry = registry_of(folder, JOBS)
        await registered(db, *registry.jobs.values())
        await owner.execute(OBSERVER)
        nodes = [await stack.enter_async_context(node(db, name)) for name in ("one", "two")]
        yield World(owner, db, registry, nodes, loop)


@pytest.mark.req("B5", "B6", "P10", "B4", "B8", "B9", "P3")
@pytest.mark.timeout(600)
def test_no_operation_in_any_order_reaches_what_the_rules_forbid(
    own_server: Callable[..., OwnServer], tmp_path: Path
) -> None:
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        made = opened(own_server(**CARELESS), tmp_path, loop)
        world = loop.run_until_complete(made.__aenter__())
        try:
            machine = type("Moves", (Moves,), {"world": world})
            run_state_machine_as_test(machine, settings=SETTINGS)
        finally:
            loop.run_until_complete(made.__aexit__(None, None, None))

    done = world.counts
    assert done["raw refused"] > 0
    assert done["raw done"] > 0
    assert all(done[f"{act} done"] for act in ("ask", "retry", "cancel", "delete", "change")), done
    assert done["settled"] > 0
    assert done["claimed"] > done["settled"] / 2
