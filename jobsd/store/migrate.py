"""Migrations: numbered files in `sql/core` and `sql/<pack>`, forward only, checksummed, one transaction each.

Every schema keeps its own list of what is applied to it: the core's that of the installation, a pack's that of the
pack, so that two installations in one database share a pack's tables and migrate them once.

Two nodes may migrate at once: each migration takes an advisory lock for its transaction and looks again.
"""

import hashlib
import zlib
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from time import monotonic

import asyncpg

from jobsd.domain.errors import Exit, JobsdError, problem
from jobsd.store.db import Session, connect

CORE = "core"
LOCK_CLASS = 0x6A6F6273  # "jobs": the class of the advisory lock under which one node migrates
STATEMENT_S = 3600.0

BOOTSTRAP = """
    CREATE SCHEMA IF NOT EXISTS {schema};
    CREATE TABLE IF NOT EXISTS {schema}.migration (
        number     integer     PRIMARY KEY,
        name       text        NOT NULL,
        checksum   text        NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    );
"""
LOCK = "SELECT pg_advisory_xact_lock($1, $2)"
# By the catalogue's tables, not by name: names are cached, and after the wait for a lock such a cache may be behind.
EXISTS = """
    SELECT EXISTS (
        SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relname = 'migration')
"""
APPLIED = """
    SELECT number, name, checksum, applied_at
      FROM jobsd.migration
     ORDER BY number
"""
IS_APPLIED = """
    SELECT EXISTS (SELECT FROM jobsd.migration WHERE number = $1)
"""
RECORD = """
    INSERT INTO jobsd.migration (number, name, checksum)
    VALUES ($1, $2, $3)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. `applied_at` is None while it is pending; `sql` is empty for one that only the database knows."""

    pack: str
    number: int
    name: str
    sql: str
    checksum: str
    applied_at: datetime | None = None

    @property
    def label(self) -> str:
        return f"{self.pack}/{self.number:04d}_{self.name}"


@dataclass(frozen=True, slots=True)
class Status:
    """What is shipped against what is applied, in the order of application."""

    migrations: tuple[Migration, ...]
    unknown: tuple[Migration, ...]  # applied by a newer jobsd
    changed: tuple[Migration, ...]  # applied from a file that read otherwise

    @property
    def pending(self) -> tuple[Migration, ...]:
        return tuple(m for m in self.migrations if m.applied_at is None)

    def require_current(self) -> None:
        """Raises `JobsdError` (E0305, E0306, E0308; exit 8) unless the schema is exactly the shipped one."""
        self.require_known()
        if self.pending:
            have, need = self._core(applied=True), self._core(applied=False)
            count = len(self.pending)
            raise problem(
                "E0305",
                f"the schema is {count} migration{'s' if count > 1 else ''} behind (have {have:04d}, need {need:04d})"
                if have != need
                else f"the schema is {count} migration{'s' if count > 1 else ''} behind ({self.pending[0].label}, …)",
                "jobsd db migrate --dry-run    then: jobsd db migrate",
                exit_code=Exit.SCHEMA,
            )

    def require_known(self) -> None:
        """Raises `JobsdError` (E0306, E0308) for a schema that is not ours to touch."""
        if self.unknown:
            newest, known = max(m.number for m in self.unknown), self._core(applied=False)
            raise problem(
                "E0306",
                f"database schema {newest:04d} is newer than this jobsd (knows {known:04d}): "
                "install a newer jobsd; nothing was changed",
                exit_code=Exit.SCHEMA,
            )
        if self.changed:
            labels = ", ".join(m.label for m in self.changed)
            raise problem(
                "E0308",
                f"applied migrations differ from the shipped ones: {labels}",
                "a released migration is never edited: install the jobsd that applied it; nothing was changed",
                exit_code=Exit.SCHEMA,
            )

    def _core(self, *, applied: bool) -> int:
        return max((m.number for m in self.migrations if m.pack == CORE and (m.applied_at or not applied)), default=0)


def folder() -> Path:
    """Where the SQL is: inside the wheel, or beside the package in a checkout."""
    here = Path(__file__).resolve().parent.parent
    return here / "sql" if (here / "sql").is_dir() else here.parent / "sql"


