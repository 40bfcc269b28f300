"""`jobsd view` and `jobsd act`: what packs let one look at, and do. The API says what there is and how to show it."""

from collections.abc import Iterable, Mapping
from typing import Any

import click

from jobsd.cli import render, values, words
from jobsd.cli.render import Column, Kind
from jobsd.domain.errors import Exit, problem

VIEWS = (Column("view"), Column("title"), Column("filters", show=lambda view: ", ".join(view["filters"]), wide=True))
ACTIONS = (Column("action"), Column("title"), Column("params", "PARAMETERS", show=lambda act: ", ".join(act["params"])))
DONE = (Column("action"), Column("result", kind="json", wide=True))
KINDS: Mapping[str, Kind] = {"instant": "ago", "json": "json"}


@click.command("view")
@click.argument("name", metavar="[PACK.VIEW]", default="")
@click.option("--filter", "-f", "filters", multiple=True, metavar="NAME=VALUE", help="Narrow it; as many as needed.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True, help="At most so many rows.")
@click.pass_context
def view(ctx: click.Context, name: str, filters: tuple[str, ...], limit: int) -> None:
    """Look at what a pack shows; without a name: what there is to look at.

    \b
    Examples:
      jobsd view
      jobsd view analytics.signals --filter state=open --filter severity=critical
    """
    from jobsd.cli.client import client_of, segment

    client, output = client_of(ctx), render.output_of(ctx)
    if not name:
        return render.rows(_views(client.get("/packs")["items"]), VIEWS, output, "no pack has a view")
    pack, named = _parts(name)
    path, query = f"/packs/{segment(pack)}/{segment(named)}", _pairs(filters)
    first = client.get(path, limit=1, **query)
    columns = [_column(column) for column in first["columns"]]
    return render.rows(client.pages(path, limit, **query), columns, output, "no rows")


@click.command("act")
@click.argument("name", metavar="[PACK.ACTION]", default="")
@click.option("--param", "-p", "pairs", multiple=True, metavar="KEY=VALUE", help="A parameter; as many as needed.")
@click.option("--params", "file", metavar="FILE", help='Parameters from a JSON or .toml file, "-" for standard input.')
@click.option("--reason", metavar="TEXT", help="Why, for the audit log.")
@click.pass_context
def act(ctx: click.Context, name: str, pairs: tuple[str, ...], file: str | None, reason: str | None) -> None:
    """Do what a pack offers, all or nothing; without a name: what there is to be done.

    \b
    Examples:
      jobsd act
      jobsd act analytics.archive_signal --param signal=7 --reason "course has ended"
    """
    from jobsd.cli.client import client_of, segment

    client, output = client_of(ctx), render.output_of(ctx)
    if not name:
        return render.rows(_actions(client.get("/packs")["items"]), ACTIONS, output, "no pack has an action")
    pack, named = _parts(name)
    body: dict[str, Any] = {"params": values.parameters(pairs, file), **({"reason": reason} if reason else {})}
    done = client.post(f"/packs/{segment(pack)}/{segment(named)}", body)
    if output != "table":
        return render.record(done, DONE, output)
    click.echo(f"{done['action']} is done")
    return click.echo(words.printable(words.compact(done["result"]))) if done["result"] is not None else None


def _parts(name: str) -> tuple[str, str]:
    pack, _, rest = name.partition(".")
    if not pack or not rest:
        raise problem("E0101", f'expected PACK.NAME, like "analytics.signals", got "{name}"', exit_code=Exit.USAGE)
    return pack, rest


def _pairs(filters: Iterable[str]) -> dict[str, str]:
    found = dict[str, str]()
    for pair in filters:
        key, equals, value = pair.partition("=")
        if not equals or not key or key in ("limit", "cursor"):
            raise problem("E0101", f'--filter: expected name=value, got "{pair}"', exit_code=Exit.USAGE)
        found[key] = value
    return found


def _column(column: Mapping[str, str]) -> Column:
    kind = KINDS.get(column["kind"], "text")
    return Column(column["name"], column["title"].upper(), kind, wide=column["kind"] in ("text", "json"))


def _views(packs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "view": f"{pack['name']}.{view['name']}",
            "title": view["title"],
            "filters": [f["name"] for f in view["filters"]],
        }
        for pack in packs
        for view in pack["views"]
    ]


def _actions(packs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "action": f"{pack['name']}.{act['name']}",
            "title": act["title"],
            "params": [*act["params"].get("properties", {})],
        }
        for pack in packs
        for act in pack["actions"]
    ]
