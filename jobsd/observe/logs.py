"""The log: one JSON object a line on stderr, or aligned lines on a terminal. No secret, no raw control character.

How an event is worded is in `wording`, how a line looks in `lines`; where it goes after stderr is up to systemd.
"""

import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog

from jobsd.observe.lines import json_line, pretty_line
from jobsd.observe.redact import Redactor
from jobsd.observe.wording import LogObserver
from jobsd.observe.writer import Writer
from jobsd.registry.settings import LogSettings

__all__ = ["LogObserver", "Redactor", "flush", "lost_recently", "setup"]

LEVELS: Mapping[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
SYSLOG = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # journald's priorities
QUIET = ("asyncio", "aiohttp", "apprise", "urllib3", "requests", "markdown")  # of libraries, warnings at the least
Fields = MutableMapping[str, Any]


def setup(log: LogSettings, redactor: Redactor | None = None, stream: TextIO | None = None) -> Redactor:
    """Send everything, the libraries' own logging too, to `stream` (stderr). Returns the redactor that it uses."""
    stream, redactor = stream or sys.stderr, redactor or Redactor()
    render = _renderer(log, stream)
    writer = Writer(stream, lambda count: render(_lost(count)))
    chain = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, _stamp, _explain]
    structlog.configure(
        processors=[*chain, lambda _, __, fields: redactor.fields(fields), lambda _, __, fields: render(fields)],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[log.level]),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=False,
    )
    _adopt_libraries(LEVELS[log.level])
    return redactor


def _lost(count: int) -> Fields:
    return _stamp(None, "", {"event": "log_lines_lost", "level": "warning", "count": count})


def _writer() -> Writer | None:
    made = structlog.get_config()["logger_factory"]()
    return made if isinstance(made, Writer) else None


def flush(limit_s: float) -> None:
    """Give lines that wait for a slow reader so long to be read, before the process ends."""
    if writer := _writer():
        writer.flush(limit_s)


def lost_recently() -> int:
    """How many lines could not be written, if any in the last ten minutes."""
    writer = _writer()
    return writer.lost_recently if writer else 0


def _renderer(log: LogSettings, stream: TextIO) -> Callable[[Mapping[str, Any]], str]:
    terminal = stream.isatty()
    if log.format == "pretty" or (log.format == "auto" and terminal):
        coloured = terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        return lambda fields: pretty_line(fields, coloured=coloured)
    if is_journal(stream, os.environ):
        return lambda fields: f"<{SYSLOG.get(str(fields.get('level')), 6)}>{json_line(fields)}"
    return json_line


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether systemd's journal reads this stream; it then takes a priority in front of each line."""
    try:
        seen = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{seen.st_dev}:{seen.st_ino}"


def _stamp(_: Any, __: str, fields: Fields) -> Fields:
    fields["at"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return fields


def _explain(_: Any, __: str, fields: Fields) -> Fields:
    """Turn an exception into text: `exc_info` may be True, an exception, or what `sys.exc_info()` gives."""
    given = fields.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        fields["error"] = f"{type(error).__name__}: {error}"
        fields["traceback"] = "".join(traceback.format_exception(error))
    return fields


class _Adopted(logging.Handler):
    """Hands a library's log records to ours."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower() if record.levelname.lower() in SYSLOG else "info"
        log = structlog.get_logger()
        getattr(log, level)("library", logger=record.name, message=record.getMessage(), exc_info=record.exc_info)


def _adopt_libraries(level: int) -> None:
    root = logging.getLogger()
    root.handlers = [_Adopted()]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(capture=True)
