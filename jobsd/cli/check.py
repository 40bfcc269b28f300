"""`jobsd check`: everything that start-up would find, found before."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobsd.domain.errors import Exit, JobsdError, Problem

if TYPE_CHECKING:
    from jobsd.registry.load import Registry


@click.command("check")
@click.option("--offline", is_flag=True, help="Configuration and handlers only; no database is asked.")
@click.pass_context
def check(ctx: click.Context, offline: bool) -> None:
    """Prove configuration, environment and handlers, and that the database can be reached and has the right schema.

    \b
    Examples:
      jobsd check
      jobsd check --offline --config deploy/jobsd.toml
    """
    from jobsd.handlers import check_handlers, packs
    from jobsd.registry.load import load

    config = (ctx.find_root().obj or {}).get("config")
    registry = load(Path(config) if config else None, os.environ, also=check_handlers)
    where = registry.sources.root.name
    ok("configuration", f"{where}, {counted(len(registry.files), 'file')}, {counted(len(registry.jobs), 'job')}")
    ok("environment", registry.environment or "none chosen")
    ok("handlers", counted(sum(job.handler is not None for job in registry.jobs.values()), "handler"))
    ok("packs", ", ".join(pack.name for pack in packs()) or "none")
    if registry.settings.alerts.channels:
        channels(registry)
    if not offline:
        database(ctx)


def channels(registry: "Registry") -> None:
    """Raises E0227 for every channel whose URL Apprise does not know what to do with."""
    from jobsd.observe.channels import check as check_channels

    wrong = check_channels(registry.settings.alerts)
    if wrong:
        places = {name: registry.place(("alerts", "channels", name), "key") for name in wrong}
        problems = (Problem("E0227", f"channel {name}: {why}", places[name]) for name, why in wrong.items())
        raise JobsdError(tuple(problems), Exit.CONFIGURATION)
    ok("channels", ", ".join(registry.settings.alerts.channels))


def database(ctx: click.Context) -> None:
    """Raises what `jobsd serve` would: E0301 to E0308."""
    from jobsd.cli import db
    from jobsd.store import migrate

    url, schema = db.database(ctx)
    status = db.run(url, migrate.status(url, schema))
    ok("database", "reachable")
    status.require_current()
    ok("schema", f'"{schema}", {counted(len(status.migrations), "migration")}')
    ok("views", counted(db.run(url, views(url, schema)), "view"))


async def views(url: str, schema: str) -> int:
    """Have the server parse every pack's views; how many there are. Raises E0234 with all that it refuses."""
    from jobsd.handlers import packs
    from jobsd.store.db import Db
    from jobsd.store.packs import refusal

    every = [(pack.name, view) for pack in packs() for view in pack.views]
    async with Db.open(url, schema) as db:
        told = [(f"{pack}.{view.name}", await refusal(db, view)) for pack, view in every]
    if wrong := [Problem("E0234", f"view {name}: {why}") for name, why in told if why]:
        raise JobsdError(tuple(wrong), Exit.CONFIGURATION)
    return len(every)


def ok(what: str, detail: str) -> None:
    click.echo(f"  {click.style('ok', fg='green')}  {what:<14} {detail}")


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
