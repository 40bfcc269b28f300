"""What a process writes: always drained, so that it never waits for us, and only its end kept."""

import asyncio
import fcntl
import os
from contextlib import suppress

READ = 1 << 20  # bytes at once, and the pipe's size where the kernel grants it
MANY = 1 << 16  # who wrote so much since the last look floods: it is read less often
FLOOD_PAUSE_S = 0.01  # so a flood of 100 MB/s costs the loop a few percent
MOST_KEPT = 1 << 20


class Tail:
    """The last `limit` bytes of a stream, in at most about twice the memory."""

    def __init__(self, limit: int) -> None:
        self.limit = min(limit, MOST_KEPT)
        self.total = 0
        self._kept = bytearray()

    def add(self, data: bytes) -> None:
        self.total += len(data)
        self._kept += data
        if len(self._kept) > 2 * self.limit:
            del self._kept[: len(self._kept) - self.limit]

    def text(self) -> str:
        """What is kept, fit for PostgreSQL: bad UTF-8 replaced, NUL left out. A first line says what was dropped."""
        kept = bytes(self._kept[max(0, len(self._kept) - self.limit) :])
        dropped = self.total - len(kept)
        if dropped:
            kept = kept.lstrip(bytes(range(0x80, 0xC0)))  # the rest of a character that was cut
        text = kept.decode(errors="replace").replace("\0", "")
        return f"[… {dropped} bytes before this were dropped]\n{text}" if dropped else text

    def last_lines(self, count: int, limit: int) -> str:
        """The last `count` lines, at most `limit` characters of them."""
        lines = self.text()[-limit:].rstrip().split("\n")
        return "\n".join(lines[-count:])


class Drain:
    """Reads a pipe into a tail from the event loop, a flood in sips."""

    def __init__(self, fd: int, tail: Tail) -> None:
        self._fd = fd
        self._tail = tail
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        os.set_blocking(fd, False)
        widen(fd)
        self._loop.add_reader(fd, self._read)

    def _read(self) -> None:
        size = self._sip()
        if size == 0:
            self._loop.remove_reader(self._fd)
        elif size >= MANY:
            self._loop.remove_reader(self._fd)
            self._pause = self._loop.call_later(FLOOD_PAUSE_S, self._loop.add_reader, self._fd, self._read)

    def _sip(self) -> int:
        """How many bytes came; 0 at the end, -1 when there is nothing just now."""
        try:
            data = os.read(self._fd, READ)
        except BlockingIOError:
            return -1
        self._tail.add(data)
        return len(data)

    def finish(self) -> None:
        """Take what is in the pipe, once nobody is left who writes; then let go of it."""
        if self._pause:
            self._pause.cancel()
        self._loop.remove_reader(self._fd)
        for _ in range(MOST_KEPT // 4096):
            if self._sip() <= 0:
                break
        os.close(self._fd)


def widen(fd: int) -> None:
    with suppress(OSError):  # the kernel grants a user only so many wide pipes; a narrow one does too
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, READ)
