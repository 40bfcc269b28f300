"""`jobsd job`: the jobs there are, one of them whole, its next slots, why it does not run, switching it off and on."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from jobsd.cli import render, values, words
from jobsd.cli.next import next_
from jobsd.cli.render import Column
from jobsd.cli.run import COLUMNS as RUNS
from jobsd.cli.run_acts import ask, counted


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
    Column("disabled_until", "UNTIL", "ago"),
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
SWITCHED = (Column("name"), Column("enabled"), Column("disabled_until"))
FILLED = tuple(map(Column, ("job", "slots", "ran", "missing", "made", "first_slot_at", "last_slot_at")))
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
@click.option("--for", "lasts", metavar="SPAN", help="Enable it again by itself after so long: 2h, 1d. Default: never.")
@click.option("--reason", metavar="TEXT", help="Why, for the audit log.")
@click.pass_context
def disable(ctx: click.Context, name: str, lasts: str | None, reason: str | None) -> None:
    """Run none of its slots and take none of its queued runs, until it is enabled. What runs goes on.

    \b
    Examples:
      jobsd job disable nightly-report --reason "until somebody looked at it"
      jobsd job disable nightly-report --for 2h --reason "database moves today"
    """
    if lasts:
        values.duration("--for", lasts)
    _switch(ctx, name, "disable", reason, lasts)


@job.command("backfill")
@click.argument("name", metavar="JOB")
@click.option("--from", "start", metavar="TIME", required=True, help="The first slot is not before: 2026-11-01T00:00Z.")
@click.option("--to", "end", metavar="TIME", help="The last slot is not after. Default: now.")
@click.option("--reason", metavar="TEXT", help="Why, for the audit log.")
@click.option("--dry-run", is_flag=True, help="Only say which slots never ran.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_context
def backfill(ctx: click.Context, /, name: str, **asked: Any) -> None:
    """Queue a run for each slot of a stretch of the past that never ran.

    Slots that ran are left, so to ask twice is safe. What the ledger says of the slots stays.

    \b
    Examples:
      jobsd job backfill nightly-report --from 2026-11-01T00:00Z --to 2026-11-08T00:00Z --dry-run
      jobsd job backfill nightly-report --from 2026-11-01T00:00Z --reason "was disabled for a week"
    """
    from jobsd.cli.client import client_of, segment

    client, now = client_of(ctx), datetime.now(UTC)
    end = values.past("--to", asked["end"], now) if asked["end"] else now
    body = {"from": values.past("--from", asked["start"], now).isoformat(), "to": end.isoformat()}
    if asked["reason"]:
        body["reason"] = asked["reason"]
    path, only_count = f"/jobs/{segment(name)}/backfill", asked["dry_run"]
    if not only_count and not asked["yes"] and sys.stdin.isatty():
        missing = client.post(path, {**body, "dry_run": True})["missing"]
        ask(f"Queue {counted(missing)} of {name}?")
    filled(client.post(path, {**body, "dry_run": only_count}), render.output_of(ctx))


def filled(answer: Mapping[str, Any], output: str) -> None:
    """How many slots there are, how many never ran, what was queued for them."""
    if output != "table":
        return render.record(answer, FILLED, output)
    click.echo(f"{answer['slots']} slots, {answer['ran']} of them ran; {answer['made']} runs queued")
    if answer["missing"] and not answer["made"]:
        first, last = (words.instant(answer[key]) for key in ("first_slot_at", "last_slot_at"))
        if first and last:
            click.echo(f"{answer['missing']} never ran, from {words.clock(first)} to {words.clock(last)}")
    return None


def _switch(ctx: click.Context, name: str, act: str, reason: str | None, lasts: str | None = None) -> None:
    from jobsd.cli.client import client_of, segment

    body = {key: value for key, value in (("reason", reason), ("for", lasts)) if value}
    answer = client_of(ctx).post(f"/jobs/{segment(name)}/{act}", body)
    output = render.output_of(ctx)
    if output == "table":
        until = words.instant(answer.get("disabled_until"))
        click.echo(f"{name} is {_enabled(answer)}{f' until {words.clock(until)}' if until else ''}")
    else:
        render.record(answer, SWITCHED, output)
