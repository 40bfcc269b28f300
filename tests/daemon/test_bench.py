"""The bench for jobs (`jobsd.sdk.testing`) against a real daemon: the same jobs, the same record."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
import pytest

from jobsd.sdk import Connection
from jobsd.sdk.testing import job_test
from jobsd.store.db import Db
from tests.sdk import jobs
from tests.support.daemon import Daemon
from tests.support.eventually import eventually

Start = Callable[..., Awaitable[Daemon]]

NAMES = ("write", "tell", "flaky", "cancel", "give_up", "once", "steps", "recover", "dangle", "in_words", "plain")
JOBS: Mapping[str, Mapping[str, Any]] = {
    **{name: {"handler": f"tests.sdk.jobs:{name}", "retry": {"attempts": 2, "base": "1ms"}} for name in NAMES},
    "whole": {"handler": "tests.sdk.jobs:steps", "atomic": True},
    "late": {"handler": "tests.sdk.jobs:hang", "timeout": "200ms"},
    "counting": {"sql": "SELECT text FROM note WHERE text = 'nobody'"},
    "wrong": {"sql": "SELECT nothing"},
    "exits": {"command": ["sh", "-c", "echo said; exit 3"]},
}
PASSING = {"now", "thread", "own"}  # of results: what cannot be equal
RECORD = """
    SELECT r.state, r.attempts, r.retries, r.permanent, r.result::text,
           (SELECT array_agg(a.act ORDER BY a.sequence) FROM jobsd.audit_log a WHERE a.run = r.id) AS acts,
           (SELECT array_agg(t.outcome || ' ' || coalesce(t.error_kind, '') || ': '
                             || coalesce(split_part(t.error, E'\\n', 1), '') ORDER BY t.number)
              FROM jobsd.attempts t WHERE t.run = r.id) AS outcomes,
           (SELECT count(*) FROM jobsd.alert a WHERE a.run = r.id AND a.resolved_at IS NULL) AS alerts
      FROM jobsd.runs r
     WHERE r.job = $1
"""
SAID = "SELECT level || ' ' || text AS said FROM jobsd.message WHERE run = (SELECT id FROM jobsd.run WHERE job = $1)"


async def record(connection: Connection | Db, job: str) -> dict[str, Any]:
    found = dict(await connection.fetchrow(RECORD, job))
    result = orjson.loads(found["result"] or "null")
    passing = PASSING if isinstance(result, dict) else set()
    found["result"] = {k: v for k, v in result.items() if k not in passing} if passing else type(result)
    return found | {"said": [row["said"] for row in await connection.fetch(SAID, job)]}


def toml(name: str, keys: Mapping[str, Any]) -> str:
    table = (f"{key} = {_value(value)}" for key, value in keys.items())
    return f"[jobs.{name}]\n" + "\n".join(table) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(each)}" for key, each in value.items()) + " }"
    return orjson.dumps(value).decode()


@pytest.mark.req("B4", "B9", "P9")
async def test_a_job_leaves_the_same_record_on_the_bench_as_under_a_daemon(
    daemon: Start, database_url: str, db: Db
) -> None:
    await db.execute(jobs.NOTES)
    async with job_test(database_url) as t:
        tried = {}
        for name, keys in JOBS.items():
            await t.connection.execute("DELETE FROM note")
            await t.run({"name": name, **keys})
            await t.until_over()
            tried[name] = await record(t.connection, name)

    running = await daemon("".join(toml(name, keys) for name, keys in JOBS.items()))
    in_earnest = {}
    for name in JOBS:
        await db.execute("DELETE FROM note")
        run = await running.trigger(name)
        await eventually(
            lambda run=run: db.fetchval("SELECT finished_at IS NOT NULL FROM jobsd.run WHERE id = $1", run), True
        )
        in_earnest[name] = await record(db, name)

    assert tried == in_earnest
