"""Migrations: forward only, checksummed, all or nothing, safe when several nodes migrate at once."""

import asyncio
import hashlib
from pathlib import Path

import asyncpg
import pytest

from jobsd.domain.errors import Exit, JobsdError
from jobsd.store import migrate
from jobsd.store.db import Db


async def scalar(url: str, sql: str) -> object:
    con = await asyncpg.connect(url)
    try:
        return await con.fetchval(sql)
    finally:
        await con.close()


@pytest.mark.req("C8", "C4")
@pytest.mark.fault(36)
async def test_nodes_that_migrate_at_once_apply_each_migration_once(empty_database_url: str) -> None:
    done = await asyncio.gather(*(migrate.migrate(empty_database_url) for _ in range(4)))

    applied = [m.label for each in done for m in each]
    assert sorted(applied) == sorted(m.label for m in migrate.shipped())
    (await migrate.status(empty_database_url)).require_current()


@pytest.mark.req("C8")
async def test_a_dry_run_names_what_is_pending_and_touches_nothing(empty_database_url: str) -> None:
    pending = await migrate.migrate(empty_database_url, dry_run=True)

    assert [m.label for m in pending] == [m.label for m in migrate.shipped()]
    assert await scalar(empty_database_url, "SELECT to_regnamespace('jobsd') IS NULL")


@pytest.mark.req("C8")
async def test_two_installations_share_a_database_and_the_packs_tables(empty_database_url: str) -> None:
    await migrate.migrate(empty_database_url)

    done = await migrate.migrate(empty_database_url, schema="second")

    assert {m.pack for m in done} == {"core"}
    (await migrate.status(empty_database_url, schema="second")).require_current()
    async with Db.open(empty_database_url, schema="second") as db:
        assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 0


@pytest.mark.req("C8")
async def test_a_schema_that_is_behind_newer_or_changed_is_told_apart(empty_database_url: str) -> None:
    codes = []
    for change in (
        None,
        "INSERT INTO jobsd.migration (number, name, checksum) VALUES (9, 'future', 'x')",
        "DELETE FROM jobsd.migration WHERE number = 9",
        "UPDATE jobsd.migration SET checksum = 'other'",
    ):
        if change:
            await scalar(empty_database_url, change)
        try:
            (await migrate.status(empty_database_url)).require_current()
            codes.append("current")
        except JobsdError as error:
            assert error.exit_code is Exit.SCHEMA
            codes.append(error.problems[0].code)
        if change is None:
            await migrate.migrate(empty_database_url)

    assert codes == ["E0305", "E0306", "current", "E0308"]
    with pytest.raises(JobsdError, match="E0308"):
        await migrate.migrate(empty_database_url)


@pytest.mark.req("C8")
async def test_a_migration_that_fails_leaves_nothing_of_itself_and_all_before_it(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core/0001_good.sql").write_text("CREATE TABLE jobsd.good (id int);")
    (tmp_path / "core/0002_bad.sql").write_text("CREATE TABLE jobsd.half (id int); SELECT 1 / 0;")
    monkeypatch.setattr(migrate, "folder", lambda: tmp_path)

    with pytest.raises(JobsdError, match=r"E0309.*core/0002_bad failed.*division by zero"):
        await migrate.migrate(empty_database_url)

    assert await scalar(empty_database_url, "SELECT to_regclass('jobsd.good') IS NOT NULL")
    assert await scalar(empty_database_url, "SELECT to_regclass('jobsd.half') IS NULL")


def test_a_migration_s_checksum_is_that_of_its_file() -> None:
    for migration in migrate.shipped():
        file = migrate.folder() / migration.pack / f"{migration.number:04d}_{migration.name}.sql"
        assert migration.checksum == hashlib.sha256(file.read_bytes()).hexdigest()
