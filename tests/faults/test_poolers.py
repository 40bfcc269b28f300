"""PgBouncer before the server: refused for what needs a session of its own; everything else works through it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import pytest

from jobsd.domain.errors import Exit
from jobsd.store.db import Db
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.pgbouncer import PgBouncer, needs_pgbouncer, pgbouncer
from tests.support.proxy import Proxy, proxy

pytestmark = needs_pgbouncer
Start = Callable[..., Awaitable[Daemon]]
OURS = "jit,search_path,statement_timeout,lock_timeout,idle_in_transaction_session_timeout,idle_session_timeout"
LOCKS = "tcp_keepalives_idle,tcp_keepalives_interval,tcp_keepalives_count,tcp_user_timeout,plan_cache_mode"
DROPPED = f"{OURS},{LOCKS},client_connection_check_interval"
JOBS = """
[jobs.often]
handler = "tests.daemon.work:ticks"
schedule = { every = "1s", overlap = "wait" }

[jobs.asked]
handler = "tests.daemon.work:ticks"
concurrency = 1

[jobs.sql]
sql = "INSERT INTO effect SELECT 'sql', nullif(current_setting('jobsd.fence'), '')::bigint"

[jobs.sql_reads]
sql = "SELECT what FROM effect"

[jobs.transaction]
handler = "tests.faults.effects:writes"

[jobs.apart]
handler = "tests.faults.effects:writes"
isolation = "process"

[jobs.waits]
handler = "tests.daemon.work:waits"
"""


@pytest.fixture
def link(database_url: str) -> Iterator[Proxy]:
    with proxy(database_url) as made:
        yield made


@pytest.fixture
async def pooler(link: Proxy) -> AsyncIterator[Callable[..., Awaitable[PgBouncer]]]:
    """Start a PgBouncer before the test's server."""
    made = []

    async def start(**settings: str) -> PgBouncer:
        opened = pgbouncer(link.port, **settings)
        made.append(opened)
        bouncer = opened.__enter__()
        await bouncer.start()
        return bouncer

    yield start
    for opened in made:
        opened.__exit__(None, None, None)


def through(bouncer: PgBouncer, url: str) -> str:
    return bouncer.url(url.partition("@/")[2].partition("?")[0])


@pytest.mark.req("P3")
@pytest.mark.fault(12)
@pytest.mark.parametrize(
    ("mode", "more"),
    [
        ("transaction", {"default_pool_size": "1"}),  # one backend answers everybody
        ("transaction", {"default_pool_size": "1", "ignore_startup_parameters": DROPPED}),
        ("session", {}),  # a pooler may end or exchange its server's session: not to be proved from here
        ("statement", {}),
    ],
)
async def test_a_pooler_of_any_mode_is_recognised_at_the_start_and_refused_with_the_way_out(
    daemon: Start, database_url: str, pooler: Any, mode: str, more: dict[str, str]
) -> None:
    bouncer = await pooler(pool_mode=mode, **more)

    node = await daemon(JOBS, url=through(bouncer, database_url), ready=False)

    assert await node.exited() == Exit.BAD_START
    assert node.said[0].startswith(
        "error[E0307]: DATABASE_URL leads through a transaction pooler: advisory locks and LISTEN do not work there; "
        "set [database] direct_url"
    )


@pytest.mark.req("P3")
@pytest.mark.fault(12)
async def test_a_direct_url_that_is_none_and_a_pooler_without_transactions_are_refused_too(
    daemon: Start, database_url: str, pooler: Any
) -> None:
    single, pooled = await pooler(pool_mode="statement"), await pooler()
    ways = [
        (through(pooled, database_url), through(pooled, database_url), "has to name the server itself"),
        (through(single, database_url), database_url, "set pool_mode = transaction"),
    ]

    for url, direct, way_out in ways:
        node = await daemon(JOBS, url=url, settings={"database": {"direct_url": direct}}, ready=False)
        assert await node.exited() == Exit.BAD_START
        assert node.said[0].startswith("error[E0307]")
        assert way_out in "\n".join(node.said)


