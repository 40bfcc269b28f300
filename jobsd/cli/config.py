"""`jobsd config`: what is configured, from where, and what could be."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobsd.cli import render
from jobsd.cli.render import Column

if TYPE_CHECKING:
    from jobsd.registry.load import Registry

VALUES = (Column("key", "KEY"), Column("value", "VALUE", "json", wide=True))
ORIGIN = Column("origin", "ORIGIN")


@click.group("config")
def config() -> None:
    """What is configured, and where it comes from: flag over environment over file over default."""


def loaded(ctx: click.Context) -> "Registry":
    from jobsd.registry.load import load

    return load(asked(ctx), os.environ)


def asked(ctx: click.Context) -> Path | None:
    path = (ctx.find_root().obj or {}).get("config")
    return Path(path) if path else None


@config.command("show")
@click.argument("key", required=False)
@click.option("--origin", is_flag=True, help="Also where each value comes from.")
@click.pass_context
def show(ctx: click.Context, key: str | None, origin: bool) -> None:
    """Every effective value, or those below KEY. Secrets are ***.

    \b
    Examples:
      jobsd config show --origin
      jobsd config show database
    """
    from jobsd.registry.show import values

    lines = [line._asdict() for line in values(loaded(ctx)) if key is None or is_below(line.key, key)]
    if not lines:
        raise click.UsageError(f'there is no key "{key}"; jobsd config show lists them', ctx)
    render.rows(lines, (*VALUES, ORIGIN) if origin else VALUES, render.output_of(ctx))


def is_below(key: str, table: str) -> bool:
    return key == table or key.startswith((f"{table}.", f"{table}["))


@config.command("schema")
def schema() -> None:
    """Print a JSON Schema of the configuration, for editors.

    \b
    Example:
      jobsd config schema > jobsd.schema.json     then, in jobsd.toml: #:schema ./jobsd.schema.json
    """
    from jobsd.registry.schema import document

    click.echo(json.dumps(document(), ensure_ascii=False, indent=2))


@config.command("path")
@click.pass_context
def path(ctx: click.Context) -> None:
    """Print the files that make up the configuration, the root first."""
    from jobsd.registry import files

    root = files.find(asked(ctx), os.environ)
    if root is None:
        raise files.none_found()
    read = files.read(root)
    for file in (root, *(found for found in files.included(read) if isinstance(found, Path))):
        click.echo(file)
