"""Text and results of job code made fit to be stored, and the end that is kept of a stream."""

from datetime import UTC, date, datetime, timedelta
from enum import Enum
from pathlib import Path
from uuid import UUID

import pytest

from jobsd.engine.executors.output import Tail
from jobsd.engine.executors.words import ERROR_BYTES, UnfitResult, as_json, clean, failure


class Colour(Enum):
    RED = "red"


@pytest.mark.req("P11", "B8")
@pytest.mark.parametrize("text", ["", "plain", "é" * 30_000, 'tab\t "quoted"\n', "\U0001f600"])
def test_text_within_the_limit_stays_word_for_word(text: str) -> None:
    assert clean(text) == text


@pytest.mark.req("P11")
@pytest.mark.parametrize("letter", ["x", "é", "\U0001f600", "\ud800", "\0"])
@pytest.mark.fault(28, 29)
def test_text_of_any_kind_becomes_storable_and_bounded(letter: str) -> None:
    cleaned = clean("begin " + letter * 5_000_000 + " end")

    assert len(cleaned.encode()) <= ERROR_BYTES + 100
    assert "\0" not in cleaned
    assert cleaned.startswith("begin ")
    assert cleaned.endswith(" end")
    assert "are left out …]" in cleaned


@pytest.mark.req("B8")
def test_an_error_names_its_causes() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner
    except ValueError as error:
        failed = failure(error)

    assert failed.kind == "ValueError"
    assert failed.error.startswith("ValueError: outer\n\nTraceback")
    assert "KeyError: 'inner'" in failed.error
    assert "direct cause" in failed.error


@pytest.mark.req("C2")
def test_what_has_one_meaning_as_json_is_written_so() -> None:
    value = {
        "at": datetime(2026, 3, 1, tzinfo=UTC),
        "day": date(2026, 3, 1),
        "id": UUID(int=1),
        "path": Path("a/b"),
        "colour": Colour.RED,
        "pair": (1, 2.5),
        "text": "\\u0000 as written",
        1: None,
    }

    assert as_json(value) == {
        "at": "2026-03-01T00:00:00+00:00",
        "day": "2026-03-01",
        "id": "00000000-0000-0000-0000-000000000001",
        "path": "a/b",
        "colour": "red",
        "pair": [1, 2.5],
        "text": "\\u0000 as written",
        "1": None,
    }


@pytest.mark.req("C2")
@pytest.mark.parametrize("value", [timedelta(1), {1, 2}, 1j, iter([]), {(1, 2): 3}, "\\\0"])
def test_what_has_none_is_refused_and_not_guessed(value: object) -> None:
    with pytest.raises(UnfitResult):
        as_json(value)


@pytest.mark.req("P11")
@pytest.mark.parametrize("size", [1, 7, 100, 5000])
def test_the_end_of_a_stream_is_kept_however_it_is_cut_into_pieces(size: int) -> None:
    stream = b"".join(b"%06d\n" % n for n in range(2000))
    tail = Tail(700)

    for start in range(0, len(stream), size):
        tail.add(stream[start : start + size])

    assert tail.total == 14_000
    assert tail.text() == "[… 13300 bytes before this were dropped]\n" + stream[-700:].decode()
    assert tail.last_lines(2, 100) == "001998\n001999"


@pytest.mark.req("P11")
def test_nothing_is_kept_where_nothing_is_to_be() -> None:
    tail = Tail(0)

    tail.add(b"secret")

    assert tail.text() == "[… 6 bytes before this were dropped]\n"
