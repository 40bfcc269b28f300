"""The way of events into their table: a temporary one first, so that nothing is stored before all is known to be good.

Then they go over in batches, each a short transaction of its own; an event that is there already is passed over.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import date

import orjson

from jobsd.packs.analytics.event import Event
from jobsd.sdk import Connection

COLUMNS = ("position", "source_key", "course_id", "learner_id", "kind", "value", "occurred_at")

CREATE = """
    CREATE TEMPORARY TABLE incoming (
        position    bigint PRIMARY KEY,
        source_key  text        NOT NULL,
        course_id   text        NOT NULL,
        learner_id  text        NOT NULL,
        kind        text        NOT NULL,
        value       jsonb       NOT NULL,
        occurred_at timestamptz NOT NULL
    )
"""


async def create(connection: Connection) -> None:
    """Make the temporary table; it goes with the connection."""
    await connection.execute(CREATE)


async def add(connection: Connection, position: int, events: Sequence[Event]) -> None:
    """Copy `events` in, numbered from `position`."""
    await connection.copy_records_to_table(
        "incoming",
        schema_name="pg_temp",
        columns=COLUMNS,
        records=[
            (n, e.source_key, e.course_id, e.learner_id, e.kind, orjson.dumps(e.value).decode(), e.occurred_at)
            for n, e in enumerate(events, position)
        ],
    )


SHIFT_OF_STORED = """
    SELECT mode() WITHIN GROUP (
               ORDER BY (e.occurred_at AT TIME ZONE 'UTC')::date - (i.occurred_at AT TIME ZONE 'UTC')::date)
      FROM pg_temp.incoming i
      JOIN analytics.event e ON e.source = $1 AND e.source_key = i.source_key
"""
SHIFT_TO = """
    SELECT coalesce($1::date, (now() AT TIME ZONE 'UTC')::date) - (max(occurred_at) AT TIME ZONE 'UTC')::date
      FROM pg_temp.incoming
"""


async def stored_shift(connection: Connection, source: str) -> int | None:
    """By how many days the part of these events that is stored already was moved; None when none of it is."""
    days: int | None = await connection.fetchval(SHIFT_OF_STORED, source)
    return days


async def shift_to(connection: Connection, latest: date | None) -> int:
    """By how many days to move them so that the latest is on `latest`, or today."""
    days: int | None = await connection.fetchval(SHIFT_TO, latest)
    return days or 0


STORE = """
    WITH stored AS (
        INSERT INTO analytics.event (source, source_key, course_id, learner_id, kind, value, occurred_at)
        SELECT $1, source_key, course_id, learner_id, kind, value, occurred_at + make_interval(hours => 24 * $2)
          FROM pg_temp.incoming
         WHERE position >= $3 AND position < $4
            ON CONFLICT (source, source_key) DO NOTHING
     RETURNING kind)
    SELECT kind, count(*) AS events
      FROM stored
     GROUP BY kind
"""


async def store(
    connection: Connection, source: str, shift_days: int, total: int, batch: int
) -> AsyncIterator[tuple[int, Counter[str]]]:
    """Store them, `batch` at a time; after each, how many are behind and how many of the batch were new, by kind."""
    for start in range(0, total, batch):
        end = min(start + batch, total)
        rows = await connection.fetch(STORE, source, shift_days, start, end)
        yield end, Counter({row["kind"]: row["events"] for row in rows})


COUNT_NEW = """
    SELECT i.kind, count(DISTINCT i.source_key) AS events
      FROM pg_temp.incoming i
     WHERE NOT EXISTS (SELECT FROM analytics.event e WHERE e.source = $1 AND e.source_key = i.source_key)
     GROUP BY i.kind
"""


async def count_new(connection: Connection, source: str) -> Counter[str]:
    """How many of them `store` would add, by kind."""
    return Counter({row["kind"]: row["events"] for row in await connection.fetch(COUNT_NEW, source)})