def shipped(packs: Iterable[str] | None = None) -> list[Migration]:
    """The migrations of the core and of `packs` (default: of every folder), core first, in order."""
    names = (
        sorted(p.name for p in folder().iterdir() if p.is_dir() and p.name != CORE) if packs is None else sorted(packs)
    )
    return [migration for pack in (CORE, *names) for migration in _read(folder() / pack)]


def _read(path: Path) -> list[Migration]:
    found = []
    for file in sorted(path.glob("[0-9][0-9][0-9][0-9]_*.sql")):
        number, _, name = file.stem.partition("_")
        sql = file.read_text(encoding="utf-8")
        found.append(Migration(path.name, int(number), name, sql, hashlib.sha256(sql.encode()).hexdigest()))
    return found


async def status(url: str, schema: str = "jobsd", packs: Iterable[str] | None = None) -> Status:
    """Compare. Raises `Unavailable` or `JobsdError` when the database cannot be asked."""
    async with _session(url, schema) as session:
        return await _status(session, shipped(packs))


async def migrate(
    url: str, schema: str = "jobsd", dry_run: bool = False, packs: Iterable[str] | None = None
) -> list[Migration]:
    """Apply what is pending and return it; with `dry_run` only return it.

    Raises `JobsdError`: E0306 and E0308 before anything is touched, E0309 for a migration that failed: those before
    it stay applied, nothing of it does.
    """
    async with _session(url, schema) as session:
        before = await _status(session, shipped(packs))
        before.require_known()
        if dry_run:
            return list(before.pending)
        return [applied for m in before.pending if (applied := await _apply(_ledger(session, m.pack), m))]


async def _status(session: Session, known: Sequence[Migration]) -> Status:
    every = [await _compare(_ledger(session, pack), pack, known) for pack in dict.fromkeys(m.pack for m in known)]
    return Status(
        tuple(m for each in every for m in each.migrations),
        tuple(m for each in every for m in each.unknown),
        tuple(m for each in every for m in each.changed),
    )


async def _compare(session: Session, pack: str, known: Sequence[Migration]) -> Status:
    exists = await session.fetchval(EXISTS, session.schema)
    rows = {row["number"]: row for row in (await session.fetch(APPLIED) if exists else [])}
    ours = {m.number: m for m in known if m.pack == pack}
    return Status(
        tuple(replace(m, applied_at=rows[n]["applied_at"]) if n in rows else m for n, m in ours.items()),
        tuple(
            Migration(pack, n, row["name"], "", row["checksum"], row["applied_at"])
            for n, row in rows.items()
            if n not in ours
        ),
        tuple(m for n, m in ours.items() if n in rows and rows[n]["checksum"] != m.checksum),
    )


def _ledger(session: Session, pack: str) -> Session:
    """The same connection, speaking to the schema that keeps the list of this pack's migrations."""
    return session if pack == CORE else Session(session.con, pack, session.timeout_s)


async def _apply(session: Session, migration: Migration) -> Migration | None:
    """Apply one, unless another node did so meanwhile (None)."""
    began = monotonic()
    try:
        async with _locked(session):
            if not await session.fetchval(EXISTS, session.schema):
                await session.execute(BOOTSTRAP.format(schema=f'"{session.schema}"'))
            if await session.fetchval(IS_APPLIED, migration.number):
                return None
            await session.execute(migration.sql)
            await session.execute(RECORD, migration.number, migration.name, migration.checksum)
    except asyncpg.PostgresError as error:
        raise _failed(migration, error, monotonic() - began) from error
    return migration


def _failed(migration: Migration, error: asyncpg.PostgresError, spent_s: float) -> JobsdError:
    return problem(
        "E0309",
        f"migration {migration.label} failed after {spent_s:.1f} s: {error}",
        "nothing of it was applied; those before it stay. Mend the cause, then: jobsd db migrate",
        exit_code=Exit.SCHEMA,
    )


@asynccontextmanager
async def _locked(session: Session) -> AsyncIterator[None]:
    async with session.transaction():
        await session.execute(LOCK, LOCK_CLASS, zlib.crc32(session.schema.encode()) - (1 << 31))
        yield


@asynccontextmanager
async def _session(url: str, schema: str) -> AsyncIterator[Session]:
    con = await connect(url, application_name="jobsd migrate", pooled=False)
    try:
        yield Session(con, schema, STATEMENT_S)
    finally:
        con.terminate()
