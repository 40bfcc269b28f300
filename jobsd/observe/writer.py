"""Where log lines go: whole, in order, from any thread, and at once or not at all.

Whoever reads the other end may stop reading, and a full pipe would hold up all of the daemon. So what cannot be written
at once waits in memory, up to a bound, for a thread of its own; what does not fit there is dropped, counted and told.
"""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

WAITING_BYTES = 1 << 18
PIECE = 4096  # a pipe that can be written takes so many bytes without waiting (PIPE_BUF)
RECENT_S = 600.0


class Writer:
    """Lines to a stream. `lost_line` words how many were dropped, once there is room again."""

    def __init__(self, stream: TextIO, lost_line: Callable[[int], str] = "{} lines lost".format) -> None:
        self._stream = stream
        self._fd = _descriptor(stream)
        self._lost_line = lost_line
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._thread: threading.Thread | None = None
        self._untold = 0
        self._lost_at_s = 0.0
        self.lost = 0

    @property
    def lost_recently(self) -> int:
        """How many lines were lost since the start, if the last of them was within the last ten minutes; else 0."""
        return self.lost if self.lost and time.monotonic() - self._lost_at_s < RECENT_S else 0

    def msg(self, line: str) -> None:
        """Write it, or keep it for later, or drop it; never waits, never raises."""
        with self._changed:
            if self._fd is None:
                self._to_stream(line)
            else:
                data = f"{line}\n".encode(errors="backslashreplace")
                rest = data if self._waiting else self._at_once(data, self._fd)
                if rest:
                    self._keep(rest)

    # structlog calls the method that is named for the level
    log = debug = info = warning = error = critical = exception = fatal = failure = err = warn = msg

    def flush(self, limit_s: float) -> None:
        """Wait until nothing waits any more, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, limit_s)

    def _to_stream(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._lose()

    def _at_once(self, data: bytes, fd: int) -> bytes:
        """What is left of it. A disk that is full, or a pipe that is closed, takes nothing, and never will."""
        ready = select.poll()
        ready.register(fd, select.POLLOUT)
        try:
            while data and ready.poll(0):
                data = data[os.write(fd, data[:PIECE]) :]
        except BlockingIOError:
            return data
        except OSError:
            self._lose()
            return b""
        return data

    def _keep(self, data: bytes) -> None:
        if self._waiting and self._size + len(data) > WAITING_BYTES:
            self._untold += 1
            return self._lose()
        self._waiting.append(data)
        self._size += len(data)
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_for_ever, name="log writer", daemon=True)
            self._thread.start()
        return self._changed.notify_all()

    def _lose(self) -> None:
        self.lost += 1
        self._lost_at_s = time.monotonic()

    def _write_for_ever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                data = self._waiting[0]
            written = self._however_long(data)
            with self._changed:
                self._waiting.popleft()
                self._size -= len(data)
                if not written:
                    self._lose()
                if not self._waiting and self._untold:
                    told, self._untold = self._untold, 0
                    self._keep(f"{self._lost_line(told)}\n".encode())
                self._changed.notify_all()

    def _however_long(self, data: bytes) -> bool:
        ready = select.poll()
        ready.register(self._fd or 0, select.POLLOUT)
        try:
            while data:
                ready.poll()
                data = data[os.write(self._fd or 0, data[:PIECE]) :]
        except OSError:
            return False
        return True


def _descriptor(stream: TextIO) -> int | None:
    """None for a stream that is no file of the system's, such as one in memory."""
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None
