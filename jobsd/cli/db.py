"""`jobsd db`: the schema's migrations and roles, and the SQL that jobsd uses, for whoever looks after the database."""

import os
from collections.abc import Coroutine
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import click

from jobsd.cli import render
from jobsd.cli.render import Column

T = TypeVar("T")
MIGRATIONS = (Column("migration"), Column("state"), Column("applied_at", "APPLIED", "ago"))


@click.group("db")
def db() -> None:
    """The schema in PostgreSQL. These commands speak to the database itself, not to the daemon."""


@db.command("migrate")
@click.option("--dry-run", is_flag=True, help="Only tell what is pending.")
@click.pass_context
def migrate(ctx: click.Context, dry_run: bool) -> None:
    """Apply the pending migrations: one transaction each, safe when two nodes do it at once.

    \b
    Examples:
      jobsd db migrate --dry-run
      DATABASE_URL=postgresql:///app jobsd db migrate
    """
    from jobsd.store import migrate as store

    url, schema = database(ctx)
    done = run(url, store.migrate(url, schema, dry_run))
    state = "pending" if dry_run else "applied"
    found = [{"migration": m.label, "state": state, "applied_at": None} for m in done]
    render.rows(found, MIGRATIONS[:2], render.output_of(ctx), "the schema is up to date")


@db.command("status")
@click.pass_context
def status(ctx: click.Context) -> None:
    """What is applied and what is pending; exit 8 unless the schema is the one that this jobsd needs.

    \b
    Example:
      jobsd db status
    """
    from jobsd.store import migrate as store

    url, schema = database(ctx)
    found = run(url, store.status(url, schema))
    changed, unknown = {m.label for m in found.changed}, {m.label for m in found.unknown}
    listed = [
        {
            "migration": m.label,
            "state": _state(m, changed, unknown),
            "applied_at": m.applied_at.isoformat() if m.applied_at else None,
        }
        for m in (*found.migrations, *found.unknown)
    ]
    render.rows(listed, MIGRATIONS, render.output_of(ctx))
    found.require_current()


def _state(migration: Any, changed: set[str], unknown: set[str]) -> str:
    if migration.label in unknown:
        return "unknown"
    if migration.label in changed:
        return "changed"
    return "applied" if migration.applied_at else "pending"


@db.command("sql")
@click.option("--queries", is_flag=True, help="Every query that the daemon runs, instead of the pending migrations.")
@click.pass_context
def sql(ctx: click.Context, queries: bool) -> None:
    """Print the SQL of the pending migrations, to be read or applied by hand; or every query that jobsd runs.

    \b
    Examples:
      jobsd db sql > pending.sql
      jobsd db sql --queries | less
    """
    if queries:
        return print_queries()
    from jobsd.store import migrate as store

    url, schema = database(ctx)
    pending = run(url, store.migrate(url, schema, dry_run=True))
    for migration in pending:
        click.echo(f"-- {migration.label}\n{migration.sql.rstrip()}\n")
    if not pending:
        click.echo("the schema is up to date", err=True)
    return None


@db.command("roles")
def roles() -> None:
    """Print the SQL of the roles of least privilege, for psql: owner, runtime, enqueuer, reader.

    \b
    Example:
      jobsd db roles | psql -d app -v schema=jobsd
    """
    from jobsd.store import migrate as store

    click.echo((store.folder() / "roles.sql").read_text(encoding="utf-8"), nl=False)


def print_queries() -> None:
    """With the schema's usual name; parameters are $1, $2 and so on."""
    from textwrap import dedent

    from jobsd.store.queries import queries

    for name, text in queries().items():
        click.echo(f"-- {name}\n{dedent(text).strip()};\n")


def run(url: str, work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end. A database that cannot be asked becomes E0302, which names it."""
    import asyncio

    from jobsd.store.db import Unavailable
    from jobsd.store.reach import cannot_reach

    began = monotonic()
    try:
        return asyncio.run(work)
    except Unavailable as error:
        raise cannot_reach(url, error, 1, monotonic() - began) from error


def database(ctx: click.Context) -> tuple[str, str]:
    """The address of the database and the schema's name. Raises E0301 when no database is configured.

    DATABASE_URL alone is enough: a schema can be migrated before there is any configuration.
    """
    from jobsd.registry.files import find
    from jobsd.registry.load import load
    from jobsd.registry.settings import DatabaseSettings
    from jobsd.store.reach import no_database

    config = (ctx.find_root().obj or {}).get("config")
    file = find(Path(config) if config else None, os.environ)
    settings = load(file, os.environ).settings.database if file else DatabaseSettings()
    url = settings.direct_url or settings.url
    address = url.get_secret_value() if url else os.environ.get("DATABASE_URL")
    if not address:
        raise no_database(str(file) if file else None)
    return address, settings.schema_name
