"""`jobsd check` finds before the start what the start would find."""

import re
from pathlib import Path

import pytest

from jobsd.domain.errors import Exit
from tests.support.command import jobsd
from tests.support.pack import ROOT, install

GOOD = '[jobs.a]\ncommand = ["true"]\n[environments.test.log]\nlevel = "debug"\n'


@pytest.mark.req("C8")
def test_what_is_right_is_told_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "jobsd.toml").write_text(GOOD)

    ended = jobsd("check", "--offline", cwd=tmp_path, JOBSD_ENVIRONMENT="test")

    assert (ended.code, ended.err) == (Exit.OK, "")
    assert ended.out.split("\n") == [
        "  ok  configuration  jobsd.toml, 1 file, 1 job",
        "  ok  environment    test",
        "  ok  handlers       0 handlers",
        "  ok  packs          analytics",
        "",
    ]


@pytest.mark.req("C8")
def test_mistakes_of_files_and_handlers_come_at_once_and_no_database_is_asked(tmp_path: Path) -> None:
    (tmp_path / "jobsd.toml").write_text('[jobs.a]\nhandler = "nowhere_at_all:f"\n[http]\nport = "x"\n')

    ended = jobsd("check", cwd=tmp_path, DATABASE_URL="postgresql://127.0.0.1:1/none")

    assert (ended.code, ended.out) == (Exit.CONFIGURATION, "")
    assert ended.err == (
        'error[E0231]: handler "nowhere_at_all:f": cannot import nowhere_at_all: '
        "ModuleNotFoundError: No module named 'nowhere_at_all'\n"
        "  --> jobsd.toml:2:11\n"
        ' 2 | handler = "nowhere_at_all:f"\n'
        "   |           ^^^^^^^^^^^^^^^^^^\n"
        "  install it beside jobsd, or put its folder in PYTHONPATH\n"
        "\n"
        'error[E0205]: http.port: expected a whole number, got "x"\n'
        "  --> jobsd.toml:4:8\n"
        ' 4 | port = "x"\n'
        "   |        ^^^\n"
    )


@pytest.mark.req("C8")
def test_a_database_with_the_right_schema_is_ok(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "jobsd.toml").write_text(GOOD)

    ended = jobsd("check", cwd=tmp_path, DATABASE_URL=database_url)

    assert (ended.code, ended.err) == (Exit.OK, "")
    lines = ended.out.split("\n")
    assert lines[4] == "  ok  database       reachable"
    assert lines[5].startswith('  ok  schema         "jobsd", ')
    assert re.fullmatch(r"  ok  views          \d+ views", lines[6])


@pytest.mark.req("C8")
def test_a_view_that_the_database_does_not_take_is_told(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "jobsd.toml").write_text(GOOD)
    install(tmp_path, "shelf", "tests.support.pack:SHELF")

    ended = jobsd("check", cwd=tmp_path, DATABASE_URL=database_url, PYTHONPATH=f"{tmp_path}:{ROOT}")

    assert ended.code == Exit.CONFIGURATION
    assert ended.err.startswith('error[E0234]: view shelf.books: relation "shelf.book" does not exist\n')


@pytest.mark.req("C8")
def test_a_database_without_the_schema_is_told_with_the_command(tmp_path: Path, empty_database_url: str) -> None:
    (tmp_path / "jobsd.toml").write_text(GOOD)

    ended = jobsd("check", cwd=tmp_path, DATABASE_URL=empty_database_url)

    assert ended.code == Exit.SCHEMA
    assert ended.err.startswith("error[E0305]: the schema is ")
    assert "jobsd db migrate --dry-run    then: jobsd db migrate" in ended.err


@pytest.mark.req("C8")
def test_a_database_that_is_not_configured_or_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "jobsd.toml").write_text(GOOD)

    none = jobsd("check", cwd=tmp_path)
    away = jobsd("check", cwd=tmp_path, DATABASE_URL="postgresql://me:pa55word@127.0.0.1:1/none")

    assert none.code == Exit.CONFIGURATION
    assert none.err.startswith("error[E0301]: no database is configured\n")
    assert away.code == Exit.UNREACHABLE
    assert away.err.startswith("error[E0302]: cannot reach PostgreSQL at 127.0.0.1:1/none (user me): ")
    assert "pa55word" not in away.err


@pytest.mark.req("C6", "C8")
def test_a_channel_whose_url_no_service_knows_is_told_and_a_good_one_is_ok(tmp_path: Path) -> None:
    file = tmp_path / "jobsd.toml"
    file.write_text(GOOD + '[alerts.channels.team]\nurl = "json://127.0.0.1/hook"\n')
    good = jobsd("check", "--offline", cwd=tmp_path)
    file.write_text(GOOD + '[alerts.channels.team]\nurl = "nosuchservice://canary-token-1"\n')

    bad = jobsd("check", "--offline", cwd=tmp_path)

    assert (good.code, good.err) == (Exit.OK, "")
    assert "  ok  channels       team\n" in good.out
    assert bad.code == Exit.CONFIGURATION
    assert "error[E0227]: channel team: " in bad.err
    assert "canary-token-1" not in bad.err.split("\n", 1)[0]
