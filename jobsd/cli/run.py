"""`jobsd run`: the runs there are, one of them whole, and what it said while it ran."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from jobsd.cli import render, run_acts, words
from jobsd.cli.render import Column, Row
from jobsd.cli.run_watch import STATES, watch
from jobsd.cli.watch import progress_line


def _took(run: Mapping[str, Any]) -> str:
    """How long it took, or has taken so far."""
    spent, began = run.get("duration_s"), words.instant(run.get("started_at"))
    if spent is None and began and run["state"] == "running":
        spent = (datetime.now(UTC) - began).total_seconds()
    return "" if spent is None else words.span(spent)


def _error(run: Mapping[str, Any]) -> str:
    return str(run.get("error") or "").strip().split("\n", 1)[0]


RESULT = Column("result", kind="json", wide=True)
COLUMNS = (
    Column("id", "RUN"),
    Column("job"),
    Column("state", kind="state"),
    Column("due_at", "DUE", "ago"),
    Column("duration_s", "TOOK", show=_took),
    Column("finished_at", "ENDED", "ago"),
    Column("attempts"),
    Column("actor", "BY"),
    Column("error", show=_error, wide=True),
)
FACTS = (
    Column("id", "RUN"),
    Column("job"),
    Column("state", kind="state"),
    Column("progress", show=lambda run: " ".join(progress_line(run).split())),
    Column("actor", "ASKED FOR BY"),
    Column("reason"),
    Column("slot_at"),
    Column("due_at"),
    Column("created_at"),
    Column("started_at"),
    Column("finished_at"),
    Column("duration_s", "TOOK", "span"),
    Column("node"),
    Column("fence"),
    Column("attempts"),
    Column("retries"),
    Column("priority"),
    Column("lock_key"),
    Column("tags"),
    Column("idempotency_key"),
    Column("dry_run"),
    Column("params", "PARAMETERS"),
    Column("error_kind"),
    Column("error"),
    RESULT,
)
ATTEMPTS = (
    Column("number", "ATTEMPT"),
    Column("outcome"),
    Column("node"),
    Column("started_at", "STARTED", "ago"),
    Column("duration_s", "TOOK", "span"),
    Column("exit_code", "EXIT"),
    Column("cpu_seconds", "CPU", "span"),
    Column("peak_memory_bytes", "MEMORY", show=lambda a: _mebibytes(a.get("peak_memory_bytes"))),
    Column("error", show=_error, wide=True),
)


def _mebibytes(size: int | None) -> str:
    return "" if size is None else f"{size / (1 << 20):.0f} MiB"


@click.group("run")
def run() -> None:
    """Runs: the requests to execute a job, and what became of them."""


for act in (watch, *run_acts.COMMANDS):
    run.add_command(act)


@run.command("list")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only in this state; repeatable.")
@click.option("--job", metavar="JOB", help="Only those of this job.")
@click.option("--tag", "tags", multiple=True, metavar="NAME:VALUE", help="Only those with this tag; repeatable.")
@click.option("--since", metavar="TIME", help="Only those made since: 24h, 7d, or 2026-11-22T02:30:00Z.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="At most so many.")
@click.pass_context
def list_(
    ctx: click.Context, /, limit: int, states: tuple[str, ...], tags: tuple[str, ...], **more: str | None
) -> None:
    """The latest runs, the newest first.

    \b
    Examples:
      jobsd run list --state failed --since 24h
      jobsd runs list --job nightly-report --tag language:fr -o jsonl
    """
    from jobsd.cli.client import client_of

    found = client_of(ctx).pages("/runs", limit, state=states, tag=tags, **more)
    render.rows(found, COLUMNS, render.output_of(ctx), "no such runs. make one: jobsd trigger JOB")


@run.command("show")
@click.argument("id_", metavar="RUN", type=click.IntRange(1))
@click.pass_context
def show(ctx: click.Context, id_: int) -> None:
    """One run with its attempts, errors word for word.

    \b
    Example:
      jobsd run show 42 -o json
    """
    from jobsd.cli.client import client_of

    client, output = client_of(ctx), render.output_of(ctx)
    found = client.get(f"/runs/{id_}")
    tries = client.get(f"/runs/{id_}/attempts")["items"]
    if output in ("json", "jsonl"):
        return render.record({**found, "attempt_list": tries}, FACTS, output)
    render.record(found, FACTS, output)
    if output == "table" and tries:
        click.echo()
        render.rows(tries, ATTEMPTS, output)
        _evidence(tries)
    return None


def _evidence(tries: Sequence[Mapping[str, Any]]) -> None:
    """What proved that an attempt was lost, a line each."""
    for attempt in tries:
        if proof := attempt.get("evidence"):
            facts = [words.printable(f"{name} {words.plain(value)}") for name, value in proof.items()]
            click.echo(f"evidence of attempt {attempt['number']} ({attempt['outcome']}): {', '.join(facts)}")


@run.command("logs")
@click.argument("id_", metavar="RUN", type=click.IntRange(1))
@click.option("--follow", "-f", is_flag=True, help="Stay until the run is over.")
@click.pass_context
def logs(ctx: click.Context, id_: int, follow: bool) -> None:
    """What a run said: its messages, and the end of each attempt's output.

    With --follow the exit status is that of the command, not of the run; for that: jobsd trigger JOB --wait.

    \b
    Example:
      jobsd run logs 42 --follow
    """
    from jobsd.cli.client import client_of
    from jobsd.cli.follow import follow as stay
    from jobsd.cli.follow import messages
    from jobsd.cli.watch import Lines

    client, output = client_of(ctx), render.output_of(ctx)
    say = _line if output in ("table", "tsv") else _silent
    lines = Lines(say, progress=False, iso=output == "tsv")
    found = stay(client, id_, lines) if follow else client.get(f"/runs/{id_}")
    said = list(messages(client.get, id_))
    tries = client.get(f"/runs/{id_}/attempts")["items"]
    if output in ("json", "jsonl"):
        return _as_json(found, said, tries, output)
    for message in () if follow else said:
        lines.message(message)
    for attempt in tries:
        _output(attempt, many=len(tries) > 1)
    return None


def _line(text: str) -> None:
    click.echo(text, color=True)
    sys.stdout.flush()


def _silent(text: str) -> None:
    """For the forms that are written whole at the end."""


def _output(attempt: Mapping[str, Any], many: bool) -> None:
    """The end of what an attempt wrote: as it is in a pipe, made harmless on a terminal."""
    if not attempt.get("output"):
        return
    if many:
        click.echo(f"--- output of attempt {attempt['number']}", err=True)
    text = words.printable(attempt["output"]) if sys.stdout.isatty() else attempt["output"]
    click.echo(text, nl=not text.endswith("\n"), color=True)  # whatever it is: click would take colours out


def _as_json(found: Row, messages: list[Row], tries: list[Row], output: str) -> None:
    if output == "jsonl":
        return render.rows(messages, (), output)
    outputs = [{"number": attempt["number"], "output": attempt.get("output")} for attempt in tries]
    whole = {"run": found["id"], "state": found["state"], "messages": messages, "outputs": outputs}
    return render.record(whole, (), output)
