"""`jobsd job`: the jobs there are, one of them whole, its next slots, why it does not run, switching it off and on."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from jobsd.cli import render, words
from jobsd.cli.next import next_
from jobsd.cli.render import Column
from jobsd.cli.run import COLUMNS as RUNS


def _enabled(job: Mapping[str, Any]) -> str:
    return "enabled" if job.get("enabled", True) else "disabled"


COLUMNS = (
    Column("name", "JOB"),
    Column("enabled", "IS", show=_enabled),
    Column("last_state", "LAST", "state"),
    Column("last_finished_at", "ENDED", "ago"),
    Column("next_at", "NEXT", "ago"),
    Column("schedule", wide=True),
    Column("description", "PURPOSE", wide=True),
)
FACTS = (
    Column("name", "JOB"),
    Column("description", "PURPOSE"),
    Column("schedule", "WHEN"),
    Column("enabled", "IS", show=_enabled),
    Column("disabled_by"),
    Column("disabled_reason", "BECAUSE"),
    Column("next_at", "NEXT", "ago"),
    Column("next", "THEN", show=lambda job: _instants(job["next"][1:])),
    Column("last_run"),
    Column("last_state", kind="state"),
    Column("last_started_at", "STARTED", "ago"),
    Column("last_finished_at", "ENDED", "ago"),
    Column("kind"),
    Column("priority"),
    Column("pool"),
    Column("runbook", show=lambda job: _lines(job["runbook"])),
    Column("definition", show=lambda job: _lines(job["definition"])),
)
SWITCHED = (Column("name"), Column("enabled"))
WHY = (Column("job"), Column("running"), Column("reasons"), Column("next_at"))


def _instants(found: Sequence[str]) -> str:
    return "\n".join(words.clock(at) for text in found if (at := words.instant(text)))


def _lines(table: Mapping[str, Any]) -> str:
    """A line for each key that holds something."""
    told = {key: value for key, value in table.items() if value not in (None, "", [], {})}
    return "\n".join(f"{key}: {words.told(value)}" for key, value in told.items())


@click.group("job")
def job() -> None:
    """Jobs: what is in the registry, when it runs and why it does not."""


job.add_command(next_)


@job.command("list")
@click.pass_context
def list_(ctx: click.Context) -> None:
    """All jobs, with their last run and next slot.

    \b
    Example:
      jobsd job list
      jobsd jobs list -o tsv | cut -f1
    """
    from jobsd.cli.client import client_of

    found = client_of(ctx).pages("/jobs", 1_000_000)
    render.rows(found, COLUMNS, render.output_of(ctx), "no jobs yet. see: jobsd explain jobs.NAME")


@job.command("show")
@click.argument("name", metavar="JOB")
@click.pass_context
def show(ctx: click.Context, name: str) -> None:
    """One job: definition, schedule in plain English, runbook.

    \b
    Example:
      jobsd job show nightly-report
    """
    from jobsd.cli.client import client_of, segment

    found, output = client_of(ctx).get(f"/jobs/{segment(name)}"), render.output_of(ctx)
    render.record(found, FACTS, output)
    if output == "table" and found["runs"]:
        click.echo()
        render.rows(found["runs"], RUNS, output)


@job.command("why")
@click.argument("name", metavar="JOB")
@click.pass_context
def why(ctx: click.Context, name: str) -> None:
    """Why it is not running just now.

    Disabled and by whom, its key held by which run, waiting for which job, no node for its pool, or simply not due.

    \b
    Example:
      jobsd job why nightly-report
    """
    from jobsd.cli.client import client_of, segment

    answer, output = client_of(ctx).get(f"/jobs/{segment(name)}/why"), render.output_of(ctx)
    if output != "table":
        return render.record(answer, WHY, output)
    for run in answer["running"]:
        click.echo(f"it is running: jobsd run logs {run} --follow")
    for reason in answer["reasons"]:
        click.echo(words.printable(reason["text"]))
    return None


@job.command("enable")
@click.argument("name", metavar="JOB")
@click.option("--reason", metavar="TEXT", help="Why, for the audit log.")
@click.pass_context
def enable(ctx: click.Context, name: str, reason: str | None) -> None:
    """Let it run again: its slots from now on, and what is queued.

    \b
    Example:
      jobsd job enable nightly-report --reason "database is back"
    """
    _switch(ctx, name, "enable", reason)


@job.command("disable")
@click.argument("name", metavar="JOB")
@click.option("--reason", metavar="TEXT", help="Why, for the audit log.")
@click.pass_context
def disable(ctx: click.Context, name: str, reason: str | None) -> None:
    """Run none of its slots and take none of its queued runs, until it is enabled. What runs goes on.

    \b
    Example:
      jobsd job disable nightly-report --reason "database moves today"
    """
    _switch(ctx, name, "disable", reason)


def _switch(ctx: click.Context, name: str, act: str, reason: str | None) -> None:
    from jobsd.cli.client import client_of, segment

    answer = client_of(ctx).post(f"/jobs/{segment(name)}/{act}", {"reason": reason} if reason else {})
    output = render.output_of(ctx)
    if output == "table":
        click.echo(f"{name} is {_enabled(answer)}")
    else:
        render.record(answer, SWITCHED, output)