@pytest.mark.req("P3", "P9", "C4")
@pytest.mark.fault(12)
@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_with_a_direct_url_everything_works_through_a_pooler_that_was_not_told_of_us(
    daemon: Start, db: Db, database_url: str, pooler: Any, mode: str
) -> None:
    await db.execute("CREATE TABLE public.effect (what text, fence bigint)")
    bouncer = await pooler(pool_mode=mode, **({"default_pool_size": "2"} if mode == "transaction" else {}))
    url = through(bouncer, database_url)
    nodes = [
        await daemon(JOBS, url=url, settings={"database": {"direct_url": database_url}, "daemon": {"name": name}})
        for name in ("one", "two")
    ]

    for job in ("sql", "sql_reads", "transaction", "apart"):
        await nodes[0].trigger(job)
    await nodes[1].request("POST", "/api/v1/jobs/asked/runs", {"runs": [{}] * 50})
    await db.fetchval("SELECT jobsd.enqueue('asked')")
    done = "SELECT count(*) FROM jobsd.run WHERE job <> 'often' AND state = 'completed'"
    await eventually(lambda: db.fetchval(done), 55)
    ticked = len(nodes[0].traces + nodes[1].traces)
    await eventually(lambda: _more(nodes, ticked + 2), True)
    await db.execute("SELECT pg_notify('jobsd_wake', 'run')")

    effects = await db.fetch("SELECT DISTINCT what, fence > 0 AS fenced FROM public.effect ORDER BY 1")
    assert [tuple(row) for row in effects] == [("apart", True), ("sql", True), ("transaction", True)]
    levels = {line["event"]: line for node in nodes for line in node.lines if line["level"] in ("warning", "error")}
    assert levels == {}
    con = await asyncpg.connect(url, statement_cache_size=0)
    left = {await con.fetchval(f"SHOW {name}") for name in ("statement_timeout", "lock_timeout")}
    con.terminate()
    assert left == {"0"}, "a setting of ours was left in a session that others get"


async def _more(nodes: list[Daemon], count: int) -> bool:
    return sum(len(node.traces) for node in nodes) >= count


@pytest.mark.req("P5", "P6")
@pytest.mark.fault(13)
async def test_the_pooler_and_the_server_behind_it_may_go_and_come_back_and_runs_go_on(
    daemon: Start, db: Db, database_url: str, link: Proxy, pooler: Any
) -> None:
    bouncer = await pooler(default_pool_size="3")
    node = await daemon(
        JOBS, url=through(bouncer, database_url), settings={"database": {"direct_url": link.url(database_url)}}
    )
    await node.trigger("waits")
    await node.traced("begun waits")

    bouncer.kill()
    await node.seen("database_trouble")
    await bouncer.start()
    await works(node, db, 1)
    await bouncer.command("RECONNECT")
    await works(node, db, 2)
    assert link.reset() > 2
    await node.seen("lock_session_adopted")
    await works(node, db, 3)
    node.release()
    await node.seen("run_completed", job="waits", attempt=1)

    assert await db.fetchval("SELECT count(*) FROM jobsd.attempt WHERE outcome <> 'completed' OR stale") == 0


async def works(node: Daemon, db: Db, times: int) -> None:
    """Asking over the API works again, and what was asked for is done."""

    async def asked() -> int:
        return (await node.request("POST", "/api/v1/jobs/asked/runs", {"key": f"time {times}"}))[0]

    await eventually(lambda: _accepted(asked), True)
    await eventually(
        lambda: db.fetchval("SELECT count(*) FROM jobsd.run WHERE job = 'asked' AND state = 'completed'"), times
    )


async def _accepted(asked: Callable[[], Awaitable[int]]) -> bool:
    return await asked() in (200, 201)
