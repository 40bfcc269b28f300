"""Durations and sizes as people write them: "90s", "1h30m", "90d"; "64MiB"."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 1000, "MB": 10**6, "GB": 10**9}
LONGEST = timedelta(days=36500)
_PART = re.compile(r"(\d+)(ms|[smhdw])")
_SIZE = re.compile(r"(\d+)(B|[KMG]iB|[kMG]B)")


def parse_duration(text: object) -> timedelta:
    """Turn "90s", "15m", "1h30m" or "90d" into a timedelta. Raises `ValueError`, worded for the file's author."""
    if isinstance(text, timedelta):
        return text
    parts = _PART.findall(text) if isinstance(text, str) else []
    if not parts or "".join(n + unit for n, unit in parts) != text:
        raise ValueError(f'expected a number and a unit, like "90s", "15m" or "1h30m", got {_quoted(text)}')
    seconds: float = sum(int(n) * UNITS[unit] for n, unit in parts)
    if seconds > LONGEST.total_seconds():
        raise ValueError(f"expected at most {LONGEST.days}d, got {_quoted(text)}")
    return timedelta(seconds=seconds)


def format_duration(span: timedelta) -> str:
    """Write a timedelta the way `parse_duration` reads it: "1h30m", "90d", "1500ms". Negative ones get a minus sign."""
    ms = round(span.total_seconds() * 1000)
    if ms < 0:
        return "-" + format_duration(-span)
    if ms % 1000:
        return f"{ms}ms"
    parts, seconds = [], ms // 1000
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= size:
            parts.append(f"{seconds // size}{unit}")
            seconds %= size
    return "".join(parts) or "0s"


def parse_size(text: object) -> int:
    """Turn "64MiB", "10kB" or a plain number into bytes. Raises `ValueError`, worded for the file's author."""
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise ValueError(f'expected a size, like "64MiB", got {_quoted(text)}')
    return int(match[1]) * SIZES[match[2]]


_SPAN = r"^([1-9][0-9]{0,2}[smhdw]){1,3}$"


def parse_span(text: object) -> timedelta:
    """Turn "90d" or "1h30m" into a timedelta that is neither 0 nor centuries. Raises `ValueError` likewise."""
    if isinstance(text, str) and not re.fullmatch(_SPAN, text):
        raise ValueError(f'expected a number and a unit, like "90d" or "1h30m", got {_quoted(text[:50])}')
    return parse_duration(text)


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "title": "duration", "pattern": rf"^({_PART.pattern})+$|\$\{{"}),
]
Span = Annotated[
    timedelta,
    BeforeValidator(parse_span),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"title": "span", "type": "string", "pattern": _SPAN, "examples": ["90d", "1h30m"]}),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "title": "size",
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": rf"^{_SIZE.pattern}$|\$\{{"},
            ],
        }
    ),
]
