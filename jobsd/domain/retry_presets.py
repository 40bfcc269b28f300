"""Retries that are declared by a name instead of a table: `retry = "queue"`."""

from collections.abc import Mapping
from typing import Any

QUEUE: Mapping[str, Any] = {"attempts": 3, "backoff": "exponential", "base": "2s", "cap": "30s"}  # 2^n s, at most 30 s
RETRIES_UP_TO = ((2, 3), (7, 2), (9, 1))  # critical: 3; high and medium: 2; low: 1
PRESETS = ("by-priority", "queue")


def spelt_out(name: str, priority: int) -> Mapping[str, Any]:
    """The table that a preset stands for. `priority` is 0 (first) to 9 (last). Raises `ValueError` for no preset."""
    match name:
        case "by-priority":
            return {"attempts": next(retries for last, retries in RETRIES_UP_TO if priority <= last)}
        case "queue":
            return QUEUE
    raise ValueError(f'expected a table such as {{ attempts = 3 }}, "by-priority" or "queue", got "{name}"')
