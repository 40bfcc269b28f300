"""The examples of the how-to pages do what they say."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from jobsd.operations import packs
from jobsd.operations.packs import ActRequest
from jobsd.sdk import JobContext
from jobsd.store.db import Db

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
LIBRARY = """
    CREATE SCHEMA library;
    CREATE TABLE library.loan (id int PRIMARY KEY, reader text, title text, due date, returned date);
    INSERT INTO library.loan VALUES (1, 'bob', 'Dune', '2020-01-01'), (2, 'amy', 'Emma', '2999-01-01');
"""
RETURN = "UPDATE library.loan SET returned = current_date WHERE id = $1 AND returned IS NULL RETURNING title"


def examples(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (HOW_TO / page).read_text(), re.MULTILINE | re.DOTALL)


async def daily(ctx: JobContext) -> dict[str, int]:
    """The job that the example's test is about."""
    async with ctx.connect() as connection:
        total = await connection.fetchval("SELECT sum(amount) FROM sale WHERE region = $1", ctx.params["region"])
    if ctx.attempt < 3:
        raise ConnectionError("not yet")
    await ctx.info("1 sale")
    return {"total": total}


async def test_the_test_of_a_job_passes_as_it_is_written(
    database_url: str, db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    await db.execute("CREATE TABLE sale (region text, amount int)")
    module = ModuleType("myapp.reports")
    monkeypatch.setattr(module, "daily", daily, raising=False)
    monkeypatch.setitem(sys.modules, "myapp.reports", module)
    (text,) = examples("test-a-job.md")
    names: dict[str, Any] = {}

    exec(text.replace("postgresql:///test", database_url), names)
    await names["test_the_report_is_written_at_the_third_try"]()

    assert await db.fetchval("SELECT count(*) FROM sale") == 0


async def test_the_pack_that_is_written_shows_and_does_what_it_says(db: Db) -> None:
    await db.execute(LIBRARY)
    first, *rest = examples("write-a-pack.md")
    names: dict[str, Any] = {"RETURN": RETURN}
    for text in (*rest, first):
        exec(text, names)
    pack = [names["PACK"]]

    late = await packs.rows(db, packs.view_of(pack, "library", "loans"), {"late": "true"}, 50)
    action = packs.action_of(pack, "library", "return_book")
    done = await packs.act(db, "library", action, ActRequest(params={"loan": 1}, reason="found on the shelf"), "test")

    assert [(row["id"], row["open"]) for row in late.items] == [(1, True)]
    assert (done.action, done.result) == ("library.return_book", {"title": "Dune"})
