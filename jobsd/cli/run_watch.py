"""`jobsd run watch`: one run to its end, or a list of runs as they move."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from jobsd.cli import render, values, words
from jobsd.domain.errors import Exit, problem
from jobsd.domain.run import RunState

STATES = [state.value for state in RunState]


@click.command("watch")
@click.argument("id_", metavar="[RUN]", required=False, type=click.IntRange(1))
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only in this state; repeatable.")
@click.option("--job", metavar="JOB", help="Only those of this job.")
@click.option("--tag", "tags", multiple=True, metavar="NAME:VALUE", help="Only those with this tag; repeatable.")
@click.option("--timeout", metavar="SPAN", help="With RUN: wait at most so long, then exit 124; the run goes on.")
@click.pass_context
def watch(ctx: click.Context, /, id_: int | None, timeout: str | None, **narrowed: Any) -> None:
    """Stay with a run to its end, or see runs move until Ctrl-C.

    With RUN: its messages, a bar with its progress, its result; the exit status is 9 when it did not complete.
    Without: a line for every move of the runs that match; also those that are made meanwhile.

    \b
    Examples:
      jobsd run watch 42
      jobsd run watch --job nightly-report --state failed -o jsonl
    """
    from jobsd.cli.client import client_of

    client = client_of(ctx)
    if id_ is None:
        if timeout:
            raise problem("E0101", "--timeout: expected RUN with it", exit_code=Exit.USAGE)
        return _list(client, {"state": narrowed["states"], "job": narrowed["job"], "tag": narrowed["tags"]}, ctx)
    if any(narrowed.values()):
        raise problem("E0101", "expected RUN, or options that choose runs, not both", exit_code=Exit.USAGE)
    return _one(ctx, client, id_, timeout)


def _one(ctx: click.Context, client: Any, run: int, timeout: str | None) -> None:
    import time

    from jobsd.cli.trigger import stay

    limit = values.duration("--timeout", timeout) if timeout else None
    stay(ctx, client, run, time.monotonic() + limit.total_seconds() if limit else None)


def _list(client: Any, query: Mapping[str, Any], ctx: click.Context) -> None:
    from jobsd.cli.stream import Stream

    output = render.output_of(ctx)
    stream = Stream(client, "/events", lambda text: click.echo(text, err=True), query)
    for name, data in stream.events():
        if output in ("json", "jsonl"):
            click.echo(words.compact({"event": name, **data}))
        elif line := event_line(name, data, iso=output == "tsv"):
            click.echo(line, color=True)


def event_line(name: str, data: Mapping[str, Any], iso: bool = False) -> str:
    """ "19:02:01  run 42 import ● completed after 1.2 s", or tab-separated: time, event, run, job, state, what else."""
    now = datetime.now(UTC)
    at, job, state, more = now.isoformat() if iso else f"{now:%H:%M:%S}", "", "", ""
    run = data.get("id") or data.get("run") or ""
    if name == "run":
        job, state, more = data["job"], data["state"], _more(data)
    elif name == "progress":
        more = f"{(data['progress'] or 0) * 100:.0f} %  {data.get('note') or ''}".strip()
    elif name == "reset":
        more = f"{data['reason']}: some moves are not shown"
    if iso:
        return "\t".join(words.plain(part) for part in (at, name, run, job, state, more))
    shown = (f"run {run}" if run else "", job, words.state(state) if state else name * (name == "gone"), more)
    return words.printable("  ".join([at, " ".join(filter(None, shown))]))


def _more(run: Mapping[str, Any]) -> str:
    """How it ended, in a line."""
    took = f"after {words.span(run['duration_s'])}" if run.get("duration_s") is not None else ""
    error = str(run.get("error") or "").strip().split("\n", 1)[0] if run["state"] == "failed" else ""
    return ": ".join(filter(None, (took, error)))
