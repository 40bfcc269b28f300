"""The log: one JSON object a line on stderr, or aligned lines on a terminal. No secret, no raw control character.

How an event is worded is in `wording`, how a line looks in `lines`; where it goes after stderr is up to systemd.
"""

import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog

from jobsd.observe.lines import json_line, pretty_line
from jobsd.observe.redact import Redactor
from jobsd.observe.wording import LogObserver
from jobsd.registry.settings import LogSettings

__all__ = ["LogObserver", "Redactor", "setup"]

LEVELS: Mapping[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
SYSLOG = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # journald's priorities
QUIET = ("asyncio", "aiohttp", "apprise", "urllib3", "requests", "markdown")  # of libraries, warnings at the least
Fields = MutableMapping[str, Any]


class Writer:
    """Whole lines to a stream, from any thread. A full disk or a closed pipe loses lines and stops nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self.lost = 0

    def msg(self, line: str) -> None:
        try:
            with self._lock:
                self._stream.write(line + "\n")
                self._stream.flush()
        except (OSError, ValueError):
            self.lost += 1

    # structlog calls the method that is named for the level
    log = debug = info = warning = error = critical = exception = fatal = failure = err = warn = msg


def setup(log: LogSettings, redactor: Redactor | None = None, stream: TextIO | None = None) -> Redactor:
    """Send everything, the libraries' own logging too, to `stream` (stderr). Returns the redactor that it uses."""
    stream, redactor = stream or sys.stderr, redactor or Redactor()
    writer = Writer(stream)
    render = _renderer(log, stream)
    chain = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, _stamp, _explain]
    structlog.configure(
        processors=[*chain, lambda _, __, fields: redactor.fields(fields), lambda _, __, fields: render(fields)],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[log.level]),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=False,
    )
    _adopt_libraries(LEVELS[log.level])
    return redactor


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
