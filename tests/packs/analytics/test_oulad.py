"""The Open University set: the extract of the repository always, the whole set where it is."""

from collections import Counter
from pathlib import Path

import asyncpg
import pytest

from jobsd.packs.analytics.importing import ImportParams, import_events
from tests.packs.analytics import oracle
from tests.packs.analytics.conftest import WHOLE, Context

pytestmark = pytest.mark.req("A1")

STORED = """
    SELECT course_id, learner_id::int, kind, (occurred_at AT TIME ZONE 'UTC')::date, (value ->> 'score')::float
      FROM analytics.event
"""


async def test_every_record_becomes_the_event_that_an_independent_reading_finds(
    ctx: Context, sql: asyncpg.Connection, oulad: Path
) -> None:
    expected = oracle.events(oulad)

    result = await import_events(ctx, ImportParams(format="oulad", folder=oulad))

    rows = expected.assign(score=expected["score"].astype(object).where(expected["score"].notna(), None))
    wanted = Counter(rows[["course", "learner", "kind", "day", "score"]].itertuples(index=False, name=None))
    assert Counter(tuple(row) for row in await sql.fetch(STORED)) == wanted
    assert result["events"] == result["new"] == len(expected)
    assert result["kinds"] == result["new_kinds"] == expected["kind"].value_counts().to_dict()
    assert result["unknown_days"] == expected["day_unknown"].sum()


@pytest.mark.skipif(not WHOLE.is_dir(), reason="the whole OULAD set is not on this machine")
async def test_the_whole_set_is_239_098_events(ctx: Context) -> None:
    result = await import_events(ctx, ImportParams(format="oulad", folder=WHOLE))

    kinds = result["kinds"]
    assert result["events"] == 239_098
    assert kinds["enrolled"] == 32_593
    assert sum(count for kind, count in kinds.items() if kind.endswith("_submitted")) == 173_912
    assert sum(count for kind, count in kinds.items() if kind.startswith("course_")) == 32_593


async def test_a_second_import_adds_none(ctx: Context, sql: asyncpg.Connection, oulad: Path) -> None:
    params = ImportParams(format="oulad", folder=oulad)
    first = await import_events(ctx, params)

    again = await import_events(ctx, params)

    assert (again["events"], again["new"], again["new_kinds"]) == (first["events"], 0, {})
    assert await sql.fetchval("SELECT count(*) FROM analytics.event") == first["events"]
