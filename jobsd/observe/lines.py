"""How a log line looks: JSON for machines, aligned words for a terminal. One event is one line, whatever is in it."""

from collections.abc import Mapping
from typing import Any

import orjson

from jobsd.domain.visible import in_json, visible

LONGEST = 8_000  # characters of one text in a line; journald cuts lines at 48 KiB
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "31;1"}
_BLOCKS = ("error", "stack", "traceback")  # shown below the line if they have several lines


def json_line(fields: Mapping[str, Any]) -> str:
    """One JSON object: at, level and event first. Control and direction characters are escaped, also beyond ASCII."""
    first = {key: fields[key] for key in ("at", "level", "event") if key in fields}
    whole = {key: _fitting(value) for key, value in {**first, **fields}.items()}
    try:
        line = orjson.dumps(whole, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except orjson.JSONEncodeError:  # a lone surrogate, an integer beyond 64 bits, a circle
        line = orjson.dumps({key: _plain(value) for key, value in whole.items()}).decode()
    return in_json(line)


def pretty_line(fields: Mapping[str, Any], *, coloured: bool) -> str:
    """ "12:00:01 info     run_completed  job=hello run=12", with the lines of a longer error below it."""
    rest = {key: value for key, value in fields.items() if key not in ("at", "level", "event") and value is not None}
    blocks = {key: rest.pop(key) for key in _BLOCKS if "\n" in str(rest.get(key, ""))}
    level = str(fields.get("level", "info"))
    word = f"\x1b[{_COLOURS.get(level, '0')}m{level:<8}\x1b[0m" if coloured else f"{level:<8}"
    pairs = " ".join(f"{key}={_shown(value)}" for key, value in rest.items())
    lines = [f"{str(fields.get('at', ''))[11:19]} {word} {visible(str(fields.get('event', ''))):<20} {pairs}".rstrip()]
    for block in blocks.values():
        lines += ["    " + visible(line) for line in _fitting(str(block)).splitlines()]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    text = _fitting(value) if isinstance(value, str) else _plain(value)
    return f'"{visible(text)}"' if " " in text or not text else visible(text)


def _fitting(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONGEST:
        return f"{value[:LONGEST]}… (cut)"
    return value


def _plain(value: Any) -> str:
    return str(value).encode("utf-8", "backslashreplace").decode()
