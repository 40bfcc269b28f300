"""The audit as people read it, the latest entry first; and word for word, in the order in which it is sealed."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from jobsd.domain.chain import Entry
from jobsd.domain.run import RunId
from jobsd.store.db import Db, Row

LAST = datetime(9000, 1, 1, tzinfo=UTC)
NARROWEST = timedelta(seconds=1)
WIDER = 16

# So that the one index that such a table bears is of use, a query is bounded in time.
ENTRIES = """
    SELECT at, act, actor, job, run, sequence, fence, reason, detail
      FROM jobsd.audit
     WHERE at > $1 AND at <= $2 AND (at, coalesce(run, 0), sequence) < ($2, $3::bigint, $4::bigint)
       AND ($5::text IS NULL OR job = $5)
       AND ($6::text IS NULL OR actor = $6)
       AND ($7::text IS NULL OR act = $7)
     ORDER BY at DESC, coalesce(run, 0) DESC, sequence DESC
     LIMIT $8
"""
OF_RUN = """
    SELECT at, act, actor, job, run, sequence, fence, reason, detail
      FROM jobsd.audit
     WHERE run = $1
       AND ($2::timestamptz IS NULL OR (at, sequence) < ($2, $3::bigint))
       AND ($4::timestamptz IS NULL OR at >= $4)
       AND ($5::text IS NULL OR job = $5)
       AND ($6::text IS NULL OR actor = $6)
       AND ($7::text IS NULL OR act = $7)
     ORDER BY at DESC, sequence DESC
     LIMIT $8
"""
REACH = """
    SELECT clock_timestamp() AS latest, min(applied_at) - interval '1 day' AS first
      FROM jobsd.migration
"""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries; what is None does not narrow."""

    run: RunId | None = None
    job: str | None = None
    actor: str | None = None
    act: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Before:
    """Only entries before this one, in the order of time, run (0 for none), sequence."""

    at: datetime
    run: int
    sequence: int


async def entries(db: Db, wanted: AuditFilter, before: Before | None, limit: int) -> list[Row]:
    """At most `limit` entries, the latest first.

    Without a run it looks back over a longer and longer time, a second at first, until there are enough: what is looked
    for is mostly young, and all there is may be much.
    """
    narrowed = (wanted.job, wanted.actor, wanted.act)
    if wanted.run is not None:
        last = (before.at, before.sequence) if before else (None, None)
        return await db.fetch(OF_RUN, wanted.run, *last, wanted.since, *narrowed, limit)
    found: list[Row] = []
    async for start, end in _windows(db, wanted.since, before):
        found += await db.fetch(ENTRIES, start, end.at, end.run, end.sequence, *narrowed, limit - len(found))
        if len(found) == limit:
            break
    return found


async def _windows(db: Db, since: datetime | None, before: Before | None) -> AsyncIterator[tuple[datetime, Before]]:
    """Stretches of time that follow each other backwards, from `before` or now to `since` or the first entry."""
    reach = await db.fetchrow(REACH)
    if reach is None or reach["first"] is None:
        return
    first = (since or reach["first"]) - timedelta(microseconds=1)
    end, latest, span = before or Before(LAST, 0, 0), reach["latest"], NARROWEST
    while True:
        start = min(end.at, latest) - span
        yield max(start, first), end
        if start <= first:
            return
        end, span = Before(start, 2**62, 2**62), span * WIDER


SEALABLE = """
    SELECT a.tx, a.run, a.sequence, jobsd.audit_time(a.at) AS at, a.act, a.actor, a.job, a.fence, a.reason,
           a.detail::text AS detail, encode(jobsd.audit_digest(a), 'hex') AS digest
      FROM jobsd.audit a
     WHERE a.tx >= $1 AND ($2::bigint IS NULL OR a.tx < $2)
       AND (a.tx, coalesce(a.run, 0), a.sequence) > ($3::bigint, $4::bigint, $5::bigint)
     ORDER BY a.tx, coalesce(a.run, 0), a.sequence
     LIMIT $6
"""
START = (-1, 0, 0)  # before the place of every entry


async def sealable(
    db: Db, from_tx: int, to_tx: int | None, after: tuple[int, int, int] = START, limit: int = 1000
) -> list[tuple[Entry, str]]:
    """Entries of a stretch word for word with their digests (hexadecimal), in order, after the place `after`."""
    return [
        (
            Entry(
                row["tx"],
                row["run"],
                row["sequence"],
                row["at"],
                row["act"],
                row["actor"],
                row["job"],
                row["fence"],
                row["reason"],
                row["detail"],
            ),
            row["digest"],
        )
        for row in await db.fetch(SEALABLE, from_tx, to_tx, *after, limit, timeout=60)
    ]
