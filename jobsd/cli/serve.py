"""`jobsd serve`: the daemon, in the foreground, as systemd starts it."""

import os
from pathlib import Path

import click

from jobsd.domain.errors import Exit, JobsdError

BAD_START = {Exit.CONFIGURATION, Exit.SCHEMA, Exit.USAGE}  # not mended by starting again


@click.command()
@click.pass_context
def serve(ctx: click.Context) -> int:
    """Run the daemon: schedules, queue, API. Needs DATABASE_URL, or [database] url in the configuration.

    Signals: HUP reads the configuration again; the first TERM or INT lets runs finish, the second ends them, the third
    ends the process; USR1 writes the state to the log. Exit status 78: a start that no restart would mend.

    \b
    Example:
      DATABASE_URL=postgresql://jobsd@db1/app jobsd serve --config /etc/jobsd/jobsd.toml
    """
    import uvloop

    from jobsd.daemon import serve as serve_daemon
    from jobsd.handlers import check_handlers
    from jobsd.registry.load import Registry, load

    options = ctx.find_root().ensure_object(dict)
    config = Path(options["config"]) if "config" in options else None

    def again() -> Registry:
        return load(config, os.environ, also=check_handlers)

    try:
        return uvloop.run(serve_daemon(again))
    except JobsdError as error:
        if error.exit_code in BAD_START:
            raise JobsdError(error.problems, Exit.BAD_START, error.detail) from error
        raise
