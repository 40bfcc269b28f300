"""What a person reads for durations, instants and states."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobsd.cli import words
from jobsd.domain.run import RunState

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def test_jobsd_is_called_by_the_path_it_was_called_by_where_no_shell_would_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "bin" / "jobsd"
    program.parent.mkdir()
    program.touch(mode=0o700)
    monkeypatch.setattr(sys, "argv", ["bin/jobsd", "demo"])

    monkeypatch.setenv("PATH", "/nowhere")
    hidden = words.called_as()
    monkeypatch.setenv("PATH", str(program.parent))
    found = words.called_as()

    assert (hidden, found) == ("bin/jobsd", "jobsd")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.35, "350 ms"),
        (0.9999, "1 s"),
        (1.24, "1.2 s"),
        (16.9, "16 s"),
        (250, "4 min 10 s"),
        (3600, "1 h"),
        (111_600, "1 day 7 h"),
        (86_405, "1 day"),
        (3 * 86_400 + 60, "3 days"),
        (-90, "-1 min 30 s"),
    ],
)
def test_a_span_is_told_in_at_most_two_units(seconds: float, text: str) -> None:
    assert words.span(seconds) == text


@pytest.mark.parametrize(
    ("ahead", "text"),
    [
        (timedelta(minutes=4, seconds=59), "in 4 min"),
        (timedelta(hours=-2, minutes=-5), "2 h ago"),
        (timedelta(seconds=4), "in 4 s"),
        (timedelta(milliseconds=300), "now"),
        (timedelta(days=-3), "3 days ago"),
    ],
)
def test_an_instant_is_told_as_its_distance_from_now(ahead: timedelta, text: str) -> None:
    assert words.relative(NOW + ahead, NOW) == text


def test_an_instant_of_the_api_is_read_in_any_zone_and_anything_else_is_none() -> None:
    assert words.instant("2026-11-22T13:00:00+01:00") == NOW
    assert words.instant("2026-11-22T12:00:00Z") == NOW
    assert words.instant("soon") is None
    assert words.instant(None) is None


def test_every_state_has_a_word_and_a_shape_of_its_own() -> None:
    shapes = [words.SHAPES[state][:2] for state in RunState]

    assert len({fancy for fancy, _ in shapes}) == len({simple for _, simple in shapes}) == len(RunState)
    assert all(simple.isascii() for _, simple in shapes)
    assert all(words.state(state).endswith(f" {state}") for state in words.SHAPES)


def test_what_a_job_says_cannot_steer_the_terminal() -> None:
    assert words.printable("a\x1b]0;owned\x07b\r\n\tc") == "a\\x1b]0;owned\\x07b\\x0d\n\tc"
    assert words.printable("\x9b31m") == "\\x9b31m"
    assert words.printable("Grüße 日本 ●") == "Grüße 日本 ●"


def test_a_cell_of_tab_separated_output_stays_one_cell_and_one_line() -> None:
    assert words.plain("a\tb\nc\\d") == "a\\tb\\nc\\\\d"
    assert words.plain(None) == ""
    assert words.plain(True) == "true"
    assert words.plain({"a": [1, None]}) == '{"a": [1, null]}'
