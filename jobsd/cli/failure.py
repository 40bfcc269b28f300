"""How a command that fails tells it: the problems as rendered, one line for anything else, and the exit status."""

import os
import re
import sys
import traceback

import click

from jobsd.domain.errors import Exit, JobsdError, Problem
from jobsd.domain.visible import IN_LINES, visible

PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@\s]+@")
INTERRUPTED = 130


def report(error: BaseException, *, verbose: bool) -> int:
    """Tell `error` on standard error; answer the exit status. A traceback is shown only to who asked for more."""
    if isinstance(error, SystemExit | KeyboardInterrupt | click.Abort | BrokenPipeError):
        return ended(error)
    if verbose:
        click.echo(visible(masked("".join(traceback.format_exception(error)).rstrip()), IN_LINES), err=True)
    if isinstance(error, JobsdError):
        tell(*error.problems)
        return error.exit_code
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return Exit.USAGE
    if isinstance(error, click.ClickException):
        tell(of_usage(error))
        return Exit.USAGE
    text = visible(masked(str(error)).strip(), IN_LINES)
    click.echo(f"internal error: {type(error).__name__}: {text}".rstrip(": "), err=True)
    if not verbose:
        click.echo("  run it again with -v to see where", err=True)
    return Exit.FAILED


def ended(error: BaseException) -> int:
    """The exit status of a command that was ended from outside, or that ended itself."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter's own flush complains
        return Exit.FAILED
    click.echo("interrupted", err=True)
    return INTERRUPTED


def of_usage(error: click.ClickException) -> Problem:
    """What click found wrong with the command line, in the form of all other problems."""
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    hint = f"see: {context.command_path} --help" if context else ""
    return Problem("E0101", message[:1].lower() + message[1:], hints=(hint,) if hint else ())


def tell(*problems: Problem) -> None:
    """Write problems on standard error, an empty line between two; in colour where someone looks."""
    click.echo(
        "\n\n".join(coloured(visible(problem.render(), IN_LINES)) for problem in problems), err=True, color=colourful()
    )


def colourful() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def coloured(text: str) -> str:
    head, _, rest = text.partition(":")
    lines = [re.sub(r"\^+.*", lambda m: click.style(m[0], fg="red"), line) for line in rest.split("\n")]
    return click.style(head, fg="red", bold=True) + ":" + "\n".join(lines)


def masked(text: str) -> str:
    """`text` with the passwords of addresses left out."""
    return PASSWORD.sub(r"\1***@", text)
