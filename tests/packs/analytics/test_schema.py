"""What the tables hold to, whoever writes."""

from datetime import UTC, datetime

import asyncpg
import pytest

from tests.packs.analytics.conftest import add_event

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)


async def test_an_event_never_changes(sql: asyncpg.Connection) -> None:
    await add_event(sql, AT)

    with pytest.raises(asyncpg.RestrictViolationError, match="an event never changes; insert another one"):
        await sql.execute("UPDATE analytics.event SET value = '{}'")


async def test_an_event_is_stored_once(sql: asyncpg.Connection) -> None:
    await add_event(sql, AT, key="one")

    with pytest.raises(asyncpg.UniqueViolationError, match="an_event_is_stored_once"):
        await add_event(sql, AT, key="one", learner="2")


@pytest.mark.parametrize("value", ['{"score": 101}', '{"score": -0.1}', '{"score": "80"}', '{"score": null}'])
async def test_a_score_that_could_not_be_counted_is_refused(sql: asyncpg.Connection, value: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="a_score_is_0_to_100"):
        await add_event(sql, AT, value=value)


@pytest.mark.parametrize("year", [1899, 2200])
async def test_a_day_that_cannot_be_meant_is_refused(sql: asyncpg.Connection, year: int) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="an_event_is_between_1900_and_2200"):
        await add_event(sql, AT.replace(year=year))


async def test_an_insert_notes_each_day_of_a_course_once_and_one_that_adds_nothing_notes_none(
    sql: asyncpg.Connection,
) -> None:
    insert = """
        INSERT INTO analytics.event (source, source_key, course_id, learner_id, kind, occurred_at)
        SELECT 'test', n::text, 'C', '1', 'enrolled', $1::timestamptz + n * interval '8 hours'
          FROM generate_series(0, 3) AS n
            ON CONFLICT DO NOTHING
    """

    await sql.execute(insert, AT)
    await sql.execute(insert, AT)

    noted = await sql.fetch("SELECT day::text, course_id, events FROM analytics.touched_day ORDER BY day")
    assert [tuple(row) for row in noted] == [("2026-03-02", "C", 2), ("2026-03-03", "C", 2)]


async def test_the_standing_cannot_be_deleted(sql: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.RestrictViolationError, match="there is always one row"):
        await sql.execute("DELETE FROM analytics.standing")
