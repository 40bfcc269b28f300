"""The name that excludes: a job's lock key, its template filled in with a run's parameters. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

MOST_CHARS = 500  # what fits an index entry of PostgreSQL in any alphabet, with room to spare
SEAT = "seat:"  # begins the names of places that concurrency limits hand out
_FIELD = re.compile(r"\{([^{}]*)\}")


def lock_key_of(template: str | None, params: Mapping[str, Any]) -> str | None:
    """Fill `template` in ("course:{course_id}"); None when every run is its own key.

    Text goes in as it is, everything else as JSON. Raises `ValueError`, worded for the one who gave the parameters.
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
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
