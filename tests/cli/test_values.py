"""How what is typed after an option is read."""

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobsd.cli import values
from jobsd.domain.errors import Exit, JobsdError

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def told(raised: pytest.ExceptionInfo[JobsdError]) -> str:
    assert raised.value.exit_code == Exit.USAGE
    return str(raised.value)


@pytest.mark.req("A6")
@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("k=7", 7),
        ("k=eu", "eu"),
        ("k=true", True),
        ("k=", ""),
        ("k=a=b", "a=b"),
        ('k="7"', "7"),
        ('k={"a": [1]}', {"a": [1]}),
        ("k=NaN", "NaN"),
        ("k=2026-11-22", "2026-11-22"),
    ],
)
def test_a_parameter_is_json_where_it_parses_and_text_elsewhere(typed: str, value: object) -> None:
    assert values.parameters([typed], None) == {"k": value}


@pytest.mark.parametrize("typed", ["days", "=7", ""])
def test_a_parameter_without_key_or_equals_sign_is_e0102(typed: str) -> None:
    with pytest.raises(JobsdError) as raised:
        values.parameters([typed], None)

    assert told(raised).startswith(f'error[E0102]: --param: expected key=value, got "{typed}"')


def test_parameters_of_a_file_are_overridden_by_typed_ones(tmp_path: Path) -> None:
    file = tmp_path / "params.toml"
    file.write_text("days = 3\nsince = 2026-11-22\nregion = 'eu'\n")

    assert values.parameters(["days=7"], str(file)) == {"days": 7, "since": "2026-11-22", "region": "eu"}


def test_parameters_come_from_standard_input_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"days": 3}'))

    assert values.parameters([], "-") == {"days": 3}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "--params: expected one object with a key for each parameter, got"),
        ("{", "--params: expected JSON, or TOML in a file named .toml, got"),
        (None, "no such file or directory"),
    ],
)
def test_a_file_that_holds_no_parameters_is_e0101(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "params.json"
    if text is not None:
        file.write_text(text)

    with pytest.raises(JobsdError) as raised:
        values.parameters([], str(file))

    assert told(raised).startswith("error[E0101]: --params:")
    assert words in told(raised)


def test_a_moment_is_an_instant_or_a_span_from_now() -> None:
    assert values.moment("--at", "2026-11-22T13:30:00+01:00", NOW) == datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
    assert values.moment("--at", "1h30m", NOW) == datetime(2026, 11, 22, 13, 30, tzinfo=UTC)


@pytest.mark.parametrize("typed", ["tomorrow", "24x", "12:30"])
def test_any_other_moment_is_e0101(typed: str) -> None:
    with pytest.raises(JobsdError) as raised:
        values.moment("--at", typed, NOW)

    assert told(raised).startswith("error[E0101]: --at: expected ")
    assert f'"{typed}"' in told(raised)
