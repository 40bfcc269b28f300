"""Poolers between us and the server: how one is recognised, and what a session is worth behind one.

A pooler may hand each transaction to another server session. So nothing may outlive a transaction there: settings are
local to it, statements have no names. The lock session cannot live so (`locks`).
"""

from collections.abc import Mapping

import asyncpg

from jobsd.domain.errors import Exit, JobsdError, problem
from jobsd.store.servers import Connection

WAY_OUT = "if that is set already: it has to name the server itself, not another pooler"
TRACKED = ("application_name", "timezone")  # PgBouncer keeps these for its client, and refuses others at the start


class Recognised(Exception):
    """There is a pooler between us and the server."""


def no_session() -> JobsdError:
    """E0307, for a connection that needs a session of its own."""
    return _refused(
        "DATABASE_URL leads through a transaction pooler: advisory locks and LISTEN do not work there; "
        "set [database] direct_url",
        WAY_OUT,
    )


def no_transactions() -> JobsdError:
    """E0307, for a pooler that hands over every single statement."""
    return _refused("DATABASE_URL leads through a pooler in statement mode, in which there are no transactions")


def _refused(message: str, hint: str = "set pool_mode = transaction") -> JobsdError:
    return problem("E0307", message, hint, exit_code=Exit.CONFIGURATION)


def refuses(error: BaseException) -> bool:
    """Whether this is a pooler's word on what a connection started with; servers word it otherwise."""
    return isinstance(error, asyncpg.PostgresError) and "unsupported startup parameter" in str(error)


async def require_none(con: asyncpg.Connection) -> None:
    """Raises `Recognised` when another process answers than was introduced at the start: a pooler makes one up.

    In one message without a prepared statement, whose name could be another client's there.
    """
    status: str = await con.execute(f"SELECT WHERE pg_backend_pid() = {con.get_server_pid():d}")
    if status != "SELECT 1":
        raise Recognised


async def require_transactions(con: Connection) -> None:
    """Show that there are transactions, and that their settings can be set."""
    await con.execute("BEGIN")
    await con.execute(f"{con.opening}; COMMIT")


def knows_no_transactions(error: BaseException | None) -> bool:
    """Whether this is a pooler's word that it hands over every single statement."""
    return isinstance(error, asyncpg.PostgresError) and "statement pooling mode" in str(error)


def start_up(session: Mapping[str, str]) -> dict[str, str]:
    """What of a session's settings a connection may start with behind a pooler."""
    return {name: value for name, value in session.items() if name in TRACKED}


def opening(session: Mapping[str, str]) -> str:
    """The statement that sets the others for one transaction. Names and values are our own."""
    others = {name: value for name, value in session.items() if name not in TRACKED}
    return "SELECT " + ", ".join(f"pg_catalog.set_config('{name}', '{value}', true)" for name, value in others.items())
