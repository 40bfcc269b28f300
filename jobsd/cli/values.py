"""Reads what is typed after an option: key=value pairs, instants, spans of time; or says what was expected."""

import json
import sys
import tomllib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from jobsd.domain.errors import Exit, JobsdError, problem


def parameters(pairs: Iterable[str], file: str | None) -> dict[str, Any]:
    """The parameters of a run: those of `file` first, then each `key=value`."""
    given = _from_file(file) if file else {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise problem(
                "E0102",
                f'--param: expected key=value, got "{pair}"',
                "a value is JSON where it parses, else text: --param days=7 --param region=eu --param since='\"2024\"'",
                exit_code=Exit.USAGE,
            )
        given[key] = parsed(value)
    return given


def parsed(value: str) -> Any:
    """JSON where it parses, else the text itself: 7, true, [1, 2] and "7" are what they look like, eu is text."""
    try:
        return json.loads(value, parse_constant=_no_constant)
    except ValueError:
        return value


def _no_constant(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are not JSON: they stay text


def _from_file(file: str) -> dict[str, Any]:
    """A JSON or TOML file, or JSON from standard input for "-"."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        found = tomllib.loads(text) if file.endswith(".toml") else json.loads(text)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise unfit("--params", f"a file that can be read, got {file}: {why}") from error
    except ValueError as error:
        raise unfit("--params", f"JSON, or TOML in a file named .toml, got {file}: {error}") from error
    if not isinstance(found, dict):
        raise unfit("--params", f"one object with a key for each parameter, got {file} with {type(found).__name__}")
    return json_ready(found)


def lines(option: str, file: str) -> list[dict[str, Any]]:
    """The objects of a file with one JSON object a line, or of standard input for "-"; empty lines are none."""
    try:
        texts = (sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise unfit(option, f"a file that can be read, got {file}: {why}") from error
    return [_object(option, file, number, text) for number, text in enumerate(texts, 1) if text.strip()]


def _object(option: str, file: str, number: int, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise unfit(option, f"one JSON object a line, got line {number} of {file}: {error}") from error
    if not isinstance(found, dict):
        raise unfit(option, f"one JSON object a line, got line {number} of {file} with {type(found).__name__}")
    return found


def tag(pair: str) -> tuple[str, str]:
    """ "language:fr"."""
    name, colon, value = pair.partition(":")
    if not colon or not name:
        raise unfit("--tag", f'NAME:VALUE, like language:fr, got "{pair}"')
    return name, value


def json_ready(value: dict[str, Any]) -> dict[str, Any]:
    """TOML knows dates and times; JSON carries them as ISO text."""
    ready: dict[str, Any] = json.loads(json.dumps(value, default=lambda at: at.isoformat()))
    return ready


def duration(option: str, text: str) -> timedelta:
    """ "90s", "24h", "7d"."""
    from jobsd.domain.duration import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise unfit(option, str(error).removeprefix("expected ")) from error


def moment(option: str, text: str, now: datetime) -> datetime:
    """An ISO instant (without a zone: this machine's), or a span from now: 15m."""
    if text[:1].isdigit() and text[-1:].isalpha() and not text.endswith("Z"):
        return now + duration(option, text)
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError as error:
        raise unfit(option, f'an instant like 2026-11-22T02:30:00+01:00, or a span like 15m, got "{text}"') from error


def past(option: str, text: str, now: datetime) -> datetime:
    """An ISO instant (without a zone: this machine's), or how long ago: 7d."""
    if text[:1].isdigit() and text[-1:].isalpha() and not text.endswith("Z"):
        return now - duration(option, text)
    return moment(option, text, now)


def unfit(option: str, expected: str) -> JobsdError:
    return problem("E0101", f"{option}: expected {expected}", exit_code=Exit.USAGE)
