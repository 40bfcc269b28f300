"""`jobsd emergency-stop`: fails every running run by force, on all nodes, and switches all jobs off if asked."""

import sys
from collections.abc import Mapping
from typing import Any

import click

from jobsd.cli import render, words
from jobsd.cli.render import Column
from jobsd.cli.run_acts import ask, counted, yes_option

COLUMNS = (Column("ending"), Column("left"), Column("disabled"))


@click.command("emergency-stop")
@click.option("--reason", metavar="TEXT", required=True, help="Why, for the audit log and for each run's error.")
@click.option("--disable-jobs", is_flag=True, help="Switch every job off too, so that nothing starts again.")
@yes_option
@click.pass_context
def emergency_stop(ctx: click.Context, reason: str, disable_jobs: bool, yes: bool) -> None:
    """End everything that runs, on all nodes, as failed.

    Runs of atomic jobs go on unless they are stale. The daemons stay up; without --disable-jobs they go on with what is
    queued and what comes due.

    \b
    Examples:
      jobsd emergency-stop --reason "the importer floods the mail server" --disable-jobs
      jobsd job enable nightly-report --reason "it was not this one"
    """
    from jobsd.cli.client import client_of

    client = client_of(ctx)
    if not yes and sys.stdin.isatty():
        running = (client.get("/status")["queue"] or {}).get("running", 0)
        ask(f"End {counted(running, 'running run')} on all nodes{' and switch every job off' if disable_jobs else ''}?")
    answer = client.post("/emergency-stop", {"reason": reason, "disable_jobs": disable_jobs})
    output = render.output_of(ctx)
    if output != "table":
        return render.record(answer, COLUMNS, output)
    return told(answer)


def told(answer: Mapping[str, Any]) -> None:
    """What is being ended, what goes on, what is off."""
    click.echo(f"{counted(len(answer['ending']))} being ended: jobsd run list --state running")
    for left in answer["left"]:
        click.echo(words.printable(left["detail"]))
    if answer["disabled"]:
        click.echo(f"{counted(len(answer['disabled']), 'job')} switched off: jobsd job list")
