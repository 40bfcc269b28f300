"""Each effective value and where it came from; and no secret among them."""

import pytest

from jobsd.registry.load import load
from jobsd.registry.show import Shown, values
from tests.support.registry import Folder

FILE = """
    [http]
    host = "::1"
    [database]
    url = "postgresql://me:pa55word@db/app"
    [alerts.channels.team]
    url = "mailto://me:pa55word@example.org"
    [jobs.a]
    command = ["call", "https://me:pa55word@example.org/x"]
    env = { API_TOKEN = "pa55word", REGION = "eu", KEY = "${KEY}" }
    [environments.test.jobs.a]
    timeout = "1h"
    """


@pytest.mark.req("E12")
def test_every_value_is_shown_with_flag_variable_file_or_default(folder: Folder) -> None:
    folder.write("jobsd.toml", FILE)
    environ = {"JOBSD_ENVIRONMENT": "test", "JOB_DRY_RUN": "1", "KEY": "k3y"}

    shown = {line.key: line for line in values(load(None, environ, {"http.port": 9000}))}

    assert shown["http.port"] == Shown("http.port", 9000, "flag --port")
    assert shown["daemon.dry_run"] == Shown("daemon.dry_run", True, "environment JOB_DRY_RUN")
    assert shown["http.host"] == Shown("http.host", "::1", "jobsd.toml:2")
    assert shown["jobs.a.timeout"] == Shown("jobs.a.timeout", "1h", "jobsd.toml:11")
    assert shown["log.level"] == Shown("log.level", "info", "default")
    assert shown["jobs.a.grace"] == Shown("jobs.a.grace", "5s", "default")


def test_secrets_are_not_shown(folder: Folder) -> None:
    folder.write("jobsd.toml", FILE)

    shown = {line.key: line.value for line in values(load(None, {"KEY": "k3y-of-mine"}))}

    assert shown["database.url"] == shown["alerts.channels.team.url"] == shown["jobs.a.env.API_TOKEN"] == "***"
    assert shown["jobs.a.command"] == ["call", "https://me:***@example.org/x"]
    assert shown["jobs.a.env.REGION"] == "eu"
    assert shown["jobs.a.env.KEY"] == "${KEY}"
    assert "pa55word" not in str(shown)
    assert "k3y-of-mine" not in str(shown)
