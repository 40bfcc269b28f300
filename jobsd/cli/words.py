"""How values read to a person: durations, instants, states, JSON. Pure text; `render` puts it into tables."""

import json
import shutil
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobsd.domain.visible import IN_LINES, in_json, visible

SHAPES: Mapping[str, tuple[str, str, str]] = {  # a state is told by its shape and its word; colour comes on top
    "queued": ("○", "o", "cyan"),
    "running": ("◍", "@", "blue"),
    "completed": ("●", "*", "green"),
    "failed": ("◆", "<>", "red"),
    "cancelled": ("▬", "-", "bright_black"),
    "healthy": ("●", "*", "green"),
    "degraded": ("▲", "!", "yellow"),
    "critical": ("◆", "<>", "red"),
}
UNITS = ((86400, "day"), (3600, "h"), (60, "min"), (1, "s"))


def called_as() -> str:
    """What to type for jobsd in this folder: its name where a shell finds it there, else the path it was called by."""
    path = Path(sys.argv[0])
    found = shutil.which("jobsd")
    if path.name != "jobsd" or (found and path.exists() and path.samefile(found)):
        return "jobsd"
    return str(path)


def span(seconds: float, units: int = 2) -> str:
    """ "350 ms", "1.2 s", "16 s", "4 min 10 s", "1 day 7 h": at most so many units, rounded down to the last."""
    if seconds < 0:
        return "-" + span(-seconds, units)
    if seconds < 10:
        return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s".replace(".0 s", " s")
    rest, parts = int(seconds), list[str]()
    for size, name in UNITS:
        if rest >= size and len(parts) < units:
            count, rest = divmod(rest, size)
            parts.append(f"{count} days" if name == "day" and count > 1 else f"{count} {name}")
        elif parts:
            break  # "1 day 5 s" reads worse than "1 day"
    return " ".join(parts)


def relative(at: datetime, now: datetime, units: int = 1) -> str:
    """ "in 4 min", "2 h ago", "now"."""
    seconds = (at - now).total_seconds()
    if abs(seconds) < 1:
        return "now"
    whole = span(float(int(abs(seconds))), units)
    return f"in {whole}" if seconds > 0 else f"{whole} ago"


def instant(value: object) -> datetime | None:
    """An API's ISO instant as aware UTC. None for none, and for what is no instant."""
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)


def clock(at: datetime) -> str:
    """ "2026-11-22 02:30:00 UTC"."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def state(value: str) -> str:
    """ "● completed": the shape in ASCII where the output knows no other."""
    if value not in SHAPES:
        return value
    fancy, plain, _ = SHAPES[value]
    return f"{fancy if encodable(fancy) else plain} {value}"


def encodable(text: str) -> bool:
    """Whether standard output can carry `text`."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def printable(text: str) -> str:
    """`text` without control characters: a job's words are not to be trusted with a terminal."""
    return visible(text, IN_LINES)


def plain(value: Any) -> str:
    """One cell of tab-separated output: whole, on one line, nothing for none. A pipe, too, may end at a terminal."""
    if value is None:
        return ""
    text = told(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return visible(text)


def told(value: Any) -> str:
    """Text as it is, anything else as JSON."""
    return value if isinstance(value, str) else compact(value)


def compact(value: Any) -> str:
    """JSON on one line."""
    return in_json(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")))


def indented(value: Any) -> str:
    """JSON for people to read."""
    return in_json(json.dumps(value, ensure_ascii=False, indent=2))
