"""How many starts in how long, as people write it: "100/min", "5/s", "1000/h", "10/90s"."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from jobsd.domain.duration import format_duration, parse_duration

WORDS = {"s": "1s", "sec": "1s", "min": "1m", "m": "1m", "h": "1h", "hour": "1h", "d": "1d", "day": "1d"}
MOST = 10_000  # starts: each is a row
_RATE = re.compile(r"(\d{1,6})\s*/\s*(\w+)")


@dataclass(frozen=True, slots=True)
class StartRate:
    """At most `starts` within any stretch of `per`."""

    starts: int
    per: timedelta

    def __str__(self) -> str:
        return f"{self.starts}/{format_duration(self.per)}"


def parse_rate(text: object) -> StartRate:
    """Turn "100/min" into a rate. Raises `ValueError`, worded for the file's author."""
    if isinstance(text, StartRate):
        return text
    match = _RATE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        came = f'"{text}"' if isinstance(text, str) else text
        raise ValueError(f'expected a number of starts and a time, like "100/min" or "10/90s", got {came}')
    starts, per = int(match[1]), parse_duration(WORDS.get(match[2], match[2]))
    if not 1 <= starts <= MOST:
        raise ValueError(f"expected 1 to {MOST} starts, got {starts}")
    if per < timedelta(seconds=1):
        raise ValueError(f"expected at least a second, got {format_duration(per)}")
    return StartRate(starts, per)


Rate = Annotated[
    StartRate,
    BeforeValidator(parse_rate),
    PlainSerializer(str),
    WithJsonSchema({"title": "rate", "type": "string", "examples": ["100/min"]}),
]
