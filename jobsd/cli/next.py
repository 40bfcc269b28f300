"""`jobsd next`: when a job runs next, or what a cron expression means. The second needs no daemon and no database."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobsd.cli import render, words
from jobsd.cli.render import Column
from jobsd.domain.errors import Exit, JobsdError, Place, did_you_mean, problem

if TYPE_CHECKING:
    from jobsd.domain.job import ScheduleSpec

COLUMNS = (
    Column("slot_at", "IN", show=lambda slot: _ahead(slot["slot_at"])),
    Column("local", "SLOT"),
    Column("note", wide=True),
)


def _ahead(slot_at: str) -> str:
    at = words.instant(slot_at)
    return words.relative(at, datetime.now(UTC), units=2) if at else ""


@click.command("next")
@click.argument("job", required=False)
@click.option("--cron", metavar="FIELDS", help="A cron expression instead of a job; needs no daemon.")
@click.option("--timezone", metavar="ZONE", help="The expression's time zone, e.g. Europe/Berlin.  [default: UTC]")
@click.option("-n", "--count", type=click.IntRange(1, 200), default=5, show_default=True, help="How many.")
@click.pass_context
def next_(ctx: click.Context, job: str | None, cron: str | None, timezone: str | None, count: int) -> None:
    """When a job runs next, in plain English and in its own time zone.

    A note tells when daylight saving touches a slot. When no daemon answers, the configuration here is read instead.

    \b
    Examples:
      jobsd next nightly-report -n 3
      jobsd next --cron "30 2 * * *" --timezone Europe/Berlin
    """
    if (job is None) == (cron is None):
        raise click.UsageError("expected a job, or --cron with an expression", ctx)
    if timezone is not None and cron is None:
        raise click.UsageError("--timezone goes with --cron: a job has its own", ctx)
    found = of_cron(cron, timezone or "UTC", count) if cron is not None else of_job(ctx, str(job), count)
    output = render.output_of(ctx)
    if output in ("json", "jsonl"):
        return render.record(found, (), output)
    if output == "table":
        click.echo(headline(found) + "\n")
    return render.rows(found["items"], COLUMNS, output, "no slot to come")


def headline(found: Mapping[str, Any]) -> str:
    name = f"{found['job']}: " if found.get("job") else ""
    off = "" if found.get("enabled", True) else ", but it is disabled: none of these will run"
    return words.printable(f"{name}{found['schedule']}{off}")


def of_job(ctx: click.Context, name: str, count: int) -> Mapping[str, Any]:
    """As the daemon answers; as the configuration here says when there is no daemon to ask."""
    from jobsd.cli.client import client_of, segment

    try:
        found: Mapping[str, Any] = client_of(ctx).get(f"/jobs/{segment(name)}/next", count=count)
    except JobsdError as error:
        asked = ctx.find_root().obj or {}
        if error.exit_code != Exit.UNREACHABLE or asked.get("url") or asked.get("socket"):
            raise
        return of_file(asked.get("config"), name, count)
    return found


def of_file(config: str | None, name: str, count: int) -> Mapping[str, Any]:
    from jobsd.registry.load import load

    registry = load(Path(config) if config else None, os.environ)
    if name not in registry.jobs:
        close = did_you_mean(name, registry.jobs)
        hint = f'did you mean "{close}"?' if close else "all of them: jobsd check"
        raise problem("E0501", f'no job named "{name}"', hint, exit_code=Exit.NOT_FOUND)
    click.echo(f"no daemon answers; as {registry.files[0]} has it", err=True)
    job = registry.jobs[name]
    return {"job": name, "enabled": job.enabled, **slots_of(job.schedule, count)}


def of_cron(cron: str, timezone: str, count: int) -> Mapping[str, Any]:
    from jobsd.domain.job import ScheduleSpec

    with pointing_at(cron, timezone):
        return slots_of(ScheduleSpec(cron=cron, timezone=timezone), count)
    raise AssertionError("unreachable: the block returns or raises")


def slots_of(spec: "ScheduleSpec | None", count: int) -> Mapping[str, Any]:
    """The same fields as the API's answer."""
    from jobsd.domain.coming import coming
    from jobsd.domain.describe import describe
    from jobsd.domain.schedule import schedule_of

    now, schedule = datetime.now(UTC), schedule_of(spec)
    items = [
        {
            "slot_at": slot.slot_at.isoformat().replace("+00:00", "Z"),
            "local": f"{slot.local:%Y-%m-%d %H:%M:%S %Z}",
            "in_s": (slot.slot_at - now).total_seconds(),
            "note": slot.note,
        }
        for slot in coming(schedule, now, count)
    ]
    return {"schedule": describe(schedule), "timezone": spec.timezone if spec else "UTC", "items": items}


@contextmanager
def pointing_at(cron: str, timezone: str) -> Iterator[None]:
    """Tell a mistake in what was typed with a caret under it."""
    from jobsd.domain.schedule import ScheduleError

    try:
        yield
    except ScheduleError as error:
        option, text = ("--timezone", timezone) if error.field == "timezone" else ("--cron", cron)
        width = error.width if error.offset is not None else max(1, len(text))
        place = Place(option, 1, (error.offset or 0) + 1, text, width)
        raise problem(error.code, error.message, place=place, note=error.note, exit_code=Exit.USAGE) from error
