"""The alerts' outbox: raised in the transaction of what they tell of, handed to channels, told by one node each.

When a fingerprint may be told again, and by which channels, is decided in `engine.alerter`; what a message says, in
`observe`. Equal fingerprints fold into one open alert; a delivery is a row that stays until its channel took it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from jobsd.domain.outcome import AlertRow
from jobsd.store.db import Db, Session

QUIET = timedelta(days=1)  # an alert of no run is over when nothing was heard of it for so long
GIVE_UP = timedelta(days=7)  # a message that no channel took for so long is dropped

# Ordered by fingerprint, so that two nodes that fold the same ones wait for each other and never in a circle.
RAISE = """
    INSERT INTO jobsd.alert AS a (fingerprint, type, job, run, summary, detail, count)
    SELECT fingerprint,
           (array_agg(type ORDER BY n DESC))[1],
           (array_agg(job ORDER BY n DESC))[1],
           (array_agg(run ORDER BY n DESC))[1],
           (array_agg(summary ORDER BY n DESC))[1],
           (array_agg(detail ORDER BY n DESC))[1]::jsonb,
           count(*)
      FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[]) WITH ORDINALITY
        AS raised(fingerprint, type, job, run, summary, detail, n)
     GROUP BY fingerprint
     ORDER BY fingerprint
        ON CONFLICT (fingerprint) WHERE resolved_at IS NULL
        DO UPDATE SET count = a.count + excluded.count, last_at = now(), type = excluded.type, job = excluded.job,
                      run = excluded.run, summary = excluded.summary, detail = excluded.detail
"""


async def raise_alerts(db: Db | Session, rows: Sequence[AlertRow]) -> None:
    """Write them, each folded into the open alert of its fingerprint. Within the caller's transaction if given one."""
    if rows:
        await db.execute(
            RAISE,
            [row.fingerprint for row in rows],
            [row.type for row in rows],
            [row.job for row in rows],
            [row.run for row in rows],
            [_storable(row.summary) for row in rows],
            [_json(row.detail) for row in rows],
        )


AGENDA = """
    SELECT NULL AS channel, extract(epoch FROM min(next_at) - now())::float8 AS wait_s
      FROM jobsd.alert
     WHERE told < count
     UNION ALL
    SELECT channel, extract(epoch FROM min(next_at) - now())::float8
      FROM jobsd.alert_delivery
     WHERE channel = ANY($1)
     GROUP BY channel
"""


@dataclass(frozen=True, slots=True)
class Agenda:
    """Seconds until there is something to do, at or below 0 for now; None, or no entry, for nothing at all."""

    hand_over_s: float | None
    send_s: Mapping[str, float]  # by channel


async def agenda(db: Db, channels: Iterable[str]) -> Agenda:
    """Look when the next alert is to be handed over, and when the next message of each channel is due."""
    rows = await db.fetch(AGENDA, list(channels))
    waits = {row["channel"]: row["wait_s"] for row in rows}
    return Agenda(waits.pop(None, None), waits)


DUE = """
    SELECT id, job
      FROM jobsd.alert
     WHERE told < count AND next_at <= now()
     ORDER BY next_at
     LIMIT $1
       FOR UPDATE SKIP LOCKED
"""
HAND_OVER = """
    WITH handed AS (
        UPDATE jobsd.alert a
           SET told = a.count, told_at = now(), next_at = now() + due.every_s * interval '1 second'
          FROM unnest($1::bigint[], $2::float8[]) AS due(alert, every_s)
         WHERE a.id = due.alert
    )
    INSERT INTO jobsd.alert_delivery AS d (alert, channel, count)
    SELECT a.id, owed.channel, a.count - a.told  -- as they were before `handed`
      FROM unnest($3::bigint[], $4::text[]) AS owed(alert, channel)
      JOIN jobsd.alert a ON a.id = owed.alert
        ON CONFLICT ON CONSTRAINT one_message_per_alert_and_channel
        DO UPDATE SET count = d.count + excluded.count
"""


@dataclass(frozen=True, slots=True)
class Telling:
    """How alerts of one job are told: the channels, and the least time between two messages of one fingerprint."""

    channels: frozenset[str]
    every: timedelta


async def hand_over(db: Db, telling: Mapping[str, Telling], others: Telling, limit: int = 500) -> int:
    """Give due alerts to their channels, by job; `others` for jobs that are not in `telling`. Returns how many."""
    async with db.transaction() as tx:
        due = [(row["id"], telling.get(row["job"] or "", others)) for row in await tx.fetch(DUE, limit)]
        if due:
            owed = [(alert, channel) for alert, how in due for channel in sorted(how.channels)]
            await tx.execute(
                HAND_OVER,
                [alert for alert, _ in due],
                [how.every.total_seconds() for _, how in due],
                [alert for alert, _ in owed],
                [channel for _, channel in owed],
            )
    return len(due)


