"""What differs from place to place: environments, variables, secrets. And that no secret is told."""

from datetime import timedelta

import pytest

from jobsd.registry.load import Registry, load
from tests.support.registry import Folder

BASE = """
    [log]
    level = "info"
    [database]
    pool = 4
    schema = "jobs"
    [jobs.a]
    command = ["true"]
    timeout = "1m"
    schedule = { cron = "0 * * * *", timezone = "Europe/Berlin", jitter = "5s" }
    params = { region = "eu", size = 1 }
    [environments.production]
    log.level = "warning"
    database = { pool = 10 }
    [environments.production.jobs.a]
    timeout = "1h"
    enabled = false
    params = { size = 2 }
    [environments.test.jobs.a]
    schedule = { every = "10s" }
    sql = "SELECT 1"
    """


@pytest.mark.req("E12")
def test_an_environment_lies_over_settings_and_jobs_key_by_key(folder: Folder) -> None:
    registry = folder.load(BASE, JOBSD_ENVIRONMENT="production")

    job, settings = registry.jobs["a"], registry.settings
    assert registry.environment == "production"
    assert (settings.log.level, settings.database.pool, settings.database.schema_name) == ("warning", 10, "jobs")
    assert (job.timeout, job.enabled, job.command) == (timedelta(hours=1), False, ("true",))
    assert job.params == {"region": "eu", "size": 2}


@pytest.mark.req("E12")
def test_without_an_environment_the_files_hold_as_they_are(folder: Folder) -> None:
    registry = folder.load(BASE)

    assert registry.environment is None
    assert registry.jobs["a"].timeout == timedelta(minutes=1)
    assert registry.settings.log.level == "info"


@pytest.mark.req("E12")
def test_another_kind_of_work_or_schedule_takes_the_place_of_the_first(folder: Folder) -> None:
    job = folder.load(BASE, JOBSD_ENVIRONMENT="test").jobs["a"]

    assert (job.kind, job.command, job.sql) == ("sql", None, "SELECT 1")
    assert job.schedule is not None
    assert (job.schedule.every, job.schedule.cron) == (timedelta(seconds=10), None)
    assert job.schedule.jitter == timedelta(seconds=5)


@pytest.mark.req("E12")
def test_an_environment_that_is_not_declared_is_told_with_those_that_are(folder: Folder) -> None:
    assert folder.mistakes(BASE, JOBSD_ENVIRONMENT="prodction") == (
        'error[E0222]: JOBSD_ENVIRONMENT: there is no environment "prodction".  did you mean "production"?\n'
        "  declared are: production, test"
    )
    assert folder.mistakes("[log]\n", JOBSD_ENVIRONMENT="test") == (
        'error[E0222]: JOBSD_ENVIRONMENT: there is no environment "test".\n  declare it as [environments.test]'
    )


@pytest.mark.req("E12", "C8")
def test_mistakes_in_other_environments_are_told_as_well(folder: Folder) -> None:
    said = folder.mistakes("""
        [jobs.a]
        command = ["true"]
        [environments.production]
        database = { url = { credential = "db" }, pool = 1000 }
        [environments.production.jobs.a]
        timeout = "${LIMIT}"
        schedule = { cron = "0 25 * * *" }
        [environments.production.jobs.b]
        enabled = false
        """)

    assert [line for line in said.split("\n") if line.startswith(("error", "  -->"))] == [
        "error[E0205]: database.pool: expected at most 100, got 1000",
        "  --> jobsd.toml:4:50",
        'error[E0211]: cron: hour must be 0-23, not "25"',
        "  --> jobsd.toml:7:24",
        'error[E0217]: there is no job "b"',
        "  --> jobsd.toml:8:31",
    ]


@pytest.mark.req("E12", "A8")
def test_variables_of_the_process_go_over_the_files(folder: Folder) -> None:
    folder.write("jobsd.toml", '[daemon]\nenabled = true\n[database]\nurl = "postgresql:///file"\n')

    registry = folder.load(DATABASE_URL="postgresql:///variable", JOBSD_ENABLED="false", JOB_DRY_RUN="1")

    assert url_of(registry) == "postgresql:///variable"
    assert registry.settings.daemon.enabled is False
    assert registry.settings.daemon.dry_run is True


@pytest.mark.req("E12")
def test_flags_go_over_variables(folder: Folder) -> None:
    folder.write("jobsd.toml", "[http]\nport = 1\n")

    registry = load(
        None, {"DATABASE_URL": "postgresql:///variable"}, {"http.port": 2, "database.url": "postgresql:///flag"}
    )

    assert registry.settings.http.port == 2
    assert url_of(registry) == "postgresql:///flag"


def test_a_switch_is_yes_or_no(folder: Folder) -> None:
    assert folder.mistakes("[log]\n", JOBSD_ENABLED="maybe") == (
        'error[E0205]: JOBSD_ENABLED: expected 1 or 0, true or false, got "maybe"'
    )


@pytest.mark.req("E12")
def test_variables_are_filled_into_strings(folder: Folder) -> None:
    registry = folder.load(
        """
        [http]
        port = "${PORT:-9000}"
        [jobs.a]
        command = ["echo", "${GREETING} ${GREETING}", "${EMPTY:-nobody}", "$${HOME}", "$HOME"]
        timeout = "${MINUTES}m"
        """,
        GREETING="hello",
        EMPTY="",
        MINUTES="5",
    )

    assert registry.jobs["a"].command == ("echo", "hello hello", "nobody", "${HOME}", "$HOME")
    assert registry.jobs["a"].timeout == timedelta(minutes=5)
    assert registry.settings.http.port == 9000


