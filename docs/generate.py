"""Writes the parts of docs/ that come from the code, so that they cannot fall behind: `make docs`.

In a page such a part stands between `<!-- generated: NAME -->` and `<!-- /generated -->`; all else there is written by
hand. COVERAGE.md and FAULTS.md are made by `docs/coverage.py`, JOBS.md by `jobsd docs`.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import click

from docs.coverage import coverage, faults
from jobsd.cli.root import COMMANDS, FORMATS, root
from jobsd.domain.events import RunEnded
from jobsd.domain.outcome import Settlement
from jobsd.domain.run import ClaimedRun, Fence, RunId, RunState
from jobsd.observe.metrics import Metrics
from jobsd.registry.schema import Key, every_key
from jobsd.web.app import ROUTES

DOCS = Path(__file__).parent
PART = re.compile(r"(<!-- generated: (?P<name>[a-z]+) -->\n).*?(<!-- /generated -->)", re.DOTALL)


def cell(text: object) -> str:
    """Text within a table's cell."""
    return " ".join(str(text).split()).replace("|", "\\|")


# -- configuration


def keys() -> Iterator[str]:
    """Every key of the configuration, table by table."""
    tables: dict[str, list[Key]] = {}
    about = {key.path: key.description for key in every_key()}
    for key in every_key():
        if key.path != "jobs" and not is_whole_table(key):
            tables.setdefault(table_of(key.path), []).append(key)
    for table, own in tables.items():
        yield f"### {heading(table)}\n"
        if text := about.get(table.removesuffix("[]")):
            yield f"{text[:1].upper()}{text[1:].rstrip('.')}.\n"
        yield "| Key | Value | Default | What for |"
        yield "| --- | --- | --- | --- |"
        yield from (f"| `{key.path}` | {cell(key.kind)} | {default(key)} | {cell(key.description)} |" for key in own)
        yield ""


def table_of(path: str) -> str:
    return path.rpartition(".")[0]


def heading(table: str) -> str:
    if table.endswith("[]"):
        return f"`{table.removesuffix('[]')} = [{{ … }}]`"
    return f"`[{table}]`" if table else "Top of the file"


def is_whole_table(key: Key) -> bool:
    """A table of the daemon's settings: its keys are told under a heading of their own."""
    return key.kind == "table" and "." not in key.path


def default(key: Key) -> str:
    if key.default is ...:
        return "**required**"
    if key.default in (None, "", {}, []) or key.kind == "table":
        return ""
    return f"`{literal(key.default)}`"


def literal(value: object) -> str:
    """As it would stand in the file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


# -- commands


def commands() -> Iterator[str]:
    """Every command with its options and examples."""
    context = click.Context(root, info_name="jobsd")
    for name in COMMANDS:
        command = root.get_command(context, name)
        if command is not None and not command.hidden:
            yield from of_command(command, click.Context(command, context, info_name=name))


def of_command(command: click.Command, context: click.Context) -> Iterator[str]:
    usage = " ".join(["jobsd", *context.command_path.split()[1:], *command.collect_usage_pieces(context)])
    yield f"{'##' if context.parent and context.parent.parent is None else '###'} `{context.command_path}`\n"
    about, _, examples = (command.help or "").partition("\b\n")
    yield f"{' '.join(about.split())}\n"
    if not isinstance(command, click.Group):
        yield f"```\n{usage}\n```\n"
    yield from options(command, context)
    if lines := examples.strip().split("\n")[1:]:
        yield "\n".join(["```", *(line.strip() for line in lines), "```\n"])
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from of_command(below, click.Context(below, context, info_name=name))


def options(command: click.Command, context: click.Context) -> Iterator[str]:
    own = [param for param in command.params if isinstance(param, click.Option) and not param.hidden]
    if not own:
        return
    yield "| Option | What for |"
    yield "| --- | --- |"
    for option in own:
        names = ", ".join(f"`{name}`" for name in option.opts)
        takes = "" if option.is_flag else f" {cell(option.make_metavar(context))}"
        yield f"| {names}{takes} | {cell(option.help)}{told_default(option)} |"
    yield ""


def told_default(option: click.Option) -> str:
    return f" Default: `{option.default}`." if option.show_default is True and option.default is not None else ""


def shared() -> Iterator[str]:
    """The options that every command takes."""
    yield from options(root, click.Context(root, info_name="jobsd"))
    yield f"Forms of `--output`: {', '.join(f'`{form}`' for form in FORMATS)}."


# -- HTTP and metrics


def routes() -> Iterator[str]:
    """Every address that the daemon answers at."""
    yield "| Method | Address | What for |"
    yield "| --- | --- | --- |"
    for route in ROUTES:
        yield f"| {route.method} | `{route.path}` | {cell(route.handle.__doc__)} |"


NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN = ClaimedRun(RunId(1), "JOB", Fence(1), 1, 0, 2, {}, False, None, NOW, NOW, None, None)


def metrics() -> Iterator[str]:
    """Every metric with its labels, read off a scrape in which each has a value."""
    fed = Metrics(["JOB"])
    fed.queue({"queued": 0, "running": 0}, 0.0)
    fed.loops({"claimer": 0.0})
    fed(RunEnded(RUN, Settlement(RunState.COMPLETED, "completed", "completed"), 1.0))
    text = fed.render()[0].decode()
    yield "| Metric | Type | Labels | What it tells |"
    yield "| --- | --- | --- | --- |"
    for name, told in re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE):
        kind = re.search(rf"^# TYPE {name} (\w+)$", text, re.MULTILINE)
        sample = re.search(rf"^{name}(?:_bucket)?(?:\{{(.*?)\}})? ", text, re.MULTILINE)
        labels = [label for label in re.findall(r'(\w+)="', sample[1] or "") if label != "le"] if sample else []
        shown = ", ".join(f"`{label}`" for label in labels)
        yield f"| `{name}` | {kind[1] if kind else ''} | {shown} | {cell(told)} |"


# -- pages

PARTS: Mapping[str, Callable[[], Iterator[str]]] = {
    "keys": keys,
    "commands": commands,
    "shared": shared,
    "routes": routes,
    "metrics": metrics,
    "coverage": coverage,
    "faults": faults,
}


def pages() -> Iterator[tuple[Path, str, str]]:
    """Each page that has generated parts: where it is, its text now, and the text that it should have."""
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        if PART.search(text):
            yield page, text, PART.sub(filled, text)


def filled(part: re.Match[str]) -> str:
    body = "\n".join(PARTS[part["name"]]()).rstrip("\n")
    return f"{part[1]}\n{body}\n\n{part[3]}"


def main() -> None:
    for page, now, wanted in pages():
        if now != wanted:
            page.write_text(wanted, encoding="utf-8")
            sys.stderr.write(f"wrote {page}\n")


if __name__ == "__main__":
    main()
