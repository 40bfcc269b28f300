"""Inside a handler's own process: calls it, passes on what it reports, answers with how it ended. `process` listens."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from threading import Lock, Timer
from time import monotonic
from typing import Any

from jobsd.domain.outcome import Completed, Failed, Outcome
from jobsd.engine.executors.context import Context, PlainContext
from jobsd.engine.executors.python import arguments, call, completed, failed
from jobsd.handlers import Handler, HandlerError, named
from jobsd.sdk import Connection, SyncJobContext

PROGRESS_EVERY_S = 0.2


class Answers:
    """The pipe to the daemon, one JSON object a line. From any thread."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = Lock()
        self._latest: tuple[float, str] | None = None  # not told yet
        self._next_at = 0.0
        self._timer: Timer | None = None

    def progress(self, fraction: float, note: str) -> None:
        """The latest of what comes within `PROGRESS_EVERY_S`, so that a tight loop costs nobody much."""
        with self._lock:
            self._latest = (fraction, note)
            wait_s = self._next_at - monotonic()
            if wait_s <= 0:
                self._tell_progress()
            elif self._timer is None:
                self._timer = Timer(wait_s, self._on_time)
                self._timer.daemon = True
                self._timer.start()

    def message(self, level: str, text: str) -> None:
        with self._lock:
            self._write({"message": (level, text)})

    def end(self, outcome: Outcome) -> None:
        with self._lock:
            self._tell_progress()
            match outcome:
                case Completed(result):
                    self._write({"completed": result})
                case Failed(kind, error):
                    self._write({"failed": (kind, error)})

    def _on_time(self) -> None:
        with self._lock:
            self._timer = None
            self._tell_progress()

    def _tell_progress(self) -> None:
        if self._latest is not None:
            self._write({"progress": self._latest})
            self._latest = None
            self._next_at = monotonic() + PROGRESS_EVERY_S

    def _write(self, line: dict[str, Any]) -> None:
        data = json.dumps(line).encode() + b"\n"
        while data:
            data = data[os.write(self._fd, data) :]


@dataclass(frozen=True, slots=True)
class AsyncAnswers:
    """The same pipe for an async handler. A write is short, unless the daemon falls behind."""

    answers: Answers

    async def progress(self, fraction: float, note: str) -> None:
        self.answers.progress(fraction, note)

    async def message(self, level: str, text: str) -> None:
        self.answers.message(level, text)


def run(request: dict[str, Any], fd: int) -> int:
    """Do what was asked for; the process's exit code."""
    answers = Answers(fd)
    try:
        outcome = _work(request, answers)
    except BaseException as error:  # an import, or the handler: the daemon is to hear of it word for word
        outcome = failed(error)
    answers.end(outcome)
    return 0 if isinstance(outcome, Completed) else 1


def _work(request: dict[str, Any], answers: Answers) -> Outcome:
    who = request["who"]
    who["slot_at"] = datetime.fromisoformat(who["slot_at"]) if who["slot_at"] else None
    try:
        handler = named(request["handler"])
    except HandlerError as error:
        return Failed("start", str(error))
    if handler.is_async:
        return asyncio.run(_call(handler, who, answers, request["database_url"]))
    signal.signal(signal.SIGTERM, _leave)
    context: SyncJobContext = PlainContext(**who, report=answers)
    return completed(handler.call(*arguments(handler, context)))


def _leave(number: int, frame: object) -> None:
    """On TERM a plain function is left by an exception, so that its `finally` blocks run within the grace."""
    raise SystemExit(f"ended by {signal.Signals(number).name}")


async def _call(handler: Handler, who: dict[str, Any], answers: Answers, url: str | None) -> Outcome:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)

    @asynccontextmanager
    async def connect() -> AsyncIterator[Connection]:
        from jobsd.store import db  # noqa: PLC0415  # its driver takes long to import, and few jobs here need it

        if url is None:
            raise RuntimeError("this daemon gives its jobs no database")
        name = f"jobsd job {who['job']}"
        async with db.dedicated(url, application_name=name, fence=who["fence"], run_id=who["run_id"]) as connection:
            yield connection

    return await call(handler, Context(**who, report=AsyncAnswers(answers), open_connection=connect))
