"""The examples of docs/how-to/enqueue.md, executed as they stand there."""

import asyncio
import os
import re
import textwrap
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import orjson
import pytest

from jobsd.client import HttpClient
from jobsd.domain.outcome import Completed
from jobsd.store.db import Db
from tests.support.daemon import ROOT
from tests.support.site import Site, site

PAGE = (ROOT / "docs/how-to/enqueue.md").read_text()
JOBS = """
[jobs.condense]
command = ["true"]
lock_key = "course:{course_id}"
params = { course_id = 0 }

[jobs.index]
command = ["true"]
"""
COUNTS = "SELECT job, count(*) FROM jobsd.run GROUP BY job ORDER BY job"


def example(kind: str, number: int = 0) -> str:
    found: list[str] = re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    return found[number]


@pytest.fixture
async def here(db: Db) -> AsyncIterator[Site]:
    async with site(db, JOBS) as started:
        await db.execute("CREATE TABLE public.course (id integer, title text)")
        yield started


async def test_the_transaction_in_sql(here: Site) -> None:
    connection = await asyncpg.connect(here.db.url)  # a program's own: ours look for tables in the schema alone
    await connection.execute(example("sql"))
    await connection.close()

    row = await here.db.fetchrow("SELECT lock_key, priority, tags FROM jobsd.runs")
    assert tuple(row or ()) == ("course:7", 3, '{"language": "fr"}')
    assert await here.db.fetchval("SELECT title FROM public.course") == "Algebra"


async def test_the_transaction_in_python(here: Site) -> None:
    made: dict[str, Any] = {}
    exec("async def program(connection):\n" + textwrap.indent(example("python"), "    "), made)

    connection = await asyncpg.connect(here.db.url)
    await made["program"](connection)
    await connection.close()

    assert [tuple(row) for row in await here.db.fetch(COUNTS)] == [("condense", 1), ("index", 500)]


async def test_the_call_with_curl(here: Site) -> None:
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", example("sh")), env={**os.environ, **here.environ}, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()

    answer = orjson.loads(out)
    assert (process.returncode, answer["created"], len(answer["ids"])) == (0, 2, 2)


async def test_the_client_over_http(here: Site) -> None:
    program = example("python", 1)
    program = re.sub(r"HttpClient\(.*?\)  # or (HttpClient\(.*?\))", r"\1", program)
    program = program.replace('"/run/jobsd/jobsd.sock"', repr(str(here.addresses.socket)))
    made: dict[str, Any] = {}

    running = asyncio.create_task(asyncio.to_thread(exec, program, made))
    await here.ends(await here.taken(), Completed())
    await running

    assert isinstance(made["jobsd"], HttpClient)
    assert made["ended"]["state"] == "completed"
