"""What has happened since: audit entries, messages and progress that an earlier look did not see.

A `Position` is a snapshot of PostgreSQL's transactions. What it did not see is told exactly, also what a transaction
that was under way then commits late (docs/decisions/0018-a-feed-of-snapshots.md).
"""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

from jobsd.domain.run import RunId
from jobsd.store.db import Db, Row, Session

_TEXT = re.compile(r"(\d{1,19}):((?:\d{1,19}(?:,\d{1,19})*)?)")
LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Position:
    """Seen are the transactions before `next` that are not in `pending`: those were under way.

    Numbers are those that entries and messages carry in `tx`.
    """

    next: int
    pending: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `str` makes of one, "104:100,102". Raises `ValueError`."""
        match = _TEXT.fullmatch(text)
        if match is None or int(match[1]) > LARGEST:
            raise ValueError("expected an id that a stream has given")
        pending = (int(part) for part in match[2].split(",") if part)
        return cls(int(match[1]), frozenset(each for each in pending if each < int(match[1])))

    def __str__(self) -> str:
        return f"{self.next}:{','.join(map(str, sorted(self.pending)))}"


# A LIMIT makes the planner hope for an early hit in a scan of the whole table; the latest entries are its end.
BY_INDEX = """
    SET LOCAL enable_seqscan = off
"""


@asynccontextmanager
async def looking(db: Db) -> AsyncIterator[Session]:
    """All that is read in the block is of one state of the database, so that a run is never ahead of its moves."""
    async with db.reading() as session:
        await session.execute(BY_INDEX)
        yield session


NOW = """
    SELECT jobsd.audit_tx(pg_snapshot_xmax(s)) AS next, pg_snapshot_xmax(s)::text::bigint AS xmax,
           ARRAY(SELECT each::text::bigint FROM pg_snapshot_xip(s) AS each) AS pending
      FROM pg_current_snapshot() AS s
"""


async def now(session: Session) -> Position:
    """All that the session sees."""
    row = await session.fetchrow(NOW)
    if row is None:
        raise AssertionError("a function in FROM gives one row")
    base = row["next"] - row["xmax"]
    return Position(row["next"], frozenset(base + each for each in row["pending"]))


@dataclass(frozen=True, slots=True)
class Stretch:
    """From one position to another: what `start` has not seen and `end` has."""

    start: Position
    end: Position

    @property
    def late(self) -> list[int]:
        """Transactions that were under way at the start and are over at the end."""
        return sorted(self.start.pending - self.end.pending)

    @property
    def bounds(self) -> tuple[int, list[int], int, list[int]]:
        return self.start.next, self.late, self.end.next, sorted(self.end.pending)

    @property
    def empty(self) -> bool:
        return self.start.next >= self.end.next and not self.late


MOVED = """
    WITH entries AS MATERIALIZED (
        SELECT run, act
          FROM jobsd.audit
         WHERE (tx >= $1 OR tx = ANY($2::bigint[]))
           AND tx < $3 AND tx <> ALL($4::bigint[])
           AND run IS NOT NULL
           AND ($5::text[] IS NULL OR job = ANY($5))
         LIMIT $6 + 1
    )
    SELECT run, array_agg(DISTINCT act) AS acts, sum(count(*)) OVER () AS entries
      FROM entries
     GROUP BY run
     ORDER BY run
"""


async def moved(session: Session, stretch: Stretch, jobs: Sequence[str] | None, most: int) -> list[Row] | None:
    """The runs that moved, of `jobs` or of all, each with its acts; None when there are more than `most` moves."""
    rows = await session.fetch(MOVED, *stretch.bounds, jobs, most)
    return None if rows and rows[0]["entries"] > most else rows


ENTRIES = """
    SELECT run, sequence, at, act, actor, fence, reason, detail
      FROM jobsd.audit
     WHERE run = ANY($5::bigint[])
       AND (tx >= $1 OR tx = ANY($2::bigint[]))
       AND tx < $3 AND tx <> ALL($4::bigint[])
     ORDER BY run, sequence
"""


async def entries(session: Session, stretch: Stretch, runs: Sequence[RunId]) -> list[Row]:
    """The audit entries of these runs, in the order of their moves."""
    return await session.fetch(ENTRIES, *stretch.bounds, runs)


MESSAGES = """
    SELECT run, id, at, level, text, fence
      FROM jobsd.message
     WHERE run = ANY($5::bigint[])
       AND (tx >= $1 OR tx = ANY($2::bigint[]))
       AND tx < $3 AND tx <> ALL($4::bigint[])
     ORDER BY id DESC
     LIMIT $6
"""


async def messages(session: Session, stretch: Stretch, runs: Sequence[RunId], most: int) -> list[Row]:
    """What these runs said, the oldest first; of more than `most`, the latest."""
    return (await session.fetch(MESSAGES, *stretch.bounds, runs, most))[::-1]


PROGRESS = """
    SELECT r.id AS run, r.job, r.tags, r.state, p.fraction AS progress, p.note, p.step, p.steps, p.at,
           CASE WHEN r.state = 'running' AND p.fence = r.fence AND p.fraction > 0
                THEN extract(epoch FROM (p.at - r.started_at) / p.fraction * (1 - p.fraction))::float8 END AS left_s
      FROM jobsd.progress p
      JOIN jobsd.run r ON r.id = p.run
     WHERE p.run = ANY($1::bigint[])
"""


async def progress(session: Session, runs: Sequence[RunId]) -> list[Row]:
    """How far these runs are, as far as they have told."""
    return await session.fetch(PROGRESS, runs)


# A report is one statement with a limit of its own, so what is a minute old was seen by an earlier look.
ADVANCED = """
    WITH taken AS MATERIALIZED (
        SELECT unnest(runs) AS run FROM jobsd.claim
         UNION
        SELECT run FROM jobsd.external
    )
    SELECT run
      FROM taken JOIN jobsd.progress p USING (run)
     WHERE p.at > clock_timestamp() - interval '1 minute'
     LIMIT $1
"""


async def advanced(session: Session, most: int) -> list[RunId]:
    """Running runs that have told something within the last minute."""
    return [RunId(row["run"]) for row in await session.fetch(ADVANCED, most)]
