"""`jobsd completion`: what a shell needs to finish commands, options, job names and run ids.

The shell asks this very command for what fits, with `_JOBSD_COMPLETE` set; names and ids come from the daemon, within
a second or not at all.
"""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

COMPLETE_S = 1.0
MOST = 100
SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_JOBSD_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Write the completion of a shell, for it to load.

    \b
    Examples:
      jobsd completion bash > ~/.local/share/bash-completion/completions/jobsd
      jobsd completion zsh > "${fpath[1]}/_jobsd"
      jobsd completion fish > ~/.config/fish/completions/jobsd.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise AssertionError(f"click knows {shell}")
    click.echo(kind(ctx.find_root().command, {}, "jobsd", VARIABLE).source())


class JobName(click.types.StringParamType):
    """The name of a job that the daemon has."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [
            CompletionItem(job["name"], help=job["schedule"])
            for job in _asked(ctx, "/jobs")
            if job["name"].startswith(incomplete)
        ]


class RunNumber(click.IntRange):
    """The number of one of the latest runs."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [
            CompletionItem(str(run["id"]), help=f"{run['job']} {run['state']}")
            for run in _asked(ctx, "/runs")
            if str(run["id"]).startswith(incomplete)
        ]


def know_names(command: click.Command) -> None:
    """Have the arguments and options of `command` that stand for jobs and runs complete to those there are."""
    for param in command.params:
        match (param.metavar or param.name or "").strip("[].").upper():
            case "JOB":
                param.type = JobName()
            case "RUN":
                param.type = RunNumber(1)
    if isinstance(command, click.Group):
        for below in command.commands.values():
            know_names(below)


def _asked(ctx: click.Context, path: str) -> list[Mapping[str, Any]]:
    """What the daemon lists; nothing where it cannot be asked: a shell that waits for an answer has no use for why."""
    from jobsd.cli.address import find
    from jobsd.cli.client import Client
    from jobsd.domain.errors import JobsdError

    try:
        client = Client(find(ctx.find_root().obj or {}), COMPLETE_S)
        with closing(client.connection):
            return list(client.pages(path, MOST))
    except JobsdError:
        return []
