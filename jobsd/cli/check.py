"""`jobsd check`: everything that start-up would find, found before."""

import os
from pathlib import Path

import click


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
    if not offline:
        database(ctx)


def database(ctx: click.Context) -> None:
    """Raises what `jobsd serve` would: E0301 to E0308."""
    from jobsd.cli import db
    from jobsd.store import migrate

    url, schema = db.database(ctx)
    status = db.run(url, migrate.status(url, schema))
    ok("database", "reachable")
    status.require_current()
    ok("schema", f'"{schema}", {counted(len(status.migrations), "migration")}')


def ok(what: str, detail: str) -> None:
    click.echo(f"  {click.style('ok', fg='green')}  {what:<14} {detail}")


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
