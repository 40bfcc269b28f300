"""A command in a terminal of its own: started, read line by line, stopped with Ctrl-C."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


class Terminal:
    """`jobsd` with arguments. What it writes on standard output is read as it comes."""

    def __init__(self, folder: Path, *args: str) -> None:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("JOBSD_") and k != "DATABASE_URL"}
        with (folder / "stderr").open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jobsd", *args],
                cwd=folder,
                env={**environ, "DATABASE_URL": "postgresql://nowhere.invalid/none"},
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                process_group=0,
            )
        self.folder = folder
        self.screen = ""

    def until(self, text: str) -> str:
        """Read on until a line holds `text`; the whole screen so far."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.screen += line
            if text in line:
                return self.screen
        raise AssertionError(f"ended before it said {text!r}:\n{self.screen}{self.errors}")

    @property
    def errors(self) -> str:
        return (self.folder / "stderr").read_text()

    def ctrl_c(self) -> int:
        """What the terminal does: INT to the whole process group. The exit status."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.ended()

    def ended(self) -> int:
        """Read to the end; the exit status."""
        if self.process.stdout and not self.process.stdout.closed:
            self.screen += self.process.communicate()[0]
        return self.process.returncode


@contextmanager
def terminal(folder: Path, *args: str) -> Iterator[Terminal]:
    started = Terminal(folder, *args)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
        started.ended()


@contextmanager
def project() -> Iterator[Path]:
    """An empty project, of a short path; removed when the last process of its PostgreSQL is gone."""
    with TemporaryDirectory(prefix="jobsd-v-") as made:
        yield Path(made)
        wait_until_gone(Path(made))


def wait_until_gone(folder: Path) -> None:
    """Wait for the last process of each PostgreSQL below: all of them hold its log."""
    for log in folder.glob(".jobsd/**/pg/log"):
        with log.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
