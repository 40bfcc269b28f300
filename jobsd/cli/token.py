"""`jobsd token`: who may ask over TCP, and how far. A token's secret is told once, when it is made."""

import click

from jobsd.cli import render
from jobsd.cli.render import Column
from jobsd.domain.scope import Scope

COLUMNS = (
    Column("name", "TOKEN"),
    Column("scope"),
    Column("state"),
    Column("last_used_at", "LAST USED", "ago"),
    Column("expires_at", "EXPIRES", "ago"),
    Column("created_at", "MADE", "ago"),
    Column("created_by", "BY"),
    Column("revoked_by"),
)
NEVER = "never"


@click.group("token")
def token() -> None:
    """Tokens: they let programs on other hosts ask this daemon, over TCP. On its own host the socket needs none."""


@token.command("create")
@click.argument("name")
@click.option("--scope", type=click.Choice([scope.value for scope in Scope]), required=True, help="How far it reaches.")
@click.option("--expires", default="90d", show_default=True, metavar="TIME", help="After so long; never for no end.")
@click.option("--reason", metavar="TEXT", help="Why, for the audit log.")
@click.pass_context
def create(ctx: click.Context, name: str, scope: str, expires: str, reason: str | None) -> None:
    """Make a token and write its secret to standard output, this once.

    Scopes: read sees everything; trigger asks for runs and reports on external ones as well; operate retries, cancels,
    deletes, enables and disables too; admin may do all. NAME stands in the audit as token:NAME, for this token alone.

    \b
    Example:
      export JOBSD_TOKEN=$(jobsd token create ci-deploy --scope trigger --expires 90d)
    """
    from jobsd.cli.client import client_of

    asked = {"name": name, "scope": scope, "expires": None if expires == NEVER else expires, "reason": reason}
    made = client_of(ctx).post("/tokens", {key: value for key, value in asked.items() if value or key == "expires"})
    output = (ctx.find_root().obj or {}).get("output")
    if output:
        return render.record(made, (*COLUMNS, Column("token", "SECRET")), output)
    until = f"until {made['expires_at']}" if made["expires_at"] else "with no end"
    click.echo(f"token:{name} may {scope}, {until}; its secret is shown this once:", err=True)
    return click.echo(made["token"])


@token.command("list")
@click.option("--limit", type=click.IntRange(1, 100_000), default=200, show_default=True, help="At most so many.")
@click.pass_context
def list_(ctx: click.Context, limit: int) -> None:
    """Every token, revoked ones too, with when it was last used.

    \b
    Example:
      jobsd token list -o jsonl
    """
    from jobsd.cli.client import client_of

    found = client_of(ctx).pages("/tokens", limit)
    render.rows(found, COLUMNS, render.output_of(ctx), "no tokens. make one: jobsd token create NAME --scope read")


@token.command("revoke")
@click.argument("name")
@click.option("--reason", metavar="TEXT", help="Why, for the audit log.")
@click.pass_context
def revoke(ctx: click.Context, name: str, reason: str | None) -> None:
    """End a token at once and for ever.

    \b
    Example:
      jobsd token revoke ci-deploy --reason "was in a build log"
    """
    from jobsd.cli.client import client_of, segment

    gone = client_of(ctx).delete(f"/tokens/{segment(name)}", reason=reason)
    render.record(gone, COLUMNS, render.output_of(ctx))
