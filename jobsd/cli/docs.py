"""`jobsd docs`: writes the runbook page, or tells that it is out of date."""

import os
from pathlib import Path

import click

from jobsd.domain.errors import problem

PAGE = Path("docs/JOBS.md")


@click.command("docs")
@click.option("--to", "file", type=click.Path(path_type=Path), default=PAGE, show_default=True, help="Where to.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 when the page is not what would be written.")
@click.pass_context
def docs(ctx: click.Context, file: Path, check: bool) -> None:
    """Write the runbook page of all jobs: purpose, by hand, when, how long, on failure, whom to ask, parameters.

    \b
    Examples:
      jobsd docs
      jobsd docs --check        in CI: is the page up to date?
    """
    from jobsd.cli.runbook import page
    from jobsd.registry.load import load

    config = (ctx.find_root().obj or {}).get("config")
    text = page(load(Path(config) if config else None, os.environ))
    if check:
        return compare(file, text)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise problem("E0406", f"cannot write {file}: {(error.strerror or str(error)).lower()}") from error
    return click.echo(f"wrote {file}", err=True)


def compare(file: Path, text: str) -> None:
    """Raises E0513, with what differs on standard output, unless `file` reads `text`."""
    from difflib import unified_diff

    before = file.read_text(encoding="utf-8") if file.is_file() else ""
    if before == text:
        return
    lines = unified_diff(before.splitlines(), text.splitlines(), str(file), "the registry", lineterm="")
    click.echo("\n".join(lines))
    raise problem("E0513", f"{file} is not what the registry says now", "write it anew: jobsd docs")
