"""What a handler's own process tells the daemon, over a pipe. `process` listens."""

import json
import os
from dataclasses import dataclass
from threading import Lock, Timer
from time import monotonic
from typing import Any

from jobsd.domain.outcome import Cancelled, Committed, Completed, Deferred, Failed, Outcome
from jobsd.engine.executors.pipeline import Progress

PROGRESS_EVERY_S = 0.2
HEARTBEAT_EVERY_S = 1.0


class Answers:
    """The pipe to the daemon, one JSON object a line. From any thread."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = Lock()
        self._latest: Progress | None = None  # not told yet
        self._next_at = 0.0
        self._timer: Timer | None = None
        self._lived_at = -HEARTBEAT_EVERY_S

    def progress(self, told: Progress) -> None:
        """The latest of what comes within `PROGRESS_EVERY_S`, so that a tight loop costs nobody much."""
        with self._lock:
            self._latest = told
            wait_s = self._next_at - monotonic()
            if wait_s <= 0:
                self._tell_progress()
            elif self._timer is None:
                self._timer = Timer(wait_s, self._on_time)
                self._timer.daemon = True
                self._timer.start()

    def heartbeat(self) -> None:
        with self._lock:
            if monotonic() - self._lived_at >= HEARTBEAT_EVERY_S:
                self._lived_at = monotonic()
                self._write({"heartbeat": True})

    def message(self, level: str, text: str) -> None:
        with self._lock:
            self._write({"message": (level, text)})

    def end(self, outcome: Outcome) -> None:
        with self._lock:
            self._tell_progress()
            match outcome:
                case Completed(result):
                    self._write({"completed": result})
                case Failed(kind, error, _, final):
                    self._write({"failed": (kind, error, final)})
                case Cancelled(reason):
                    self._write({"cancelled": reason})
                case Deferred(delay, reason):
                    self._write({"deferred": (delay.total_seconds(), reason)})

    # -- of the job's own transaction: `effects.Told` ----------------------------------------------------------------

    def committing(self) -> None:
        self._tell_effect("committing")

    def committed(self, end: Committed) -> None:
        """Nothing: the daemon does not take job code's word for it, and asks the database."""

    def undone(self) -> None:
        self._tell_effect("undone")

    def rehearsed(self, result: Any) -> None:
        self._tell_effect({"rehearsed": result})

    def _tell_effect(self, what: object) -> None:
        with self._lock:
            self._write({"effect": what})

    def _on_time(self) -> None:
        with self._lock:
            self._timer = None
            self._tell_progress()

    def _tell_progress(self) -> None:
        if (told := self._latest) is not None:
            self._write({"progress": (told.fraction, told.note, told.step, told.steps)})
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

    async def progress(self, told: Progress) -> None:
        self.answers.progress(told)

    async def heartbeat(self) -> None:
        self.answers.heartbeat()

    async def message(self, level: str, text: str) -> None:
        self.answers.message(level, text)
