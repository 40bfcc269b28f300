"""The JSON Schema agrees with the loader, and the shipped files with both."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from jobsd.domain.job import JobDefinition
from jobsd.handlers import check_handlers
from jobsd.registry import schema
from jobsd.registry.load import load
from jobsd.registry.settings import Settings

CONFIG = Path(__file__).resolve().parents[2] / "config"
SHIPPED = sorted(CONFIG.rglob("*.toml"))


def complaints(document: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(schema.document()).iter_errors(document)]


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(schema.document())


@pytest.mark.req("C1")
@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: str(file.relative_to(CONFIG)))
def test_a_shipped_file_fits_the_schema(file: Path) -> None:
    assert complaints(tomllib.loads(file.read_text())) == []


@pytest.mark.req("C1", "C8")
@pytest.mark.parametrize("environment", [{}, {"JOBSD_ENVIRONMENT": "demo"}], ids=["none", "demo"])
@pytest.mark.parametrize("name", ["jobsd.toml", "dev/jobsd.toml", "demo/jobsd.toml"])
def test_a_shipped_configuration_loads_with_its_handlers(name: str, environment: dict[str, str]) -> None:
    chosen = environment if name.startswith("demo/") else {}

    registry = load(CONFIG / name, chosen, also=check_handlers)

    assert registry.jobs


@pytest.mark.parametrize(
    "text",
    [
        '[jobs.a]\ncommand = ["true"]\ncrn = 1',
        '[jobs.a]\ncommand = ["true"]\nsql = "SELECT 1"',
        "[jobs.a]\ndescription = 'no work'",
        '[jobs.a]\ncommand = ["true"]\ntimeout = "90"',
        '[jobs.a]\ncommand = ["true"]\npriority = "urgent"',
        '[jobs.a]\ncommand = ["true"]\nschedule = { missed = "never" }',
        '[jobs."a b"]\ncommand = ["true"]',
        "[http]\nport = 70000",
        "[daemon]\nslots = 'many'",
        "[nothing]",
        "[environments.test.jobs.a]\ncrn = 1",
        '[database]\nurl = { path = "x" }',
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(text: str) -> None:
    assert complaints(tomllib.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        '[database]\nurl = { file = "x" }\ndirect_url = { credential = "x" }',
        '[jobs.a]\ncommand = ["true"]\nenv = { A = { credential = "x" }, B = "b" }',
        '[jobs.a]\nhttp = { url = "http://x/", headers = { A = { file = "x" } }, body = { b = 1 } }',
        "[environments.test.jobs.a]\ntimeout = '1h30m'",
        '[jobs.a]\ncommand = ["true"]\ntimeout = "${LIMIT}"\noutput = "64KiB"\npriority = 3',
        '[jobs.a]\nsql = "SELECT 1"\nschedule = { every = "1h", starts = 2026-01-01T00:00:00Z, blackout = [] }',
        "[alerts.channels.team]\nurl = 'mailto://x'",
    ],
)
def test_the_schema_takes_what_the_loader_takes(text: str) -> None:
    document = tomllib.loads(text, parse_float=float)
    dates = {"starts": "2026-01-01T00:00:00Z"}  # JSON has no dates; editors hand them over as text
    for job in document.get("jobs", {}).values():
        job.get("schedule", {}).update({key: value for key, value in dates.items() if key in job.get("schedule", {})})

    assert complaints(document) == []


def test_every_key_is_described() -> None:
    assert [key.path for key in schema.every_key() if not key.description] == []


def test_every_field_of_the_models_is_a_key() -> None:
    known = {key.path for key in schema.every_key()}

    for name, field in JobDefinition.model_fields.items():
        assert name == "name" or f"jobs.NAME.{field.alias or name}" in known
    for table, field in Settings.model_fields.items():
        for name, inner in field.annotation.model_fields.items():  # type: ignore[union-attr]
            assert f"{table}.{inner.alias or name}" in known


def test_the_shipped_configuration_names_every_setting_with_its_default() -> None:
    """A key without a default, or with one that depends on the machine, stands behind a comment sign."""
    text = (CONFIG / "jobsd.toml").read_text()
    document = tomllib.loads(text)
    commented = {line.removeprefix("# ").split(" ")[0] for line in text.split("\n") if line.startswith("# ")}
    settings = Settings.model_validate({key: value for key, value in document.items() if key != "include"})

    assert settings == Settings()
    for key in schema.every_key():
        table, _, name = key.path.partition(".")
        if table in document and name and "NAME" not in name and key.kind != "table":
            assert name in document[table] or name in commented, key.path


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("jobs.backup.schedule.cron", "jobs.NAME.schedule.cron"),
        ("environments.test.jobs.backup.timeout", "jobs.NAME.timeout"),
        ("jobs.a.schedule.blackout[2].from", "jobs.NAME.schedule.blackout[].from"),
        ("alerts.channels.team.url", "alerts.channels.NAME.url"),
        ("http.port", "http.port"),
    ],
)
def test_a_key_of_a_file_is_found_by_its_general_name(key: str, found: str) -> None:
    assert schema.generic(key) == found
    assert found in {one.path for one in schema.every_key()}
