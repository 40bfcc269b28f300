"""Secrets that jobs repeat, masked before they are stored: whoever reads the database is told no more than others."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jobsd.domain.outcome import Completed, Failed, Interrupted, Lost, Outcome, TimedOut, Usage

Mask = Callable[[str], str]  # a text without the secrets that are known


def masked(outcome: Outcome, mask: Mask) -> Outcome:
    """`outcome` with every text of it masked: error or reason, result, output."""
    match outcome:
        case Lost():
            return outcome  # our own words
        case Completed(None, usage) if usage.output is None:
            return outcome
        case Completed(result, usage):
            return Completed(_json(result, mask), _usage(usage, mask))
        case Failed() | TimedOut():
            return replace(outcome, error=mask(outcome.error), usage=_usage(outcome.usage, mask))
        case Interrupted():
            return replace(outcome, usage=_usage(outcome.usage, mask))
        case _:
            return replace(outcome, reason=mask(outcome.reason), usage=_usage(outcome.usage, mask))


def _usage(usage: Usage, mask: Mask) -> Usage:
    return usage if usage.output is None else replace(usage, output=mask(usage.output))


def _json(value: Any, mask: Mask) -> Any:
    """A JSON value; its depth is bounded by what `as_json` takes."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {mask(key): _json(inner, mask) for key, inner in value.items()}
    if isinstance(value, list):
        return [_json(inner, mask) for inner in value]
    return value
