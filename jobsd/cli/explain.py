"""`jobsd explain`: an error's code or a configuration key, in words."""

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from jobsd.cli import render
from jobsd.domain.codes import CODES
from jobsd.domain.errors import Exit, did_you_mean, problem

if TYPE_CHECKING:
    from jobsd.registry.schema import Key

KEY = ("key", "value", "default", "description")


@click.command("explain")
@click.argument("what", metavar="CODE|KEY", required=False)
@click.pass_context
def explain(ctx: click.Context, what: str | None) -> None:
    """What an error code or a configuration key means. Without either: the tables that there are.

    \b
    Examples:
      jobsd explain E0204
      jobsd explain jobs.NAME.schedule
      jobsd explain jobs.NAME.schedule.cron
    """
    if what and re.fullmatch(r"[Ee]\d{4}", what):
        code(ctx, what.upper())
    else:
        key(ctx, what or "")


def code(ctx: click.Context, name: str) -> None:
    if name not in CODES:
        raise problem("E0101", f'there is no error code "{name}"', *near(name, CODES), exit_code=Exit.USAGE)
    columns = (render.Column("code"), render.Column("meaning"))
    render.record({"code": name, "meaning": CODES[name]}, columns, render.output_of(ctx))


def key(ctx: click.Context, text: str) -> None:
    """The key itself, then what is in it when it is a table."""
    from jobsd.registry import schema

    known = {one.path: one for one in schema.every_key()}
    name = schema.generic(text)
    found = [known[name]] if name in known else []
    found += [one for one in known.values() if schema.is_directly_in(one.path, name)]
    if not found:
        raise problem("E0101", f'there is no key "{text}"', *near(name, known), exit_code=Exit.USAGE)
    columns = [render.Column(title, wide=title == "description") for title in KEY]
    render.rows([dict(zip(KEY, line(one), strict=True)) for one in found], columns, render.output_of(ctx))


def line(one: "Key") -> tuple[str, str, str, str]:
    default = "required" if one.default is ... else "" if one.default in (None, {}, []) else json.dumps(one.default)
    return one.path, one.kind, "" if one.kind == "table" else default, one.description


def near(word: str, known: Iterable[str]) -> list[str]:
    close = did_you_mean(word, known)
    return [f'did you mean "{close}"?'] if close else []
