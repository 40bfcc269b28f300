"""`jobsd db`, against a real database."""

import json
import re
from pathlib import Path

import pytest

from jobsd.store.db import Db
from jobsd.store.migrate import folder, shipped
from jobsd.store.queries import queries
from tests.support.command import jobsd

SHIPPED = [migration.label for migration in shipped()]


def test_a_schema_is_migrated_and_a_second_time_there_is_nothing_to_do(empty_database_url: str, tmp_path: Path) -> None:
    first = jobsd("db", "migrate", cwd=tmp_path, DATABASE_URL=empty_database_url)
    second = jobsd("db", "migrate", "-o", "table", cwd=tmp_path, DATABASE_URL=empty_database_url)
    status = jobsd("db", "status", cwd=tmp_path, DATABASE_URL=empty_database_url)

    assert first.code == second.code == status.code == 0
    assert first.out.splitlines() == ["migration\tstate", *(f"{label}\tapplied" for label in SHIPPED)]
    assert (second.out, second.err) == ("", "the schema is up to date\n")
    assert all("\tapplied\t20" in line for line in status.out.splitlines()[1:])


def test_a_dry_run_tells_what_is_pending_and_applies_nothing(empty_database_url: str, tmp_path: Path) -> None:
    dry = jobsd("db", "migrate", "--dry-run", "-o", "json", cwd=tmp_path, DATABASE_URL=empty_database_url)
    status = jobsd("db", "status", cwd=tmp_path, DATABASE_URL=empty_database_url)

    assert [(one["migration"], one["state"]) for one in json.loads(dry.out)] == [(n, "pending") for n in SHIPPED]
    assert status.code == 8
    assert status.err.startswith(f"error[E0305]: the schema is {len(SHIPPED)} migration")
    assert "\tapplied\t" not in status.out


async def test_a_schema_of_a_newer_jobsd_is_e0306_and_exit_8(db: Db, database_url: str, tmp_path: Path) -> None:
    await db.execute("INSERT INTO jobsd.migration (number, name, checksum) VALUES (9999, 'later', '')")

    status = jobsd("db", "status", cwd=tmp_path, DATABASE_URL=database_url)
    migrate = jobsd("db", "migrate", cwd=tmp_path, DATABASE_URL=database_url)

    assert status.code == migrate.code == 8
    assert "core/9999_later\tunknown" in status.out
    assert migrate.err.startswith("error[E0306]: database schema 9999 is newer than this jobsd")


def test_the_schema_can_have_another_name(empty_database_url: str, tmp_path: Path) -> None:
    (tmp_path / "jobsd.toml").write_text(f'[database]\nurl = "{empty_database_url}"\nschema = "jobs_two"\n')

    migrate = jobsd("db", "migrate", cwd=tmp_path)
    ours = jobsd("db", "status", cwd=tmp_path)
    usual = jobsd("db", "status", "--config", "gone/../jobsd.toml", cwd=tmp_path, DATABASE_URL=empty_database_url)
    other = jobsd("db", "status", cwd=tmp_path.parent, DATABASE_URL=empty_database_url)

    assert migrate.code == ours.code == 0
    assert usual.code == 3  # that file is not there
    assert other.code == 8  # nothing in the schema jobsd


def test_pending_sql_is_printed_to_be_read(empty_database_url: str, tmp_path: Path) -> None:
    ended = jobsd("db", "sql", cwd=tmp_path, DATABASE_URL=empty_database_url)

    assert ended.code == 0
    assert re.findall(r"^-- (\w+/\d{4}_\w+)$", ended.out, re.MULTILINE) == SHIPPED
    assert "CREATE TABLE jobsd.run (" in ended.out


def test_every_query_is_printed_under_its_name(tmp_path: Path) -> None:
    ended = jobsd("db", "sql", "--queries", cwd=tmp_path)

    assert ended.code == 0
    assert re.findall(r"^-- (\w+\.[A-Z_]+)$", ended.out, re.MULTILINE) == list(queries())
    assert {"runs.CLAIM", "lists.RUNS", "queue.DEPTH"} <= queries().keys()


def test_queries_name_the_schema_that_is_asked_for() -> None:
    assert all("jobsd." not in text.replace("'jobsd.", "") for text in queries("two").values())
    assert '"two".run' in queries("two")["runs.CLAIM"]


def test_no_database_is_e0301_and_exit_3(tmp_path: Path) -> None:
    ended = jobsd("db", "migrate", cwd=tmp_path)

    assert ended.code == 3
    assert ended.err.startswith("error[E0301]: no database is configured")
    assert "set DATABASE_URL" in ended.err


@pytest.mark.parametrize("command", ["migrate", "status", "sql"])
def test_a_database_that_cannot_be_reached_is_e0302_and_exit_7_without_its_password(
    tmp_path: Path, command: str
) -> None:
    ended = jobsd("db", command, cwd=tmp_path, DATABASE_URL="postgresql://app:geheim@127.0.0.1:1/app")

    assert ended.code == 7
    assert ended.err == (
        "error[E0302]: cannot reach PostgreSQL at 127.0.0.1:1/app (user app): connection refused, tried once\n"
    )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://app:geheim@db1/app", "scheme is expected to be either"),
        ("postgresql://app:geh/eim@db1/app", "it has another form; are / ? # @ percent-encoded"),
    ],
)
def test_a_url_that_is_none_is_e0302_and_exit_3_without_its_password(tmp_path: Path, url: str, reason: str) -> None:
    ended = jobsd("db", "status", cwd=tmp_path, DATABASE_URL=url)

    assert ended.code == 3
    assert ended.err.startswith("error[E0302]: the database URL cannot be used: ")
    assert reason in ended.err
    assert "expected postgresql://user@host:5432/database" in ended.err
    assert "geh" not in ended.err


def test_a_database_that_is_not_there_is_e0303_and_exit_7(empty_database_url: str, tmp_path: Path) -> None:
    head, mark, query = empty_database_url.partition("?")
    url = head.rpartition("/")[0] + "/no_such_database" + mark + query

    ended = jobsd("db", "status", cwd=tmp_path, DATABASE_URL=url)

    assert ended.code == 7
    assert ended.err.startswith("error[E0303]: PostgreSQL refuses the connection")


def test_db_roles_prints_what_psql_is_to_be_given() -> None:
    ended = jobsd("db", "roles")

    assert (ended.code, ended.out) == (0, (folder() / "roles.sql").read_text())
