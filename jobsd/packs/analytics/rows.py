"""Events as they are: one JSON object a line, or one CSV row each. The formats for platforms of one's own."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    ValidationError,
)

from jobsd.packs.analytics.event import KIND, BadRow, Event, score_of
from jobsd.packs.analytics.files import Source

NEEDED = ("course_id", "learner_id", "kind", "occurred_at")
OPTIONAL = ("id", "score", "value")

T = TypeVar("T")


FIRST, BEYOND = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)  # as the table has it


def _written(value: object) -> object:
    """A number of seconds since some epoch is not taken for an instant: nobody could tell which epoch and unit."""
    if not isinstance(value, str):
        raise ValueError('expected an instant with its offset, like "2026-01-31T12:00:00Z"')  # noqa: TRY004 - pydantic's
    return value


def _within_reason(at: datetime) -> datetime:
    if not FIRST <= at < BEYOND:
        raise ValueError(f"expected an instant from {FIRST.year} to {BEYOND.year - 1}")
    return at


Instant = Annotated[AwareDatetime, BeforeValidator(_written), AfterValidator(_within_reason)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Row(BaseModel):
    """What a row may hold. Without an `id` the row itself is its key: two equal rows are one event."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True, hide_input_in_errors=True)
    course_id: Name
    learner_id: Name
    kind: str = Field(pattern=f"^{KIND.pattern}$")
    occurred_at: Instant
    id: Name | None = None
    score: StrictInt | StrictFloat | None = None
    value: dict[str, Any] = {}

    def event(self) -> Event:
        value = self.value if self.score is None else {**self.value, "score": self.score}
        _check(value)
        key = f"id/{self.id}" if self.id else f"row/{self._digest(value)}"
        return Event(key, self.course_id, self.learner_id, self.kind, value, self.occurred_at)

    def _digest(self, value: Mapping[str, object]) -> str:
        whole = [self.course_id, self.learner_id, self.kind, self.occurred_at.timestamp(), value]
        return hashlib.sha256(orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _check(value: Mapping[str, object]) -> None:
    """Refuse here, with its line, what the table would refuse without one."""
    score = value.get("score", 0)
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 100:
        raise BadRow("expected a score from 0 to 100")
    if b"\\u0000" in orjson.dumps(value).replace(b"\\\\", b""):
        raise BadRow("value: PostgreSQL cannot store the character U+0000")


class JsonLines:
    """Reads files of one JSON object a line; empty lines are passed over."""

    suffix = ".jsonl"

    def __init__(self, files: Sequence[Path]) -> None:
        self.paths = list(files)

    def events(self, source: Source) -> Iterator[Event | BadRow]:
        for line in source.lines():
            if line.strip():
                yield _event(_object, line)


class CsvRows:
    """Reads CSV files with a header; a column `score` goes into the event's value."""

    suffix = ".csv"

    def __init__(self, files: Sequence[Path]) -> None:
        self.paths = list(files)

    def events(self, source: Source) -> Iterator[Event | BadRow]:
        for row in source.table(NEEDED, OPTIONAL):
            yield row if isinstance(row, BadRow) else _event(_fields, row)


def _event(fields_of: Callable[[T], object], raw: T) -> Event | BadRow:
    try:
        return Row.model_validate(fields_of(raw)).event()
    except BadRow as bad:
        return bad
    except ValidationError as error:
        wrong = [f"{each['loc'][0]}: {each['msg'].removeprefix('Value error, ')}" for each in error.errors()]
        return BadRow("; ".join(dict.fromkeys(wrong)))


def _object(line: str) -> object:
    """The object of a line. What stands in a line that is none is not repeated: it may be the wrong file."""
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadRow(f"not valid JSON: {error.msg} (column {error.colno})") from error
    if not isinstance(fields, dict):
        raise BadRow("expected a JSON object")
    return fields


def _fields(row: Sequence[str]) -> object:
    fields: dict[str, object] = {name: text for name, text in zip((*NEEDED, *OPTIONAL), row, strict=True) if text}
    if score := fields.pop("score", None):
        fields["score"] = score_of(str(score))
    if value := fields.pop("value", None):
        fields["value"] = _object(str(value))
    return fields
