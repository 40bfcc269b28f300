"""`jobsd run retry|cancel|delete|change|fail`: what people do with runs, one by one, or all that a filter matches.

Nothing is asked without a terminal; on one, whatever moves many runs, deletes, or ends work is asked about first, with
the count.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from jobsd.cli import render, values, words
from jobsd.cli.render import Column
from jobsd.domain.errors import Exit, problem
from jobsd.domain.run import RunState

Command = TypeVar("Command", bound=Callable[..., Any])
BULK = (Column("matched"), Column("done"), Column("refused_count", "LEFT"))

DONE = {"retry": "retried", "cancel": "cancelled", "delete": "deleted"}


def reason_option(command: Command) -> Command:
    return click.option("--reason", metavar="TEXT", help="Why, for the audit log.")(command)


def yes_option(command: Command) -> Command:
    return click.option("--yes", "-y", is_flag=True, help="Do not ask.")(command)


def filters(command: Command) -> Command:
    """The options that choose runs instead of their numbers."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Only count the runs that match."),
        click.option("--tag", "tags", multiple=True, metavar="NAME:VALUE", help="All with this tag; may be repeated."),
        click.option("--since", metavar="TIME", help="All made since: 24h, 7d, or 2026-11-22T02:30:00Z."),
        click.option("--job", metavar="JOB", help="All of this job."),
        click.option(
            "--state",
            "states",
            multiple=True,
            type=click.Choice([state.value for state in RunState]),
            help="All in this state.",
        ),
        click.argument("ids", metavar="[RUN]...", nargs=-1, type=click.IntRange(1)),
    ):
        command = option(command)
    return yes_option(reason_option(command))


@click.command("retry")
@filters
@click.pass_context
def retry(ctx: click.Context, /, **asked: Any) -> None:
    """Queue failed runs again: a new attempt each, the old ones stay.

    \b
    Examples:
      jobsd run retry 42
      jobsd run retry --job nightly-report --since 24h --reason "the disk is bigger now"
    """
    _act(ctx, "retry", asked)


@click.command("cancel")
@filters
@click.pass_context
def cancel(ctx: click.Context, /, **asked: Any) -> None:
    """Cancel queued runs, and failed ones that nobody means to retry.

    \b
    Examples:
      jobsd run cancel 42 43
      jobsd run cancel --state queued --job import --reason "wrong file"
    """
    _act(ctx, "cancel", asked)


@click.command("delete")
@filters
@click.pass_context
def delete(ctx: click.Context, /, **asked: Any) -> None:
    """Delete finished runs. Their attempts and audit entries stay; runs that are kept for ever do too.

    \b
    Examples:
      jobsd run delete 42
      jobsd run delete --state cancelled --since 7d --dry-run
    """
    _act(ctx, "delete", asked)


@click.command("change")
@click.argument("id_", metavar="RUN", type=click.IntRange(1))
@click.option("--at", metavar="TIME", help="Not before: 2026-11-22T02:30:00+01:00, or from now: 15m.")
@click.option("--priority", metavar="PRIORITY", help="critical, high, medium, low, or 0 (first) to 9 (last).")
@reason_option
@click.pass_context
def change(ctx: click.Context, id_: int, at: str | None, priority: str | None, reason: str | None) -> None:
    """Give a queued run another time or another priority.

    \b
    Example:
      jobsd run change 42 --at 2h --priority low
    """
    from jobsd.cli.client import client_of

    body: dict[str, Any] = {"reason": reason} if reason else {}
    if at:
        body["due_at"] = values.moment("--at", at, datetime.now(UTC)).isoformat()
    if priority:
        body["priority"] = int(priority) if priority.isdigit() else priority
    told(ctx, client_of(ctx).patch(f"/runs/{id_}", body))


@click.command("fail")
@click.argument("id_", metavar="RUN", type=click.IntRange(1))
@click.option("--reason", metavar="TEXT", required=True, help="Why, for the audit log and for the run's error.")
@yes_option
@click.pass_context
def fail(ctx: click.Context, id_: int, reason: str, yes: bool) -> None:
    """End a running run as failed, whatever it does. It is not retried by itself.

    Its node ends the work, with the job's grace. A run of an atomic job can be ended only when it is stale.

    \b
    Example:
      jobsd run fail 42 --reason "hangs on the old server"
    """
    from jobsd.cli.client import client_of

    client = client_of(ctx)
    if not yes and sys.stdin.isatty():
        run = client.get(f"/runs/{id_}")
        ask(f"End run {id_} of {run['job']}, which is {run['state']}?")
    told(ctx, client.post(f"/runs/{id_}/force-fail", {"reason": reason}), "its node ends it now")


COMMANDS: Sequence[click.Command] = (retry, cancel, change, fail, delete)


