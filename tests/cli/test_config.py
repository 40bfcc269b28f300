"""`jobsd config` tells what is configured and where it comes from; `jobsd explain`, what could be."""

import json
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from jobsd.domain.codes import CODES
from jobsd.domain.errors import Exit
from jobsd.registry import schema
from tests.support.command import jobsd

FILE = '[http]\nport = 9000\n[database]\nurl = "postgresql://me:pa55word@db/app"\n[jobs.a]\ncommand = ["true"]\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "jobsd.toml").write_text(FILE)
    return tmp_path


@pytest.mark.req("E12")
def test_show_tells_values_and_with_origin_their_places(folder: Path) -> None:
    plain = jobsd("config", "show", "http", cwd=folder)
    origin = jobsd("config", "show", "http", "--origin", cwd=folder)

    assert plain.out.split("\n")[:4] == ["key\tvalue", "http.host\t127.0.0.1", "http.port\t9000", "http.socket\t"]
    assert origin.out.split("\n")[2] == "http.port\t9000\tjobsd.toml:2"


@pytest.mark.req("E12")
def test_show_gives_json_to_programs(folder: Path) -> None:
    ended = jobsd("config", "show", "daemon.enabled", "-o", "json", cwd=folder, JOBSD_ENABLED="false")

    assert json.loads(ended.out) == [{"key": "daemon.enabled", "value": False, "origin": "environment JOBSD_ENABLED"}]


def test_show_tells_no_secret(folder: Path) -> None:
    ended = jobsd("config", "show", "--origin", cwd=folder)

    assert "database.url\t***\tjobsd.toml:4" in ended.out
    assert "pa55word" not in ended.out


def test_show_of_a_key_that_is_not_there_is_a_usage_error(folder: Path) -> None:
    ended = jobsd("config", "show", "htp", cwd=folder)

    assert ended.code == Exit.USAGE
    assert ended.err.startswith('error[E0101]: there is no key "htp"; jobsd config show lists them')


def test_path_lists_the_files_the_root_first(folder: Path) -> None:
    (folder / "jobs.d").mkdir()
    (folder / "jobs.d/b.toml").touch()
    (folder / "jobsd.toml").write_text('include = ["jobs.d/*.toml"]\n')

    assert jobsd("config", "path", cwd=folder).out == "jobsd.toml\njobs.d/b.toml\n"


def test_path_without_a_configuration_tells_where_was_looked(tmp_path: Path) -> None:
    ended = jobsd("config", "path", cwd=tmp_path, JOBSD_CONFIG="nowhere.toml")

    assert ended.code == Exit.CONFIGURATION
    assert ended.err == "error[E0202]: cannot read nowhere.toml: no such file or directory\n"


@pytest.mark.req("C1")
def test_schema_prints_a_json_schema_that_fits(folder: Path) -> None:
    printed = json.loads(jobsd("config", "schema", cwd=folder).out)

    Draft202012Validator.check_schema(printed)
    Draft202012Validator(printed).validate(tomllib.loads(FILE))
    assert printed == json.loads(json.dumps(schema.document()))


def test_every_error_code_is_explained() -> None:
    ended = jobsd("explain", "e0204", "-o", "json")

    assert json.loads(ended.out) == {"code": "E0204", "meaning": CODES["E0204"]}


def test_a_key_is_explained_with_what_it_takes_and_its_default() -> None:
    ended = jobsd("explain", "jobs.backup.schedule.missed_within")

    assert ended.out == (
        "key\tvalue\tdefault\tdescription\n"
        'jobs.NAME.schedule.missed_within\tduration\t"1h"\thow old a missed slot may be to be caught up on\n'
    )


def test_a_table_is_explained_with_its_keys() -> None:
    listed = [line.split("\t")[0] for line in jobsd("explain", "lease").out.split("\n")[1:-1]]

    assert listed == ["lease", *(f"lease.{key}" for key in schema.allowed(("lease",)))]


@pytest.mark.parametrize("table", ["jobs.NAME.schedule", "jobs.NAME", "http", "alerts.channels", ""])
def test_what_errors_point_to_is_there(table: str) -> None:
    assert jobsd("explain", *([table] if table else [])).code == Exit.OK


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("E9999", 'error[E0101]: there is no error code "E9999"\n'),
        ("jobs.a.timeot", 'error[E0101]: there is no key "jobs.a.timeot"\n  did you mean "jobs.NAME.timeout"?\n'),
    ],
)
def test_what_is_not_there_is_told_with_what_is_meant(what: str, said: str) -> None:
    ended = jobsd("explain", what)

    assert (ended.code, ended.out) == (Exit.USAGE, "")
    assert ended.err.startswith(said.rstrip("\n"))
