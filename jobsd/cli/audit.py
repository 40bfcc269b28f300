"""`jobsd audit`: who did what and why, whether anybody has changed that since, and all of it as a file."""

from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

import click

from jobsd.cli import render, words
from jobsd.cli.render import Column
from jobsd.domain.errors import Exit, problem

if TYPE_CHECKING:
    from jobsd.cli.client import Client
    from jobsd.domain.errors import JobsdError

RECORDS = 2000  # of an export at once
COLUMNS = (
    Column("at", kind="ago"),
    Column("act"),
    Column("actor", "BY"),
    Column("job"),
    Column("run"),
    Column("reason", wide=True),
    Column("detail", kind="json", wide=True),
)
FACTS = (
    Column("seals"),
    Column("entries", "ENTRIES UNDER THEM"),
    Column("masked", "OF THEM MASKED"),
    Column("unsealed", "NOT SEALED YET"),
    Column("unsealed_since", "SINCE"),
    Column("head", "LATEST SEAL", show=lambda chain: f"{chain['head']['number']} {chain['head']['hash']}"),
)


@click.group("audit")
def audit() -> None:
    """Who did what to which job and run, when and why: of machine and person, never changed, never deleted."""


@audit.command("list")
@click.option("--run", type=click.IntRange(1), help="Only what concerns this run, gone or not.")
@click.option("--job", help="Only what concerns this job.")
@click.option("--actor", help='Only acts of this one: "unix:alice", "token:web", "node:db1", "schedule".')
@click.option("--act", help='Only acts of this kind: "queued", "retry", "disabled", …')
@click.option("--since", metavar="TIME", help="Only since then: 24h, 7d, or 2026-11-22T02:30:00Z.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="At most so many.")
@click.pass_context
def list_(ctx: click.Context, /, limit: int, **narrowed: object) -> None:
    """The latest acts, the newest first.

    \b
    Examples:
      jobsd audit list --actor unix:alice --since 24h
      jobsd audit list --run 812 -o jsonl
    """
    from jobsd.cli.client import client_of

    found = client_of(ctx).pages("/audit", limit, **narrowed)
    render.rows(found, COLUMNS, render.output_of(ctx), "no such acts")


@audit.command("verify")
@click.option("--file", "file", type=click.File(encoding="utf-8"), help="An export, instead of the daemon's database.")
@click.pass_context
def verify(ctx: click.Context, file: IO[str] | None) -> None:
    """Whether entries were changed, removed or added since they were sealed; exit 1 with the first broken link.

    Every entry is read and hashed anew. Whoever owns the database could write the whole chain anew: keep the latest
    seal's number and hash elsewhere, as the daemon's log does, and compare.

    \b
    Examples:
      jobsd audit verify
      jobsd audit export > audit.jsonl && jobsd audit verify --file audit.jsonl
    """
    found = of_file(file) if file else of_daemon(ctx)
    render.record({key: value for key, value in found.items() if key != "broken"}, FACTS, render.output_of(ctx))
    if found["broken"]:
        raise chain_is_broken(found["broken"])


def of_daemon(ctx: click.Context) -> Mapping[str, Any]:
    """The chain as the daemon finds it, stretch by stretch."""
    from jobsd.cli.client import client_of

    client, seals, entries = client_of(ctx), 0, 0
    chain = client.get("/audit/verify")
    while True:
        seals, entries = seals + chain["seals"], entries + chain["entries"]
        if not chain["cursor"]:
            break
        chain = client.get("/audit/verify", cursor=chain["cursor"])
    broken = chain["broken"]
    told = f"seal {broken['seal']}: {broken['reason']}" if broken else None
    rest = {key: chain[key] for key in ("unsealed", "unsealed_since", "head")}
    return {"seals": seals, "entries": entries, **rest, "broken": told}


def of_file(file: IO[str]) -> Mapping[str, Any]:
    """The chain as it is in an export."""
    from dataclasses import asdict

    from jobsd.domain.exported import verdict

    return asdict(verdict(file))


def chain_is_broken(where: str) -> "JobsdError":
    return problem(
        "E0524",
        f"the audit's chain is broken at {where}",
        "what the seals before it cover is as it was; see who may write to the database as its owner",
        exit_code=Exit.FAILED,
    )


@audit.command("export")
@click.pass_context
def export(ctx: click.Context) -> None:
    """Everything as JSON lines, from the first entry on: entries, and seals after what they cover.

    Secrets are masked; such an entry says so, and its digest is that of what was written.

    \b
    Example:
      jobsd audit export > audit.jsonl
    """
    from jobsd.cli.client import client_of

    for record in records(client_of(ctx)):
        click.echo(words.compact(record))


def records(client: "Client") -> Iterator[Mapping[str, Any]]:
    """Page by page."""
    cursor: str | None = None
    while True:
        page = client.get("/audit/export", limit=RECORDS, cursor=cursor)
        yield from page["items"]
        if not (cursor := page["cursor"]):
            return
