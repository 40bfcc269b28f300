"""`jobsd reload`: has the daemon read its configuration again, all or nothing, and tells what that changes."""

from collections.abc import Mapping
from typing import Any

import click

from jobsd.cli import render
from jobsd.cli.render import Column

COLUMNS = (Column("change"), Column("job"), Column("keys", wide=True))


@click.command("reload")
@click.option("--reason", metavar="TEXT", help="Why, for the audit log.")
@click.pass_context
def reload(ctx: click.Context, reason: str | None) -> None:
    """Put an edited configuration to work without a restart.

    All of it or nothing: when the daemon refuses it, every mistake is told, the old one stays, and the exit
    status is not 0. A look ahead: jobsd check

    \b
    Example:
      jobsd reload --reason "nightly-report an hour later"
    """
    from jobsd.cli.client import client_of

    answer = client_of(ctx).post("/reload", {"reason": reason} if reason else {})
    output = render.output_of(ctx)
    if output in ("json", "jsonl"):
        return render.record(answer, (), output)
    if output == "tsv":
        return render.rows(details(answer), COLUMNS, output)
    click.echo(answer["plan"])
    return render.rows(details(answer), COLUMNS, output)


def details(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each job that is added, changed or removed."""
    found = [{"change": "added", "job": job, "keys": ""} for job in answer["added"]]
    found += [{"change": "changed", "job": one["job"], "keys": "; ".join(one["keys"])} for one in answer["changed"]]
    return found + [{"change": "removed", "job": job, "keys": ""} for job in answer["removed"]]
