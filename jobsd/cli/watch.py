"""How a run that is followed looks: lines for a pipe, a bar for a terminal. What is seen, `follow` decides."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import click

from jobsd.cli import words

Run = Mapping[str, Any]
Message = Mapping[str, Any]


class Watcher(Protocol):
    """Sees a run go by."""

    def message(self, message: Message) -> None: ...
    def moved(self, run: Run) -> None:
        """Its state, attempt or progress has changed."""

    def note(self, text: str) -> None:
        """Something about the wait itself."""


class Lines:
    """A watcher for pipes and dumb terminals: one line for each thing that happens."""

    def __init__(self, say: Callable[[str], None], progress: bool = True, iso: bool = False) -> None:
        self.say, self.progress, self.iso = say, progress, iso
        self.state, self.told = "", (None, None, None)

    def message(self, message: Message) -> None:
        self.say(message_line(message, self.iso))

    def moved(self, run: Run) -> None:
        if not self.progress:
            return
        if run["state"] != self.state:
            self.state = run["state"]
            self.say(f"run {run['id']} {self.state}")
        told = (run.get("progress"), run.get("step"), run.get("progress_note"))
        if run.get("progress") is not None and told != self.told:
            self.told = told
            self.say(progress_line(run))

    def note(self, text: str) -> None:
        click.echo(text, err=True)


class Bar:
    """A watcher for a terminal: messages scroll, progress stays below them."""

    def __init__(self, bars: Any) -> None:
        self.bars, self.task = bars, bars.add_task("queued", total=None)

    def message(self, message: Message) -> None:
        self.note(message_line(message))

    def moved(self, run: Run) -> None:
        fraction = run.get("progress")
        text = words.printable(
            "  ".join(filter(None, (words.state(run["state"]), stage(run), run.get("progress_note"))))
        )
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


def message_line(message: Message, iso: bool = False) -> str:
    """ "02:30:01  warning: 12 rows were left out", or tab-separated with the whole instant for a program."""
    if iso:
        return "\t".join(words.plain(message[key]) for key in ("at", "level", "text"))
    at = words.instant(message["at"])
    level = "" if message["level"] == "info" else f"{message['level']}: "
    return f"{at:%H:%M:%S}  {level}{words.printable(message['text'])}"


def progress_line(run: Run) -> str:
    """ " 45 %  condense (2 of 3)  page 12"."""
    told = "  ".join(filter(None, (stage(run), run.get("progress_note"))))
    return f"{run['progress'] * 100:3.0f} %  {words.printable(told)}".rstrip()


def stage(run: Run) -> str:
    """Which step of its pipeline a run is in: "condense (2 of 3)"; nothing without a pipeline."""
    names = [name for name, _ in run.get("steps") or ()]
    step = run.get("step")
    return f"{step} ({names.index(step) + 1} of {len(names)})" if step in names else ""
