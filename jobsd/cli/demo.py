"""`jobsd demo` (make demo): development mode on real learning events, and a tour through what becomes of them.

The tour is a client like any other: it asks the daemon over its Unix socket and waits for the runs that the schedule
makes. It has a thread of its own, since the daemon lives in this process too.
"""

import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobsd.cli import shipped, words
from jobsd.domain.errors import Exit, JobsdError, problem

if TYPE_CHECKING:
    from jobsd.cli.client import Client

SCHEDULED = ("analytics_jobs", "generate_signals")  # run by themselves once there are events, each after the one before
NEXT_RUN_S = 120.0  # how long to wait for a run that the schedule is to make
ASK_EVERY_S = 0.2
Run = Mapping[str, Any]


@click.command("demo", hidden=True)
@click.option("--once", is_flag=True, help="End when every job of the demo has ended; exit 9 unless all completed.")
@click.option("--fresh", is_flag=True, help="Start over: what the demo's folder holds is deleted first.")
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), help="OULAD's files instead of the small extract."
)
@click.option("--folder", type=click.Path(path_type=Path), default=Path(".jobsd/demo"), help="Its data.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Where to listen.  [default: 8620; any free one with --once]"
)
def demo(once: bool, fresh: bool, data: Path | None, folder: Path, port: int | None) -> int:
    """Import real learning events, count them by day, derive signals; then keep running.

    \b
    Examples:
      make demo
      make demo ARGS=--once
    """
    import uvloop

    from jobsd.cli import dev

    os.environ["JOBSD_ENVIRONMENT"] = "demo"
    plan = dev.Plan(
        config=shipped.config("demo/jobsd.toml"),
        is_demo=False,
        folder=folder,
        port=0 if once and port is None else port,
        over={"log.level": "warning"},  # the tour tells what happens
    )
    if fresh:
        dev.start_over(folder)
    tour = Tour(folder / "jobsd.sock", (data or shipped.config("demo/oulad")).resolve(), once)
    status: int = uvloop.run(dev.run(plan, tour.begin))
    return tour.status if once and status == Exit.OK else status


@dataclass
class Tour:
    """Import, aggregate, derive: one run of each, waited for. `status` is its outcome, to be read at the end."""

    socket: Path
    data: Path
    once: bool
    status: int = Exit.FAILED  # until it has ended
    thread: threading.Thread = field(init=False)

    def begin(self, _plan: object, _ready: object) -> None:
        self.thread = threading.Thread(target=self._guide, name="tour", daemon=True)
        self.thread.start()

    def _guide(self) -> None:
        try:
            self._tour()
            self.status = Exit.OK
        except JobsdError as error:
            self.status = error.exit_code
            if error.exit_code != Exit.UNREACHABLE:  # then the daemon is being stopped, and that is all there is to say
                click.echo(f"\n{error}", err=True)
        finally:
            if self.once:
                os.kill(os.getpid(), signal.SIGTERM)

    def _tour(self) -> None:
        from jobsd.cli.address import Address
        from jobsd.cli.client import Client

        client = Client(Address(socket=self.socket))
        click.echo(f"\n  Importing learning events from {self.data}")
        asked = {"params": {"folder": str(self.data)}, "reason": "the demo's input"}
        last = completed(client, client.post("/jobs/import_events/runs", asked))
        for job in SCHEDULED:
            last = completed(client, scheduled(client, job, last))
        told = ONCE if self.once else FAREWELL
        click.echo(told.format(jobsd=words.called_as(), socket=self.socket, run=last["id"]))


def completed(client: "Client", run: Run) -> Run:
    """Stay with the run until it is over and tell its result. Raises E0505 unless it completed."""
    from jobsd.cli.follow import follow
    from jobsd.cli.trigger import not_completed
    from jobsd.cli.watch import watcher

    with watcher() as seen:
        over = follow(client, run["id"], seen)
    if over["state"] != "completed":
        raise not_completed(over)
    click.echo(f"  ok  {over['job']:<17} run {over['id']:<5} {words.span(over['duration_s'] or 0):<8} {figures(over)}")
    return over


def scheduled(client: "Client", job: str, before: Run) -> Run:
    """The first run of `job` that began after the run `before` was over; waited for. Raises E0506."""
    after, deadline = ended_at(before), time.monotonic() + NEXT_RUN_S
    while time.monotonic() < deadline:
        for run in reversed(client.get("/runs", job=job, limit=20)["items"]):
            began = words.instant(run["started_at"])
            if began and began >= after:
                return dict(run)
        time.sleep(ASK_EVERY_S)
    raise problem(
        "E0506", f"no run of {job} came in {NEXT_RUN_S:.0f} s", f"jobsd job why {job}", exit_code=Exit.TIMED_OUT
    )


def ended_at(run: Run) -> datetime:
    at = words.instant(run["finished_at"])
    if at is None:
        raise AssertionError("a run that is over has an end")
    return at


def figures(run: Run) -> str:
    """The counts in a run's result."""
    result = run.get("result") or {}
    return ", ".join(
        f"{value:,} {name.replace('_', ' ')}" for name, value in result.items() if type(value) is int and value
    )


ONCE = """
  All of the demo's jobs have completed. To look around: make demo
"""
FAREWELL = """
  Look around, in another terminal:
    {jobsd} --socket {socket} job list
    {jobsd} --socket {socket} run show {run}
    {jobsd} --socket {socket} job why generate_signals

  Ctrl-C stops; what is imported stays (make demo ARGS=--fresh starts over)
"""
