"""`jobsd dev`: one command from nothing to a daemon that runs jobs. PostgreSQL, schema, daemon, and a first screen.

Everything it makes is in one folder, ./.jobsd. What the daemon does is `daemon`'s part, the database `embedded`'s.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobsd import __version__
from jobsd.cli import shipped, words
from jobsd.domain.errors import Exit, problem

if TYPE_CHECKING:
    from jobsd.daemon import Ready
    from jobsd.registry.load import Registry

SHOWN = 8  # of the slots to come
DATABASE = "jobsd"


@click.command("dev")
@click.option("--fresh", is_flag=True, help="Start over: what the folder holds is deleted first.")
@click.option("--port", type=click.IntRange(0, 65535), help="Where to listen.  [default: 8620]")
@click.option("--folder", type=click.Path(path_type=Path), default=Path(".jobsd"), show_default=True, help="Its data.")
@click.pass_context
def dev(ctx: click.Context, fresh: bool, port: int | None, folder: Path) -> int:
    """Start everything here: PostgreSQL, schema, daemon.

    Takes the configuration that is found, or a demo where there is none yet. Listens on loopback only; no token needed.

    \b
    Examples:
      jobsd dev
      jobsd dev --fresh --port 9000
    """
    import uvloop

    from jobsd.registry import files

    asked = (ctx.find_root().obj or {}).get("config")
    found = files.find(Path(asked) if asked else None, os.environ)
    plan = Plan(found or shipped.config("dev/jobsd.toml"), found is None, folder, port)
    require_loopback(plan.load(""))
    if fresh:
        start_over(folder)
    status: int = uvloop.run(run(plan))
    return status


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for. `is_demo`: nobody has written a configuration yet."""

    config: Path
    is_demo: bool
    folder: Path
    port: int | None
    over: Mapping[str, Any] = field(default_factory=dict)  # further settings, over what the files say

    def load(self, url: str) -> "Registry":
        """The registry, with development mode's own places over what the files say. Raises `JobsdError`.

        The demo gives way, at a reload, to a configuration that somebody has written since.
        """
        from jobsd.handlers import check_handlers
        from jobsd.registry.files import find
        from jobsd.registry.load import load

        written = find(None, os.environ) if self.is_demo else None

        environ = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        return load(written or self.config, environ, self.flags(url), check_handlers)

    def flags(self, url: str) -> Mapping[str, Any]:
        own = {
            **self.over,
            "database.url": url,
            "daemon.state_dir": str(self.folder),
            "http.socket": str(self.folder / "jobsd.sock"),  # as short as it was given: a socket's path has a limit
        }
        return own if self.port is None else {**own, "http.port": self.port}


def require_loopback(registry: "Registry") -> None:
    """Raises E0603: without tokens, nobody but this machine may come in."""
    host = registry.settings.http.host
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise problem(
            "E0603",
            f"development mode listens on loopback only, not on {host}",
            "leave [http] host out, or use: jobsd serve",
            exit_code=Exit.CONFIGURATION,
            place=registry.place(("http", "host")),
        )


def start_over(folder: Path) -> None:
    """Delete the folder, unless its database is in use."""
    import shutil

    from jobsd.embedded.server import hold

    if folder.exists():
        lock = hold(folder / "pg")
        shutil.rmtree(folder)
        os.close(lock)


def hints(plan: Plan, ready: "Ready") -> None:
    """What to do next, and how to leave."""
    example = "slow-demo" if plan.is_demo else next(iter(ready.registry.jobs), "JOB")
    click.echo(f"\n  In another terminal:  jobsd trigger {example} --wait    jobsd run list    jobsd job list")
    click.echo(f"  Ctrl-C stops; data stays in {plan.folder}/ (jobsd dev --fresh starts over)\n")


async def run(plan: Plan, when_up: Callable[[Plan, "Ready"], None] = hints) -> int:
    """Bring everything up, tell so, and stay until a signal ends it; the daemon's exit status."""
    from jobsd import daemon, embedded
    from jobsd.store.migrate import migrate

    click.echo(f"jobsd {__version__}  development mode (loopback only, no token needed)\n")
    with timed() as took:
        server = await asyncio.to_thread(embedded.start, plan.folder / "pg")
    try:
        ok(f"PostgreSQL {server.version} (embedded)", f"{plan.folder / 'pg'}", took())
        url = server.url(DATABASE)
        with timed() as took:
            await server.create_database(DATABASE)
            applied = await migrate(url, plan.load(url).settings.database.schema_name)
        ok("schema", f"{len(applied)} migrations" if applied else "up to date", took())

        def on_ready(ready: "Ready") -> None:
            screen(plan, ready, url)
            when_up(plan, ready)

        return await daemon.serve(partial(plan.load, url), on_ready)
    finally:
        await asyncio.to_thread(server.stop)


@contextmanager
def timed() -> Iterator[Any]:
    began = time.monotonic()
    yield lambda: words.span(time.monotonic() - began)


def ok(what: str, fact: str, more: str = "") -> None:
    click.echo(f"  ok  {what:<28} {fact:<18} {more}".rstrip())


def screen(plan: Plan, ready: "Ready", url: str) -> None:
    """The rest of the first screen: what there is, where to look, what comes next."""
    base, jobs = ready.addresses.url, ready.registry.jobs
    noun = "job" if len(jobs) == 1 else "jobs"
    ok("jobs", f"{len(jobs)} {'demo ' if plan.is_demo else ''}{noun}", origin(plan))
    ok("listening", base.removeprefix("http://"))
    click.echo(f"\n  API        {base}/api/v1/jobs")
    click.echo(f"  Health     {base}/healthz")
    click.echo(f"  Metrics    {base}/metrics")
    click.echo(f"  Database   {url}\n")
    upcoming(ready.registry)


def origin(plan: Plan) -> str:
    from jobsd.registry.files import shown

    return "no jobsd.toml here yet" if plan.is_demo else shown(plan.config)


def upcoming(registry: "Registry") -> None:
    """The slots that come next, with what each job is for."""
    from jobsd.domain.describe import describe

    now = datetime.now(UTC)
    slots = [(at, name) for name, schedule in registry.schedules.items() if (at := schedule.next_after(now))]
    rows = [("NEXT", "JOB", "SCHEDULE", "")]
    for at, name in sorted(slots)[:SHOWN]:
        said = describe(registry.schedules[name])
        rows.append((words.relative(at, now), name, said, registry.jobs[name].description))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=False)]
        click.echo("  " + "   ".join([*cells, row[3]]).rstrip())
