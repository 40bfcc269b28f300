"""The real command as a process: with pipes, or in a terminal of its own."""

import asyncio
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

COMMAND = (sys.executable, "-m", "jobsd")
MINE = ("JOBSD_", "DATABASE_URL", "JOB_", "NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS", "LINES")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LIMIT_S = 60.0  # nothing takes so long; it only ends a test that hangs


@dataclass(frozen=True)
class Ended:
    """How a command ended. In a terminal `out` holds both streams, as they came."""

    code: int
    out: str
    err: str = ""

    @property
    def text(self) -> str:
        """`out` without colours and cursor moves."""
        return ESCAPES.sub("", self.out).replace("\r\n", "\n")


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Ours without whatever the developer has set for jobsd."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(MINE)}
    return {**kept, "TERM": "xterm-256color", "PYTHONWARNINGS": "error", **more}


def jobsd(*args: str, cwd: Path | None = None, stdin: str = "", **env: str) -> Ended:
    """`jobsd ARGS` with pipes, to its end."""
    process = subprocess.run(
        [*COMMAND, *args], input=stdin, capture_output=True, text=True, cwd=cwd, env=environment(env), timeout=LIMIT_S
    )
    return Ended(process.returncode, process.stdout, process.stderr)


def on_terminal(*args: str, cwd: Path | None = None, columns: int = 100, **env: str) -> Ended:
    """`jobsd ARGS` in a terminal so many columns wide, to its end."""
    with in_terminal(*args, cwd=cwd, columns=columns, **env) as screen:
        return Ended(screen.wait(), screen.shown)


@dataclass
class Screen:
    """A terminal with a command in it. `shown` is what it has written so far."""

    process: subprocess.Popen[bytes]
    master: int
    shown: str = field(default="")

    def read(self) -> bool:
        """Read some more; False at the end."""
        if not select.select([self.master], [], [], LIMIT_S)[0]:
            raise TimeoutError(f"nothing new on the terminal; it shows {self.shown!r}")
        try:
            block = os.read(self.master, 65536)
        except OSError:  # Linux: the other side is closed
            block = b""
        self.shown += block.decode(errors="replace")
        return bool(block)

    def until(self, text: str) -> None:
        while text not in self.shown:
            if not self.read():
                raise AssertionError(f"{text!r} was never shown, but {self.shown!r}")

    async def shows(self, text: str) -> None:
        """Wait until `text` is there, off the event loop."""
        await asyncio.to_thread(self.until, text)

    async def ended(self) -> int:
        return await asyncio.to_thread(self.wait)

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def wait(self) -> int:
        while self.read():
            pass
        return self.process.wait(LIMIT_S)


@contextmanager
def in_terminal(*args: str, cwd: Path | None = None, columns: int = 100, **env: str) -> Iterator[Screen]:
    """`jobsd ARGS` in a terminal, to be read and typed to while it runs."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", LEADER, *COMMAND[1:], *args],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=cwd,
        env=environment(env),
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Screen(process, master)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)


# Makes the terminal the process's own, so that Ctrl-C typed into it is a signal.
LEADER = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
