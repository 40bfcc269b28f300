"""A bench with a table for the jobs of `tests.sdk.jobs` to write into."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from jobsd.sdk.testing import JobTest, job_test
from tests.sdk import jobs


@pytest.fixture
async def t(database_url: str) -> AsyncIterator[JobTest]:
    connection = await asyncpg.connect(database_url)  # a program's own: ours look for tables in the schema alone
    await connection.execute(jobs.NOTES)
    await connection.close()
    async with job_test(database_url) as bench:
        yield bench


async def notes(t: JobTest) -> list[str]:
    return [row["text"] for row in await t.connection.fetch("SELECT text FROM note ORDER BY text")]


def named(name: str) -> str:
    return f"tests.sdk.jobs:{name}"
