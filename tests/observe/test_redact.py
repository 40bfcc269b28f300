"""What the redactor masks, and what it leaves readable."""

from urllib.parse import quote

import pytest

from jobsd.observe.redact import Redactor, secrets_of
from jobsd.registry.settings import Settings

PASSWORD = "c4n@ry/pass word"


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://app:{quote(PASSWORD, safe='')}@db1/app",
        f"connection failed: password={PASSWORD}",
        repr({"x": PASSWORD}),
    ],
)
def test_a_known_value_is_masked_plain_url_quoted_and_in_a_literal(text: str) -> None:
    masked = Redactor([PASSWORD]).text(text)

    assert "c4n" not in masked
    assert "***" in masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://app:hunter2@db1/app", "postgresql://app:***@db1/app"),
        ("host=db1 password=hunter2 user=app", "host=db1 password=*** user=app"),
        ("host=db1 password='hunter 2'", "host=db1 password=***"),
        ('{"api_key": "abc", "n": 1}', '{"api_key": ***, "n": 1}'),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("Authorization: Basic dXNlcjpw", "Authorization: Basic ***"),
        ("sent bearer eyJhbGciOiJIUzI1NiJ9.x", "sent bearer ***"),
        ("SLACK_TOKEN=xoxb-1", "SLACK_TOKEN=***"),
        ("https://h/hook?token=abc&x=1", "https://h/hook?token=***&x=1"),
        (f"curl failed, sent jobsd_{'aB3_-' * 8}xyz.", "curl failed, sent jobsd_***."),
        ("token:abc", "token:***"),
    ],
)
def test_what_stands_where_a_secret_stands_is_masked_without_being_known(text: str, masked: str) -> None:
    assert Redactor().text(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "run 42 of daily_report failed: no such file",
        "passed 12, failed 3: pass: 12",
        "basic authentication is not supported",
        "http://127.0.0.1:8620/api/v1/jobs?limit=3",
        "lock_key=reports idempotency_key=2026-03-01",
        "total_tokens: 120",
        "disabled by token:ci-deploy for the night",
        f"jobsd_loop_last_advance_timestamp_seconds and jobsd_{'x' * 44}",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert Redactor(["s3cr3t-value"]).text(text) == text


def test_a_field_named_for_a_secret_is_masked_whatever_it_holds_and_a_count_is_not() -> None:
    fields = {
        "password": "abc",
        "db": {"url": "x", "DATABASE_URL": "y", "Authorization": ["z"]},
        "dsn": "host=x",
        "total_tokens": 120,
        "api-key": "k",
        "client_secret": "s",
        "token": None,
    }

    masked = Redactor().fields(fields)

    assert masked == {
        "password": "***",
        "db": {"url": "x", "DATABASE_URL": "***", "Authorization": "***"},
        "dsn": "***",
        "total_tokens": 120,
        "api-key": "***",
        "client_secret": "***",
        "token": None,
    }


def test_a_structure_without_end_is_cut_off() -> None:
    circle: dict[str, object] = {}
    circle["again"] = circle

    assert str(Redactor().fields(circle)).count("again") < 20


def test_the_settings_and_the_environment_name_their_secrets() -> None:
    settings = Settings.model_validate(
        {
            "database": {"url": "postgresql://app:file-canary@db1/app"},
            "alerts": {"channels": {"ops": {"url": "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops"}}},
        }
    )
    environ = {
        "DATABASE_URL": "postgresql://app:env%2Dcanary@db1/app",
        "JOBSD_TOKEN": "token-canary",
        "HOME": "/home/somebody",
    }

    redactor = Redactor(secrets_of(settings, environ))

    for secret in (
        "file-canary",
        "env-canary",
        "env%2Dcanary",
        "token-canary",
        "TIiajkdnlazkcOXrIdevi7FQ",
        "T1JJ3T3L2",
    ):
        assert secret not in redactor.text(f"it was {secret}, in /home/somebody")
    assert "/home/somebody" in redactor.text("in /home/somebody")


def test_a_libpq_string_gives_its_password() -> None:
    settings = Settings.model_validate({"database": {"url": "host=db1 password='libpq-canary' user=app"}})

    assert "libpq-canary" in secrets_of(settings, {})


def test_an_actor_is_a_name_also_where_a_token_has_it() -> None:
    fields = {"actor": "token:ci-deploy", "disabled_by": "token:ci", "token": "token:ci", "note": "token:ci"}

    shown = Redactor().fields(fields)

    assert shown == {"actor": "token:ci-deploy", "disabled_by": "token:ci", "token": "***", "note": "token:***"}


def test_what_merely_stands_where_an_actor_stands_is_masked_all_the_same() -> None:
    shown = Redactor(["swordfish"]).fields({"actor": "password=hunter2", "created_by": "it is swordfish"})

    assert shown == {"actor": "password=***", "created_by": "it is ***"}
