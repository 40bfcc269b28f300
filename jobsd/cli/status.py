"""`jobsd status`: is it well, is it behind, what comes next. The daemon's verdict on itself, put on one screen."""

from collections.abc import Mapping
from typing import Any

import click

from jobsd.cli import render, words
from jobsd.cli.render import Column
from jobsd.domain.errors import Exit

PARTS = (Column("verdict", "IS", "state"), Column("component"), Column("text", "HOW", wide=True))
NODES = (
    Column("name", "NODE"),
    Column("state"),
    Column("host"),
    Column("pid"),
    Column("version"),
    Column("pools", show=lambda node: ", ".join(node["pools"])),
    Column("started_at", "STARTED", "ago"),
)
DISABLED = (Column("job", "DISABLED"), Column("by"), Column("until", "ENDS", "ago"), Column("reason", wide=True))
NEXT = (Column("slot_at", "NEXT", "ago"), Column("job"), Column("schedule", wide=True))


@click.command("status")
@click.pass_context
def status(ctx: click.Context) -> None:
    """The daemon at a glance: node, lock session, loops, queue, next slots.

    The exit status is 1 when its own verdict is critical: work does not get done.

    \b
    Examples:
      jobsd status
      jobsd status -o json | jq .queue
    """
    from jobsd.cli.client import client_of

    client, output = client_of(ctx), render.output_of(ctx)
    found = client.get("/status")
    components = client.get("/health")["components"]
    parts = [{"component": name.replace("_", " "), **part} for name, part in components.items()]
    if output in ("json", "jsonl"):
        render.record({**found, "components": components}, (), output)
    elif output == "tsv":
        render.rows(parts, PARTS, output)
    else:
        screen(found, parts)
    if found["verdict"] == "critical":
        ctx.exit(Exit.FAILED)


def screen(found: Mapping[str, Any], parts: list[dict[str, Any]]) -> None:
    """What a person wants to see first stands first; other nodes only where there are some."""
    click.echo(headline(found))
    click.echo(of_registry(found["registry"]) + "\n")
    render.rows(parts, PARTS, "table")
    for way_out in found["recommendations"]:
        click.echo(f"  -> {words.printable(way_out)}")
    if len(found["nodes"]) > 1:
        click.echo()
        render.rows(found["nodes"], NODES, "table")
    if found["disabled"]:
        click.echo()
        render.rows(found["disabled"], DISABLED, "table")
    if found["next"]:
        click.echo()
        render.rows(found["next"], NEXT, "table")


def headline(found: Mapping[str, Any]) -> str:
    state = "draining: it starts nothing new" if found["draining"] else words.state(found["verdict"])
    up = words.span(found["uptime_s"])
    return f"jobsd {found['version']} on {found['node']} (pid {found['pid']}), up for {up}: {state}"


def of_registry(registry: Mapping[str, Any]) -> str:
    environment = f", environment {registry['environment']}" if registry["environment"] else ""
    first = registry["files"][0] if registry["files"] else "no file"
    more = f" and {len(registry['files']) - 1} more" if len(registry["files"]) > 1 else ""
    jobs = "1 job" if registry["jobs"] == 1 else f"{registry['jobs']} jobs"
    return f"{jobs}, {registry['scheduled']} scheduled, from {first}{more}{environment}"