TAKE = """
    WITH due AS MATERIALIZED (
        SELECT alert, channel
          FROM jobsd.alert_delivery
         WHERE channel = $1 AND next_at <= now()
         ORDER BY next_at
         LIMIT $2
           FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE jobsd.alert_delivery d
           SET next_at = now() + $3::interval
          FROM due
         WHERE d.alert = due.alert AND d.channel = due.channel
        RETURNING d.alert, d.count, d.failures
    )
    SELECT t.alert, t.count AS new, t.failures, a.type, a.fingerprint, a.summary, a.job, a.run, a.detail, a.count,
           a.first_at, a.last_at
      FROM taken t
      JOIN jobsd.alert a ON a.id = t.alert
     ORDER BY a.last_at, a.id
"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message that this node is to send through one channel, before its lease is over."""

    alert: int
    new: int
    failures: int
    type: str
    fingerprint: str
    summary: str
    job: str | None
    run: int | None
    detail: dict[str, Any]
    count: int
    first_at: datetime
    last_at: datetime


async def take_due(db: Db, channel: str, limit: int, lease: timedelta) -> list[Delivery]:
    """Take due messages of `channel`. No other node does for `lease`; after it they are due again: at least once."""
    rows = await db.fetch(TAKE, channel, limit, lease)
    return [Delivery(**{**dict(row), "detail": orjson.loads(row["detail"])}) for row in rows]


TOLD = """
    WITH sent AS (
        SELECT * FROM unnest($2::bigint[], $3::bigint[]) AS sent(alert, count)
    ), more AS (  -- handed over while these were on their way
        UPDATE jobsd.alert_delivery d
           SET count = d.count - sent.count, owed_at = now(), next_at = now(), failures = 0, error = NULL
          FROM sent
         WHERE d.alert = sent.alert AND d.channel = $1 AND d.count > sent.count
    )
    DELETE FROM jobsd.alert_delivery d
     USING sent
     WHERE d.alert = sent.alert AND d.channel = $1 AND d.count <= sent.count
"""


async def told(db: Db, channel: str, deliveries: Sequence[Delivery]) -> None:
    """Strike off what the channel took."""
    await db.execute(TOLD, channel, [each.alert for each in deliveries], [each.new for each in deliveries])


FAILED = """
    UPDATE jobsd.alert_delivery
       SET failures = failures + 1, error = $3,
           next_at = now() + least(interval '5 seconds' * 2 ^ least(failures, 10), interval '15 minutes')
     WHERE channel = $1 AND alert = ANY($2)
"""


async def failed(db: Db | Session, channel: str, deliveries: Sequence[Delivery], error: str) -> None:
    """Put them off: 5 s after the first failure, doubled at each, 15 min at most."""
    await db.execute(FAILED, channel, [each.alert for each in deliveries], _storable(error)[:1000])


RESOLVE = """
    UPDATE jobsd.alert a
       SET resolved_at = now()
     WHERE resolved_at IS NULL AND told = count AND next_at <= now()
       AND CASE WHEN run IS NULL THEN last_at < now() - $1::interval
                ELSE EXISTS (SELECT FROM jobsd.run r
                              WHERE r.job = a.job AND r.id >= a.run AND r.state = 'completed'
                                AND r.finished_at > a.last_at)
            END
"""
GIVE_UP_ON = """
    DELETE FROM jobsd.alert_delivery
     WHERE owed_at < now() - $1::interval
 RETURNING channel, alert
"""


async def resolve(db: Db) -> None:
    """Close alerts whose job has completed a run since. Not within the rate limit: it holds for a job that flaps."""
    await db.execute(RESOLVE, QUIET)


async def give_up(db: Db) -> dict[str, int]:
    """Drop messages that no channel took for a week, e.g. of one that is no longer configured. Counts by channel."""
    dropped: dict[str, int] = {}
    for row in await db.fetch(GIVE_UP_ON, GIVE_UP):
        dropped[row["channel"]] = dropped.get(row["channel"], 0) + 1
    return dropped


def _storable(text: str) -> str:
    """PostgreSQL text holds no NUL, and UTF-8 no lone surrogate."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _json(detail: Mapping[str, Any]) -> str:
    clean = {key: _storable(value) if isinstance(value, str) else value for key, value in detail.items()}
    return orjson.dumps(clean, default=str).decode()
