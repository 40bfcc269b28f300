"""What a person reads in an alert."""

from datetime import timedelta

import pytest

from jobsd.domain.alert import AlertMessage
from jobsd.observe.message import body_of, title_of
from tests.observe.events import NOW


def alert(**fields: object) -> AlertMessage:
    given: dict[str, object] = {
        "type": "JOB_FAILED",
        "fingerprint": "f",
        "summary": "daily_report: connection refused",
        "first_at": NOW,
        "last_at": NOW,
        "job": "daily_report",
        "run": 42,
    }
    return AlertMessage(**{**given, **fields})  # type: ignore[arg-type]


@pytest.mark.req("C6")
def test_a_failure_says_job_error_time_whom_to_ask_what_to_do_and_the_commands() -> None:
    one = alert(owner="data@example.org", on_failure="Safe to run again.")

    assert title_of([one]) == "jobsd: JOB_FAILED daily_report"
    assert body_of([one]).splitlines() == [
        "JOB_FAILED daily_report",
        "daily_report: connection refused",
        "Run 42, at 2026-03-01 02:30:00 UTC",
        "Owner: data@example.org",
        "What to do: Safe to run again.",
        "Look:  jobsd run show 42",
        "Retry: jobsd trigger daily_report",
    ]


@pytest.mark.req("C6")
def test_folded_ones_say_how_many_since_when_and_how_many_are_new() -> None:
    folded = alert(count=14, new=13, last_at=NOW + timedelta(minutes=14))

    assert title_of([folded]) == "jobsd: JOB_FAILED daily_report (14 times since 02:30 UTC)"
    assert "14 times since 02:30 UTC, 13 of them new. The last: run 42, at 2026-03-01 02:44:00 UTC" in body_of([folded])


def test_since_names_the_day_when_it_was_another() -> None:
    folded = alert(count=2, new=1, last_at=NOW + timedelta(days=1))

    assert "2 times since 2026-03-01 02:30:00 UTC" in title_of([folded])


def test_an_alert_of_no_job_and_no_run_offers_no_command_for_one() -> None:
    body = body_of([alert(type="HEALTH", job=None, run=None, summary="the event loop stood still for 2.0 s")])

    assert body == "HEALTH\nthe event loop stood still for 2.0 s\nAt 2026-03-01 02:30:00 UTC"


def test_a_storm_is_a_short_list_that_says_how_many_it_leaves_out() -> None:
    storm = [alert(job=f"job{n}", summary=f"job{n}: refused", run=n) for n in range(500)]

    assert title_of(storm) == "jobsd: 500 alerts, JOB_FAILED"
    lines = body_of(storm).splitlines()
    assert lines[0] == "JOB_FAILED job0: refused, run 0"
    assert "and 470 more" in lines
    assert len(lines) < 40