def _act(ctx: click.Context, act: str, asked: Mapping[str, Any]) -> None:
    """On each of the runs that are named, or on all that the filter matches."""
    chosen = {key: asked[key] for key in ("states", "job", "since", "tags") if asked[key]}
    if bool(asked["ids"]) == bool(chosen):
        raise problem(
            "E0101",
            "expected runs, or a filter for them, and not both",
            f"jobsd run {act} 42 43    jobsd run {act} --job NAME --since 24h",
            exit_code=Exit.USAGE,
        )
    if asked["ids"]:
        return _each(ctx, act, asked)
    return _all(ctx, act, asked)


def _each(ctx: click.Context, act: str, asked: Mapping[str, Any]) -> None:
    from jobsd.cli.client import client_of

    client, ids = client_of(ctx), asked["ids"]
    if asked["dry_run"]:
        raise problem("E0101", "--dry-run counts what a filter matches", "name no runs", exit_code=Exit.USAGE)
    if (act == "delete" or len(ids) > 1) and not asked["yes"]:
        ask(f"{act.capitalize()} {counted(len(ids))}?")
    body = {"reason": asked["reason"]} if asked["reason"] else {}
    for run_id in ids:
        if act == "delete":
            client.delete(f"/runs/{run_id}", **body)
            gone(ctx, run_id)
        else:
            told(ctx, client.post(f"/runs/{run_id}/{act}", body))


def _all(ctx: click.Context, act: str, asked: Mapping[str, Any]) -> None:
    """Counted first, and asked about; then as many requests as it takes."""
    from jobsd.cli.client import client_of

    client = client_of(ctx)
    wanted = {"state": list(asked["states"]), "job": asked["job"], "since": asked["since"], "tag": list(asked["tags"])}
    body: dict[str, Any] = {"filter": {key: value for key, value in wanted.items() if value}}
    if asked["reason"]:
        body["reason"] = asked["reason"]
    if asked["dry_run"] or (not asked["yes"] and sys.stdin.isatty()):
        there = client.post(f"/runs/{act}", {**body, "dry_run": True})
        if asked["dry_run"]:
            return outcome(ctx, act, there, dry_run=True)
        more = "at least " if there["before"] else ""
        ask(f"{act.capitalize()} {more}{counted(there['matched'])}?")
    return outcome(ctx, act, _in_parts(client, act, body))


def _in_parts(client: Any, act: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Ask until all that matched at first is done; what became of it in all."""
    whole: dict[str, Any] = {"matched": 0, "done": 0, "refused": [], "refused_count": 0}
    before: int | None = None
    while True:
        narrowed = {**body["filter"], **({"before": before} if before else {})}
        part = client.post(f"/runs/{act}", {**body, "filter": narrowed})
        for key in whole:
            whole[key] += part[key]
        if (before := part["before"]) is None:
            return whole


def ask(question: str) -> None:
    """Ask on a terminal, and end here unless the answer is yes; without one nothing is asked."""
    if sys.stdin.isatty():
        click.confirm(question, abort=True, err=True)


def counted(count: int, what: str = "run") -> str:
    """ "1 run", "1,200 runs"."""
    return f"1 {what}" if count == 1 else f"{count:,} {what}s"


def told(ctx: click.Context, run: Mapping[str, Any], note: str = "") -> None:
    """The run as it is now."""
    from jobsd.cli.run import COLUMNS

    output = render.output_of(ctx)
    if output != "table":
        return render.record(run, COLUMNS, output)
    more = f" ({note})" if note else ""
    return click.echo(f"run {run['id']} of {run['job']} {words.state(run['state'])}{more}")


def gone(ctx: click.Context, run_id: int) -> None:
    output = render.output_of(ctx)
    if output != "table":
        return render.record({"id": run_id, "deleted": True}, (Column("id"), Column("deleted")), output)
    return click.echo(f"run {run_id} deleted; its history stays: jobsd audit list --run {run_id}")


def outcome(ctx: click.Context, act: str, found: Mapping[str, Any], *, dry_run: bool = False) -> None:
    """What became of all; exit 6 when some were left."""
    output = render.output_of(ctx)
    if output != "table":
        render.record(found, BULK, output)
    elif dry_run:
        click.echo(f"{counted(found['matched'])} would be {DONE[act]}")
    else:
        click.echo(f"{counted(found['done'])} of {found['matched']:,} {DONE[act]}")
    if found["refused"] and output in ("table", "tsv"):
        click.echo(f"left as they are: {counted(found['refused_count'])}", err=True)
        for each in found["refused"][:10]:
            click.echo(f"  {each['code']}: {words.printable(each['detail'])}", err=True)
    if found["refused_count"]:
        ctx.exit(Exit.CONFLICT)
