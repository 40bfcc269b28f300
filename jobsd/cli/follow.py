"""Follows one run until it is over: its messages as they come, its progress, what became of it.

Asks the daemon again and again instead of keeping a stream open, so that a restart of the daemon in between does not
end the wait. How it looks is a `Watcher`'s part: lines for a pipe, a bar for a terminal.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import click

from jobsd.cli import words
from jobsd.cli.client import Client
from jobsd.domain.errors import Exit, JobsdError, problem

QUICKEST_S = 0.05
SLOWEST_S = 1.0
RESTART_S = 60.0  # how long a daemon may be away, restarting, before the wait is given up
OVER = ("completed", "failed", "cancelled")

Run = Mapping[str, Any]


class Watcher(Protocol):
    """Sees a run go by."""

    def message(self, message: Mapping[str, Any]) -> None: ...
    def moved(self, run: Run) -> None:
        """Its state, attempt or progress has changed."""

    def note(self, text: str) -> None:
        """Something about the wait itself."""


def follow(client: Client, run: int, watcher: Watcher, deadline: float | None = None) -> Run:
    """Wait until `run` is over, telling `watcher`; return it as it ended.

    `deadline` is on the monotonic clock. Raises E0506 when it passes; the run itself goes on.
    """
    steady, last_id, before, wait_s = Patience(client, watcher), 0, None, QUICKEST_S
    while True:
        now = steady.get(f"/runs/{run}")
        for message in steady.get(f"/runs/{run}/messages", after=last_id)["items"]:
            watcher.message(message)
            last_id = message["id"]
        shape = (now["state"], now.get("attempts"), now.get("progress"), now.get("progress_note"), last_id)
        if shape[:4] != (before or ())[:4]:
            watcher.moved(now)
        if now["state"] in OVER:
            return dict(now)
        wait_s = QUICKEST_S if shape != before else min(wait_s * 1.5, SLOWEST_S)
        before = shape
        _sleep(wait_s, deadline, now)


def _sleep(wait_s: float, deadline: float | None, run: Run) -> None:
    left = SLOWEST_S if deadline is None else deadline - time.monotonic()
    if left <= 0:
        raise problem(
            "E0506",
            f"run {run['id']} of {run['job']} is still {run['state']}",
            f"it goes on: jobsd run logs {run['id']} --follow",
            exit_code=Exit.TIMED_OUT,
        )
    time.sleep(min(wait_s, left))


class Patience:
    """Asks on while a daemon that has answered before is away for a restart."""

    def __init__(self, client: Client, watcher: Watcher) -> None:
        self.client, self.watcher = client, watcher

    def get(self, path: str, **query: object) -> Any:
        gone_at: float | None = None
        while True:
            try:
                return self.client.get(path, **query)
            except JobsdError as error:
                if error.exit_code != Exit.UNREACHABLE:
                    raise
                if gone_at is None:
                    gone_at = time.monotonic()
                    self.watcher.note(f"{error.problems[0].message}; asking on for {RESTART_S:.0f} s")
                elif time.monotonic() - gone_at > RESTART_S:
                    raise
            time.sleep(SLOWEST_S / 2)


class Lines:
    """A watcher for pipes and dumb terminals: one line for each thing that happens."""

    def __init__(self, say: Callable[[str], None], progress: bool = True, iso: bool = False) -> None:
        self.say, self.progress, self.iso = say, progress, iso
        self.state, self.told = "", (None, None)

    def message(self, message: Mapping[str, Any]) -> None:
        self.say(message_line(message, self.iso))

    def moved(self, run: Run) -> None:
        if not self.progress:
            return
        if run["state"] != self.state:
            self.state = run["state"]
            self.say(f"run {run['id']} {self.state}")
        told = (run.get("progress"), run.get("progress_note"))
        if run.get("progress") is not None and told != self.told:
            self.told = told
            self.say(progress_line(run))

    def note(self, text: str) -> None:
        click.echo(text, err=True)


class Bar:
    """A watcher for a terminal: messages scroll, progress stays below them."""

    def __init__(self, bars: Any) -> None:
        self.bars, self.task = bars, bars.add_task("queued", total=None)

    def message(self, message: Mapping[str, Any]) -> None:
        self.note(message_line(message))

    def moved(self, run: Run) -> None:
        fraction, note = run.get("progress"), run.get("progress_note") or ""
        text = words.printable(f"{words.state(run['state'])}  {note}".strip())
        total = None if fraction is None else 1.0
        self.bars.update(self.task, description=text, total=total, completed=fraction or 0.0)

    def note(self, text: str) -> None:
        from rich.text import Text

        self.bars.console.print(Text(text))


@contextmanager
def watcher() -> Iterator[Watcher]:
    """What suits standard error: a live bar on a terminal, else lines."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield Lines(lambda line: click.echo(line, err=True))
        return
    from rich import progress

    from jobsd.cli.render import console

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console(sys.stderr), transient=True) as bars:
        yield Bar(bars)


def message_line(message: Mapping[str, Any], iso: bool = False) -> str:
    """ "02:30:01  warning: 12 rows were left out", or tab-separated with the whole instant for a program."""
    if iso:
        return "\t".join(words.plain(message[key]) for key in ("at", "level", "text"))
    at = words.instant(message["at"])
    level = "" if message["level"] == "info" else f"{message['level']}: "
    return f"{at:%H:%M:%S}  {level}{words.printable(message['text'])}"


def progress_line(run: Run) -> str:
    note = words.printable(run.get("progress_note") or "")
    return f"{run['progress'] * 100:3.0f} %  {note}".rstrip()
