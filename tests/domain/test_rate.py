"""Rates of starts: how they are written, and what is refused."""

from datetime import timedelta

import pytest

from jobsd.domain.job import JobDefinition
from jobsd.domain.rate import StartRate, parse_rate

pytestmark = pytest.mark.req("F1")


@pytest.mark.parametrize(
    ("text", "starts", "per_s"),
    [("100/min", 100, 60), ("5/s", 5, 1), ("1000 / h", 1000, 3600), ("10/90s", 10, 90), ("1/day", 1, 86400)],
)
def test_a_rate_is_a_number_of_starts_in_a_time(text: str, starts: int, per_s: int) -> None:
    assert parse_rate(text) == StartRate(starts, timedelta(seconds=per_s))


def test_a_rate_is_written_as_it_is_read() -> None:
    rate = parse_rate("90/90s")

    assert parse_rate(str(rate)) == rate


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("often", "expected a number of starts and a time"),
        (5, "got 5"),
        ("0/min", "expected 1 to 10000 starts, got 0"),
        ("20000/min", "got 20000"),
        ("5/500ms", "expected at least a second, got 500ms"),
        ("5/fortnight", "expected a number and a unit"),
    ],
)
def test_what_is_no_rate_is_refused_in_words_for_its_author(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_rate(value)


def test_a_definition_writes_its_rate_as_text() -> None:
    job = JobDefinition.model_validate({"name": "a", "command": ["true"], "rate": "100/min"})

    assert job.model_dump(mode="json")["rate"] == "100/1m"
