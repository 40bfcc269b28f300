"""The name that excludes: a job's lock key, its template filled in with a run's parameters. Pure.

`jobsd.lock_key_of` in sql/core/0003_enqueue.sql does the same for what is asked for in SQL; a test compares the two.
"""

import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import orjson

MOST_CHARS = 500  # what fits an index entry of PostgreSQL in any alphabet, with room to spare
SEAT = "seat:"  # begins the names of places that concurrency limits hand out
_FIELD = re.compile(r"\{([^{}]*)\}")


def lock_key_of(template: str | None, params: Mapping[str, Any]) -> str | None:
    """Fill `template` in ("course:{course_id}"); None when every run is its own key.

    Text goes in as it is, everything else as JSON; 1, 1.0 and 1e0 are one number. Raises `ValueError`, worded for the
    one who gave the parameters.
    """
    if template is None or "{run_id}" in template:
        return None
    key = _FIELD.sub(lambda field: _value(field[1], params), template)
    if len(key) > MOST_CHARS:
        raise ValueError(
            f'the lock key "{template}" would have {len(key)} characters, at most {MOST_CHARS} are allowed'
        )
    if key.startswith(SEAT):
        raise ValueError(f'a lock key cannot begin with "{SEAT}"; "{template}" became "{key[:80]}"')
    return key


def fields(template: str) -> Iterator[tuple[str, int, int]]:
    """The parameters that `template` names, each with the offset and width of its braces."""
    for field in _FIELD.finditer(template):
        yield field[1], field.start(), len(field[0])


def _value(field: str, params: Mapping[str, Any]) -> str:
    if params.get(field) is None:
        raise ValueError(f'the job\'s lock key needs the parameter "{field}"')
    value = params[field]
    return value if isinstance(value, str) else _canonical(value)


def _canonical(value: Any) -> str:
    """JSON without spaces, its names in the order of their bytes."""
    match value:
        case dict():
            return "{" + ",".join(f"{_text(name)}:{_canonical(value[name])}" for name in sorted(value)) + "}"
        case list() | tuple():
            return "[" + ",".join(map(_canonical, value)) + "]"
        case bool() | str() | None:
            return _text(value)
        case int() if -(2**63) <= value < 2**64:
            return str(value)
        case int() | float():
            return _plain(float(value))
        case _:
            return _text(value)


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()


def _plain(number: float) -> str:
    """Without exponent and trailing zeros."""
    if not math.isfinite(number):
        raise ValueError("a lock key cannot be made of a number that is not finite")
    digits = format(Decimal(repr(number)), "f")
    return digits.rstrip("0").rstrip(".") if number and "." in digits else digits if number else "0"
