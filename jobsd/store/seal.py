"""The chain of seals over the audit: the next link, and the links there are beside what is there of their entries.

What is wrong with a link is decided in `domain.chain`; what a seal is made of, in sql/core/0005_seal.sql.
"""

from dataclasses import dataclass
from datetime import datetime

from jobsd.domain.chain import FIRST, Found, Seal
from jobsd.store.db import Db, Row

SEAL_S, CHECK_S = 100.0, 100.0  # one transaction may have written millions of entries, and is sealed whole

BOUND = """
    SELECT set_config('statement_timeout', $1, true)
"""
SEAL = """
    SELECT number, entries, encode(hash, 'hex') AS hash, wait_for
      FROM jobsd.seal_audit($1, $2, $3)
"""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A new seal."""

    number: int
    entries: int
    hash: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Sealing goes on in a new era when no transaction below this id is running: to be handed to the next call."""

    since: int


async def seal(db: Db, sealer: str, most: int, since: int | None = None) -> Sealed | Waiting | None:
    """Seal about `most` entries more; None when there are none just now, or another node is at it."""
    async with db.transaction() as tx:
        await tx.fetchval(BOUND, str(round(SEAL_S * 1000)))
        row = await tx.fetchrow(SEAL, sealer, most, since, timeout=SEAL_S)
    if row is None:
        return None
    if row["number"] is None:
        return Waiting(row["wait_for"])
    return Sealed(row["number"], row["entries"], row["hash"])


LINKS = """
    SELECT s.number, s.from_tx, s.to_tx, s.entries, s.sealer, jobsd.audit_time(s.at) AS at,
           encode(s.previous, 'hex') AS previous, encode(s.hash, 'hex') AS hash,
           found.entries AS found, encode(jobsd.seal_hash(s, coalesce(found.digests, '')), 'hex') AS computed
      FROM (SELECT l.number, sum(l.entries) OVER (ORDER BY l.number) - l.entries AS before
              FROM (SELECT number, entries FROM jobsd.audit_seal WHERE number > $1 ORDER BY number LIMIT $2) AS l) AS n
      JOIN jobsd.audit_seal s USING (number)
     CROSS JOIN LATERAL (
        SELECT count(*) AS entries,
               string_agg(jobsd.audit_digest(a), ''::bytea ORDER BY a.tx, coalesce(a.run, 0), a.sequence) AS digests
          FROM jobsd.audit a
         WHERE a.tx >= s.from_tx AND a.tx < s.to_tx) AS found
     WHERE n.before < $3
     ORDER BY s.number
"""


async def links(db: Db, after: int, seals: int, entries: int) -> list[tuple[Seal, Found]]:
    """The seals after number `after`, each with what is there of its entries: at most `seals`, of `entries` about."""
    async with db.transaction() as tx:
        await tx.fetchval(BOUND, str(round(CHECK_S * 1000)))
        rows = await tx.fetch(LINKS, after, seals, entries, timeout=CHECK_S)
    return [(_seal(row), Found(row["found"], row["computed"])) for row in rows]


NUMBERED = """
    SELECT number, from_tx, to_tx, entries, sealer, jobsd.audit_time(at) AS at,
           encode(previous, 'hex') AS previous, encode(hash, 'hex') AS hash
      FROM jobsd.audit_seal
     WHERE number = $1
"""


async def numbered(db: Db, number: int) -> Seal | None:
    """One seal; `FIRST` for number 0."""
    if number == 0:
        return FIRST
    row = await db.fetchrow(NUMBERED, number)
    return None if row is None else _seal(row)


NEXT = """
    SELECT number, from_tx, to_tx, entries, sealer, jobsd.audit_time(at) AS at,
           encode(previous, 'hex') AS previous, encode(hash, 'hex') AS hash
      FROM jobsd.audit_seal
     WHERE number > $1
     ORDER BY number
     LIMIT 1
"""


async def following(db: Db, number: int) -> Seal | None:
    """The seal after this number."""
    row = await db.fetchrow(NEXT, number)
    return None if row is None else _seal(row)


HEAD = """
    SELECT number, from_tx, to_tx, entries, sealer, jobsd.audit_time(at) AS at,
           encode(previous, 'hex') AS previous, encode(hash, 'hex') AS hash
      FROM jobsd.audit_seal
     ORDER BY number DESC
     LIMIT 1
"""


async def head(db: Db) -> Seal | None:
    """The latest seal."""
    row = await db.fetchrow(HEAD)
    return None if row is None else _seal(row)


UNSEALED = """
    SELECT count(*) AS entries, min(at) AS since
      FROM jobsd.audit
     WHERE tx >= $1
"""


@dataclass(frozen=True, slots=True)
class Unsealed:
    """What no seal covers yet, and when the oldest of it was written."""

    entries: int
    since: datetime | None


async def unsealed(db: Db, after: Seal | None) -> Unsealed:
    """Entries after the latest seal."""
    row = await db.fetchrow(UNSEALED, after.to_tx if after else 0, timeout=60)
    return Unsealed(0, None) if row is None else Unsealed(row["entries"], row["since"])


def _seal(row: Row) -> Seal:
    return Seal(
        row["number"],
        row["from_tx"],
        row["to_tx"],
        row["entries"],
        row["sealer"],
        row["at"],
        row["previous"],
        row["hash"],
    )