def test_a_variable_that_is_not_set_is_told(folder: Folder) -> None:
    assert folder.mistakes('[jobs.a]\ncommand = ["echo", "${GREETING}"]\n') == (
        "error[E0209]: jobs.a.command[1]: the variable GREETING is not set\n"
        "  --> jobsd.toml:2:20\n"
        ' 2 | command = ["echo", "${GREETING}"]\n'
        "   |                    ^^^^^^^^^^^^^\n"
        "  set it, or give a default: ${GREETING:-…}"
    )


def test_a_variable_without_a_name_is_told(folder: Folder) -> None:
    said = folder.mistakes('[jobs.a]\ncommand = ["${}", "${2x}"]\n').split("\n")

    wanted = "expected ${NAME} or ${NAME:-default}; $${ stands for ${ itself"
    assert said[0] == f"error[E0205]: jobs.a.command[0]: {wanted}"
    assert said[4] == f"error[E0205]: jobs.a.command[1]: {wanted}"


@pytest.mark.req("C8")
def test_a_variable_of_the_file_need_not_be_set_when_the_process_says_otherwise(folder: Folder) -> None:
    registry = folder.load('[database]\nurl = "${NOT_SET}"\n', DATABASE_URL="postgresql:///x")

    assert url_of(registry) == "postgresql:///x"


def test_a_secret_is_read_from_its_file_beside_the_configuration(folder: Folder) -> None:
    folder.write("secrets/db", "postgresql:///secret\n").chmod(0o600)

    registry = folder.load('[database]\nurl = { file = "secrets/db" }\n')

    assert url_of(registry) == "postgresql:///secret"


def test_a_secret_is_read_from_a_systemd_credential(folder: Folder) -> None:
    folder.write("credentials/token", "s3cret-token")

    registry = folder.load(
        '[jobs.a]\nhttp = { url = "http://x/", headers = { Authorization = { credential = "token" } } }\n',
        CREDENTIALS_DIRECTORY=str(folder.path / "credentials"),
    )

    http = registry.jobs["a"].http
    assert http is not None
    assert http.headers == {"Authorization": "s3cret-token"}
    assert registry.secrets == {"s3cret-token"}


def test_a_secret_file_that_anyone_can_read_is_refused(folder: Folder) -> None:
    folder.write("db", "postgresql:///secret").chmod(0o644)

    assert folder.mistakes('[database]\nurl = { file = "db" }\n') == (
        "error[E0225]: database.url: anyone can read db (mode 0644)\n"
        "  --> jobsd.toml:2:7\n"
        ' 2 | url = { file = "db" }\n'
        "   |       ^^^^^^^^^^^^^^^\n"
        "  chmod 600 db"
    )


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ('{ file = "nowhere" }', "error[E0202]: database.url: cannot read nowhere: no such file or directory"),
        (
            '{ credential = "db" }',
            'error[E0205]: database.url: credential "db" is not there: CREDENTIALS_DIRECTORY is not set',
        ),
        (
            '{ path = "db" }',
            'error[E0205]: database.url: expected text, { file = "PATH" } or { credential = "NAME" }',
        ),
    ],
)
def test_a_secret_that_cannot_be_had_is_told(folder: Folder, secret: str, said: str) -> None:
    assert folder.mistakes(f"[database]\nurl = {secret}\n").split("\n")[0] == said


def test_a_credential_cannot_lead_out_of_its_folder(folder: Folder) -> None:
    said = folder.mistakes(
        '[database]\nurl = { credential = "../jobsd.toml" }\n', CREDENTIALS_DIRECTORY=str(folder.path / "credentials")
    )

    assert said.startswith('error[E0205]: database.url: expected a credential\'s name, got "../jobsd.toml"')


@pytest.mark.req("E12")
def test_the_public_definition_has_what_the_file_says_instead_of_secrets(folder: Folder) -> None:
    folder.write("key", "k3y-in-a-file").chmod(0o600)
    registry = folder.load(
        """
        [jobs.a]
        command = ["call", "--token=${TOKEN}"]
        timeout = "${LIMIT}"
        env = { KEY = { file = "key" } }
        params = { nested = { tokens = ["${TOKEN}"] } }
        """,
        TOKEN="t0ken-in-a-variable",
        LIMIT="5m",
    )

    job = registry.jobs["a"]
    assert job.command == ("call", "--token=t0ken-in-a-variable")
    assert job.public()["command"] == ["call", "--token=${TOKEN}"]
    assert job.public()["env"] == {"KEY": '{ file = "key" }'}
    assert job.public()["params"] == {"nested": {"tokens": ["${TOKEN}"]}}
    assert job.public()["timeout"] == "5m"
    assert type(job).model_validate(job.public()).timeout == job.timeout
    assert registry.secrets == {"t0ken-in-a-variable", "k3y-in-a-file"}


def test_a_value_that_a_variable_has_filled_in_is_not_told_when_it_is_wrong(folder: Folder) -> None:
    said = folder.mistakes('[jobs.a]\ncommand = ["true"]\ntimeout = "${SECRET}"\n', SECRET="hunter2")

    assert 'jobs.a.timeout: expected a number and a unit, like "90s", "15m" or "1h30m", got "${SECRET}"' in said
    assert "hunter2" not in said


def url_of(registry: Registry) -> str:
    url = registry.settings.database.url
    return url.get_secret_value() if url else ""
