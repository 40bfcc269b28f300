"""`jobsd trigger`: asks for one run of a job and, with --wait, stays with it to its end; or for many at once."""

import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from jobsd.cli import render, values, words
from jobsd.domain.errors import Exit, JobsdError, problem
from jobsd.domain.outcome import without_trace

MADE = (render.Column("created"), render.Column("existing"), render.Column("ids", kind="json", wide=True))


@click.command("trigger")
@click.argument("job")
@click.option("--param", "-p", "pairs", multiple=True, metavar="KEY=VALUE", help="A parameter; as many as needed.")
@click.option("--params", "file", metavar="FILE", help='Parameters from a JSON or .toml file, "-" for standard input.')
@click.option("--key", metavar="KEY", help="Idempotency key: the same key never makes a second run.")
@click.option("--at", metavar="TIME", help="When: 2026-11-22T02:30:00+01:00, or from now: 15m. Default: at once.")
@click.option("--priority", metavar="WORD", help="critical, high, medium, low, or 0 (first) to 9 (last).")
@click.option("--tag", "tags", multiple=True, metavar="NAME:VALUE", help="To find it by; as many as needed.")
@click.option("--dry-run", is_flag=True, help="Recorded and logged, but no work is done.")
@click.option("--reason", metavar="TEXT", help="Why, for the audit log.")
@click.option("--many", metavar="FILE", help='Up to 10,000 runs, one JSON object a line; "-" for standard input.')
@click.option("--wait", is_flag=True, help="Stay until it is over; exit 9 when it did not complete.")
@click.option("--timeout", metavar="SPAN", help="Wait at most so long, then exit 124; the run goes on.")
@click.pass_context
def trigger(ctx: click.Context, /, job: str, wait: bool, timeout: str | None, many: str | None, **asked: Any) -> None:
    """Start a job by hand.

    A parameter's value is JSON where it parses, else text: days=7 is a number, region=eu is text, and
    since='"2024"' is the text 2024.

    \b
    Examples:
      jobsd trigger nightly-report --wait
      jobsd trigger import --param days=7 --param region=eu --reason "late data" --dry-run
      jobsd trigger condense --tag language:fr --priority high
      jobsd trigger condense --many runs.jsonl --key 2026-11-22    # lines like {"params": {"topic": 7}}
    """
    from jobsd.cli.client import client_of, segment

    limit = values.duration("--timeout", timeout) if timeout else None
    if many is not None:
        if wait or any(value for name, value in asked.items() if name not in ("key", "reason")):
            raise values.unfit("--many", "only --key and --reason beside it: the rest stands in its lines")
        return several(client_of(ctx), f"/jobs/{segment(job)}/runs", many, asked, render.output_of(ctx))
    client = client_of(ctx)
    body, key = request(asked)
    run = client.post(f"/jobs/{segment(job)}/runs", body, idempotency_key=key)
    if not wait:
        return accepted(run, render.output_of(ctx))
    deadline = time.monotonic() + limit.total_seconds() if limit else None
    return stay(ctx, client, run["id"], deadline)


def request(asked: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The body of the request, and its idempotency key."""
    body: dict[str, Any] = {"params": values.parameters(asked["pairs"], asked["file"]), "dry_run": asked["dry_run"]}
    if asked["at"]:
        body["due_at"] = values.moment("--at", asked["at"], datetime.now(UTC)).isoformat()
    if asked["priority"]:
        body["priority"] = values.parsed(asked["priority"])
    if asked["tags"]:
        body["tags"] = dict(values.tag(pair) for pair in asked["tags"])
    if asked["reason"]:
        body["reason"] = asked["reason"]
    return body, asked["key"]


def several(client: Any, path: str, file: str, asked: Mapping[str, Any], output: str) -> None:
    """Ask for all runs of a file in one call, all or none."""
    body = {"runs": values.lines("--many", file), **({"reason": asked["reason"]} if asked["reason"] else {})}
    made = client.post(path, body, idempotency_key=asked["key"])
    if output == "table":
        before = f", {made['existing']} made before, for the same keys" if made["existing"] else ""
        return click.echo(f"{made['created']} runs queued{before}")
    return render.record(made, MADE, output)


def accepted(run: Mapping[str, Any], output: str) -> None:
    """The run that was made, or that its idempotency key had made before."""
    from jobsd.cli.run import COLUMNS

    if output != "table":
        return render.record(run, COLUMNS, output)
    before = "" if run.get("created", True) else " (made before, for the same key)"
    click.echo(f"run {run['id']} of {run['job']} {words.state(run['state'])}{before}")
    return click.echo(f"follow it: jobsd run logs {run['id']} --follow", err=True)


def stay(ctx: click.Context, client: Any, run_id: int, deadline: float | None) -> None:
    from jobsd.cli.follow import follow
    from jobsd.cli.watch import watcher

    try:
        with watcher() as seen:
            run = follow(client, run_id, seen, deadline)
    except KeyboardInterrupt:
        click.echo(f"run {run_id} goes on: jobsd run logs {run_id} --follow", err=True)
        raise
    ended(run, render.output_of(ctx))


def ended(run: Mapping[str, Any], output: str) -> None:
    """What came of it on standard output; raises E0505 unless it completed."""
    from jobsd.cli.run import COLUMNS, RESULT

    if output != "table":
        render.record(run, (*COLUMNS, RESULT), output)
    elif run["state"] == "completed":
        click.echo(f"run {run['id']} of {run['job']} {words.state('completed')}{took(run)}")
        if run.get("result") is not None:
            click.echo(words.printable(words.compact(run["result"])))
    if run["state"] != "completed":
        sys.stdout.flush()
        raise not_completed(run)


def took(run: Mapping[str, Any]) -> str:
    return f" after {words.span(run['duration_s'])}" if run.get("duration_s") is not None else ""


def not_completed(run: Mapping[str, Any]) -> JobsdError:
    what = "was cancelled" if run["state"] == "cancelled" else f"failed{took(run)}"
    why = f": {words.printable(without_trace(run['error']))}" if run.get("error") else ""
    hint = f"jobsd run show {run['id']}    jobsd run logs {run['id']}"
    return problem("E0505", f"run {run['id']} of {run['job']} {what}{why}", hint, exit_code=Exit.RUN_FAILED)
