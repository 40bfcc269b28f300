"""The command line's root: every command in one table, the options that all of them take, how it ends.

A command's module is imported when the command is used and not before, so that `--help` stays fast. What a failure
looks like is `failure`'s part.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

import click

from jobsd import __version__
from jobsd.cli import failure
from jobsd.domain.errors import Exit, did_you_mean

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

FORMATS = ("table", "json", "jsonl", "tsv")


class Entry(NamedTuple):
    """Where a command is, what it is for, and under which heading it is listed."""

    where: str
    help: str
    group: str


COMMANDS = {
    "dev": Entry("jobsd.cli.dev:dev", "start everything here: PostgreSQL, schema, daemon", "Start"),
    "demo": Entry("jobsd.cli.demo:demo", "", ""),  # make demo
    "serve": Entry("jobsd.cli.serve:serve", "run the daemon; needs DATABASE_URL", "Start"),
    "check": Entry("jobsd.cli.check:check", "prove configuration, handlers, database and schema", "Start"),
    "status": Entry("jobsd.cli.status:status", "nodes, jobs and runs at a glance", "Look"),
    "job": Entry("jobsd.cli.job:job", "jobs: list, show, next slots, why it does not run", "Look"),
    "next": Entry("jobsd.cli.next:next_", "when a job runs next, or what a cron expression means", "Look"),
    "run": Entry("jobsd.cli.run:run", "runs: list, show, their messages", "Look"),
    "view": Entry("jobsd.cli.packs:view", "what packs show: jobsd view PACK.VIEW", "Look"),
    "audit": Entry("jobsd.cli.audit:audit", "who did what and why; whether that was changed since", "Look"),
    "trigger": Entry("jobsd.cli.trigger:trigger", "run a job now", "Act"),
    "act": Entry("jobsd.cli.packs:act", "what packs offer: jobsd act PACK.ACTION", "Act"),
    "emergency-stop": Entry("jobsd.cli.emergency_stop:emergency_stop", "end everything that runs, on all nodes", "Act"),
    "reload": Entry("jobsd.cli.reload:reload", "have the daemon read its configuration again", "Act"),
    "token": Entry("jobsd.cli.token:token", "who may ask over TCP: create, list, revoke", "Set up"),
    "db": Entry("jobsd.cli.db:db", "schema: migrate, status, the SQL that is used", "Set up"),
    "config": Entry("jobsd.cli.config:config", "what is configured, and where it comes from", "Set up"),
    "docs": Entry("jobsd.cli.docs:docs", "write docs/JOBS.md from the registry", "Set up"),
    "completion": Entry(
        "jobsd.cli.completion:completion", "finish commands, job names and run ids in a shell", "Set up"
    ),
    "explain": Entry("jobsd.cli.explain:explain", "what an error code or a configuration key means", "Set up"),
}
NOUNS = ("job", "run", "token")  # also in the plural


class Root(click.Group):
    """Commands by name from `COMMANDS`; what is not there is answered with what is meant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = cmd_name[:-1] if cmd_name[:-1] in NOUNS and cmd_name.endswith("s") else cmd_name
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name].where.split(":")
        command: click.Command = getattr(import_module(module), attribute)
        with_global_options(command)
        if "_JOBSD_COMPLETE" in os.environ:  # a shell asks
            from jobsd.cli.completion import know_names

            know_names(command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list["CompletionItem"]:
        """Commands from the table, so that none is imported for it; then the options."""
        from click.shell_completion import CompletionItem

        found = [(name, entry) for name, entry in COMMANDS.items() if entry.group and name.startswith(incomplete)]
        commands = [CompletionItem(name, help=entry.help) for name, entry in found]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            close = did_you_mean(name, COMMANDS)
            meant = f'  did you mean "{close}"?' if close else ""
            raise click.UsageError(f'there is no command "{name}".{meant}', ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for group in filter(None, dict.fromkeys(entry.group for entry in COMMANDS.values())):
            with formatter.section(group):
                formatter.write_dl(
                    [(name, entry.help) for name, entry in COMMANDS.items() if entry.group == group], col_max=16
                )


def keep(ctx: click.Context, param: click.Parameter, value: object) -> None:
    """Options that all commands share lie in the root's object, wherever on the line they stood."""
    options = ctx.find_root().ensure_object(dict)
    if value not in (None, False):
        options[param.name] = value


def global_options() -> list[click.Option]:
    return [
        click.Option(["--config"], metavar="FILE", help="the configuration", callback=keep, expose_value=False),
        click.Option(["--url"], metavar="URL", help="a daemon elsewhere", callback=keep, expose_value=False),
        click.Option(["--socket"], metavar="PATH", help="a daemon's socket", callback=keep, expose_value=False),
        click.Option(
            ["-o", "--output"], type=click.Choice(FORMATS), help="form of the answer", callback=keep, expose_value=False
        ),
        click.Option(["-v", "--verbose"], is_flag=True, help="tell more", callback=keep, expose_value=False),
    ]


def with_global_options(command: click.Command) -> None:
    """Let `command` and all below it take the shared options too. One that it declares itself stays its own."""
    taken = {name for param in command.params for name in (*param.opts, param.name)}
    for option in global_options():
        if not taken & {*option.opts, option.name}:
            option.hidden = True  # told by `jobsd --help`
            command.params.append(option)
    if isinstance(command, click.Group):
        for below in command.commands.values():
            with_global_options(below)


def version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        click.echo(f"jobsd {__version__}")
        ctx.exit()


root = Root(
    name="jobsd",
    help="Background jobs on PostgreSQL: scheduled, queued, started by hand.",
    epilog="jobsd COMMAND --help tells more.",
    params=[
        *global_options(),
        click.Option(["--version"], is_flag=True, is_eager=True, expose_value=False, callback=version, help="which"),
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def run(args: Sequence[str]) -> int:
    """Run one command line. Answers the exit status; nothing is raised."""
    options: dict[str, object] = {}
    try:
        answer = root.main(list(args), prog_name="jobsd", standalone_mode=False, obj=options)
        sys.stdout.flush()
    except BaseException as error:  # the last one to hear of it, whatever it is
        asked = bool(options.get("verbose")) or not {"-v", "--verbose"}.isdisjoint(args)  # it may have failed to parse
        return failure.report(error, verbose=asked)
    return answer if isinstance(answer, int) else Exit.OK
