"""Puts what the API answers on standard output: a table for a terminal, tab-separated text for a pipe, or JSON.

What a cell says is `words`' part. Rich is imported for a table alone, so that scripts and `--help` do not pay for it.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import click

from jobsd.cli import words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Row = Mapping[str, Any]
Kind = Literal["text", "state", "ago", "span", "json"]
FORMATS = ("table", "json", "jsonl", "tsv")
GAP = 2  # blanks between columns
LEAST = 8  # signs that a narrow terminal leaves of a column
ENDLESS = 100_000  # columns of a table that nobody looks at: nothing is cut


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `key` names it in the API's answer and in tab-separated output, `title` in a table."""

    key: str
    title: str = ""
    kind: Kind = "text"
    show: Callable[[Row], str] | None = None  # what a table says instead of the value itself
    wide: bool = False  # the one that gives way when the terminal is narrow

    @property
    def heading(self) -> str:
        return self.title or self.key.replace("_", " ").upper()


def output_of(ctx: click.Context) -> str:
    """The form that was asked for; else a table on a terminal and tab-separated text in a pipe."""
    asked = (ctx.find_root().obj or {}).get("output")
    return str(asked) if asked else "table" if sys.stdout.isatty() else "tsv"


def rows(items: Iterable[Row], columns: Sequence[Column], output: str, empty: str = "") -> None:
    """A list. `empty` is told on standard error when a person asked and there is none."""
    found = list(items)
    if output == "json":
        click.echo(words.indented(found))
    elif output == "jsonl":
        for item in found:
            click.echo(words.compact(item))
    elif output == "tsv":
        click.echo("\t".join(column.key for column in columns))
        for item in found:
            click.echo("\t".join(words.plain(item.get(column.key)) for column in columns), color=True)  # as it is
    elif found:
        _table(found, columns)
    elif empty:
        click.echo(empty, err=True)


def record(item: Row, columns: Sequence[Column], output: str) -> None:
    """One thing: a line for each of its facts on a terminal, else the same as a list of one."""
    if output in ("json", "jsonl"):
        click.echo(words.indented(item) if output == "json" else words.compact(item))
    elif output == "tsv":
        rows([item], columns, output)
    else:
        _facts([(column, item) for column in columns if item.get(column.key) not in (None, "", [], {}, ())])


def console(file: Any = None) -> "Console":
    """A terminal as it is; a pipe without colours and without an edge. NO_COLOR and TERM=dumb are rich's to heed."""
    from rich.console import Console

    file = file or sys.stdout
    return Console(
        file=file,
        width=None if file.isatty() else ENDLESS,
        no_color=True if no_colour(file) else None,
        force_terminal=None if file.isatty() else False,
        highlight=False,
        emoji=False,
        markup=False,
        soft_wrap=False,
    )


def no_colour(file: Any) -> bool:
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb" or not file.isatty()


def cell(column: Column, item: Row, now: datetime) -> "Text":
    """What a person reads in a table."""
    from rich.text import Text

    value = item.get(column.key)
    if column.show:
        return Text(words.printable(column.show(item)))
    if value is None or value == "":
        return Text("")
    if column.kind == "state":
        style = words.SHAPES[value][2] if value in words.SHAPES else ""
        return Text(words.printable(words.state(str(value))), style)
    if column.kind == "ago" and (at := words.instant(value)):
        return Text(words.relative(at, now))
    if column.kind == "span":
        return Text(words.span(float(value)))
    return Text(words.printable(words.told(value)))


def _table(found: Sequence[Row], columns: Sequence[Column]) -> None:
    """A wide column that nothing is in is left out."""
    from rich.table import Table

    now, out = datetime.now(UTC), console()
    cells = {column: [cell(column, item, now) for item in found] for column in columns}
    shown = [column for column in columns if not column.wide or any(cells[column])]
    natural = [max(len(column.heading), *(text.cell_len for text in cells[column])) for column in shown]
    states = [index for index, column in enumerate(shown) if column.kind == "state"]
    widths = fitted(natural, [column.wide for column in shown], out.width - GAP * (len(shown) - 1), kept=states)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_edge=False, header_style="bold")
    for column, width in zip(shown, widths, strict=True):
        table.add_column(column.heading, no_wrap=True, overflow="ellipsis", width=width)
    for row in zip(*(cells[column] for column in shown), strict=True):
        table.add_row(*row)
    out.print(table)


def fitted(natural: Sequence[int], wide: Sequence[bool], room: int, *, kept: Sequence[int] = ()) -> list[int]:
    """Widths that fit into `room`: the wide columns give way first, down to `LEAST`, the widest of them first.

    Then the others do, likewise, but for those that are `kept`: a state is one word, and the one that is looked for.
    What fits even so less than that is cut by the terminal.
    """
    widths = [min(width, max(room, LEAST)) for width in natural]
    others = [i for i in range(len(widths)) if i not in kept]
    for giving in ([i for i, gives in enumerate(wide) if gives], others):
        while sum(widths) > room and (widest := max(giving, key=widths.__getitem__, default=None)) is not None:
            if widths[widest] <= LEAST:
                break
            widths[widest] -= 1
    return widths


def _facts(facts: Sequence[tuple[Column, Row]]) -> None:
    from rich.text import Text

    now, out = datetime.now(UTC), console()
    width = max((len(column.heading) for column, _ in facts), default=0)
    for column, item in facts:
        label = Text(column.heading.lower().ljust(width) + "  ", "bold")
        out.print(label + _indented(cell(column, item, now), width + 2), no_wrap=True, overflow="ignore", crop=False)


def _indented(text: "Text", by: int) -> "Text":
    from rich.text import Text

    return Text("\n" + " " * by, style=text.style).join(text.split("\n"))
