"""Opening a connection: the hosts of the URL one after the other, each with a deadline, until one takes writes.

Not the driver's own loop: a first host that is a black hole spends its whole time there, and one that is out of
connections ends it (docs/decisions/0002-own-connection-pool.md).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from time import monotonic
from types import MappingProxyType
from typing import Any

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from jobsd.domain.errors import Exit, JobsdError, problem
from jobsd.store import pooler
from jobsd.store.deadline import ReadOnly, Unavailable, answer, bounded, is_passing
from jobsd.store.servers import HOST_S, Connection, Host, Servers, servers_of

CONNECT_TIMEOUT_S = 5.0
MARGIN_S = 2.0  # the driver gives up by itself before
OUR_PATH = "pg_catalog, pg_temp"  # so that nothing in `public` can pass for a function or operator of PostgreSQL's

SERVER = """
    SELECT recovering OR current_setting('transaction_read_only')::boolean AS read_only,
           CASE WHEN recovering THEN 0
                ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint
            END AS timeline
      FROM pg_is_in_recovery() AS recovering
"""


async def connect(
    url: str,
    *,
    application_name: str,
    timeout_s: float = CONNECT_TIMEOUT_S,
    settings: Mapping[str, str] = MappingProxyType({}),
    path: str | None = OUR_PATH,
    pooled: bool = True,
) -> Connection:
    """Open one connection to a server that takes writes, asking every host of `url` for it.

    Each host gets `HOST_S` seconds, or its share of `timeout_s` if that is less, and the last one what is left; its
    name is resolved anew. `path`: its search_path; None: as the database or role has it, for the code of jobs.
    `pooled`: one through a pooler will do, and has the same settings in each transaction.

    Raises `Unavailable`, as `ReadOnly` when no server takes writes, or `JobsdError`: E0302 when it cannot be tried with
    such a URL, E0307 for a pooler that will not do.
    """
    session = {"application_name": application_name, "timezone": "UTC", "jit": "off", **settings}
    if path is not None:
        session["search_path"] = path
    servers = _servers_of(url)
    hosts = servers.to_try()
    until_s = monotonic() + timeout_s
    refusals: dict[Host, Unavailable] = {}
    for host in hosts:
        left_s = until_s - monotonic()
        limit_s = left_s if host is hosts[-1] else min(HOST_S, timeout_s / len(hosts), left_s)
        try:
            return await _connect(url, servers, host, session, limit_s, pooled=pooled)
        except Unavailable as refused:
            refusals[host] = refused
    raise _together(refusals)


def _servers_of(url: str) -> Servers:
    try:
        return servers_of(url)
    except ValueError as error:
        raise _unusable(error) from error


async def _connect(
    url: str, servers: Servers, host: Host, session: Mapping[str, str], timeout_s: float, *, pooled: bool
) -> Connection:
    """Try one host. Raises `Unavailable`, `ReadOnly`, or `JobsdError` (E0302, E0307)."""
    several = len(servers.hosts) > 1
    until_s = monotonic() + timeout_s
    how = {"host": host.name if several else None, "port": host.port if several else None, "timeout": timeout_s}
    con = await _session(url, how, session, timeout_s, pooled=pooled)
    try:
        con.servers, con.timeline = servers, await _writable(con, max(0.1, until_s - monotonic()))
        if con.superseded:
            newest = servers.timeline
            raise ReadOnly(ConnectionError(f"a former primary: timeline {con.timeline}, and {newest} has been seen"))
    except BaseException:
        con.terminate()
        raise
    servers.answered(host, con.timeline)
    return con


async def _session(
    url: str, how: Mapping[str, Any], session: Mapping[str, str], timeout_s: float, *, pooled: bool
) -> Connection:
    """Answered by the server process that was introduced; behind a pooler, if that will do, one that needs no such."""
    with suppress(pooler.Recognised):
        return await _proved(await _opened(url, how, session, timeout_s), pooler.require_none, timeout_s)
    if not pooled:
        raise pooler.no_session()
    con = await _opened(url, {**how, "statement_cache_size": 0}, pooler.start_up(session), timeout_s)
    con.opening = pooler.opening(session)
    try:
        return await _proved(con, pooler.require_transactions, timeout_s)
    except Unavailable as gone:
        if pooler.knows_no_transactions(gone.__cause__):
            raise pooler.no_transactions() from gone
        raise


async def _proved(con: Connection, proof: Callable[[Connection], Awaitable[None]], timeout_s: float) -> Connection:
    try:
        await bounded(con, timeout_s, proof, con)
    except BaseException:
        con.terminate()
        raise
    return con


async def _writable(con: Connection, timeout_s: float) -> int:
    """The timeline of a server that takes writes. Raises `ReadOnly`."""
    server = await bounded(con, timeout_s, con.fetchrow, SERVER)
    if server is None or server["read_only"]:
        raise ReadOnly(ConnectionError("the server is read-only (a standby, or default_transaction_read_only)"))
    return int(server["timeline"])


async def _opened(url: str, how: Mapping[str, Any], session: Mapping[str, str], timeout_s: float) -> Connection:
    call: Coroutine[Any, Any, Connection] = asyncpg.connect(
        url,
        **how,
        server_settings=dict(session),
        target_session_attrs=SessionAttribute.any,  # whether it takes writes is asked later, of every host alike
        connection_class=Connection,
    )
    task = asyncio.create_task(call)
    try:
        await asyncio.wait({task}, timeout=timeout_s + MARGIN_S)
        return answer(task, f"no connection within {timeout_s:g} s")
    except asyncio.CancelledError:
        task.cancel()
        raise
    except Exception as error:
        if not task.done():
            task.cancel()
        if pooler.refuses(error):
            raise pooler.Recognised from error
        if isinstance(error, ValueError) and not isinstance(error, OSError):  # a bad certificate is both
            raise _unusable(error) from error
        if is_passing(error) or isinstance(error, asyncpg.PostgresError):  # whatever it says, others may mend it
            raise Unavailable(error) from error
        raise


def _together(refusals: Mapping[Host, Unavailable]) -> Unavailable:
    """The error to raise when every host has refused."""
    errors = list(refusals.values())
    if len(errors) == 1:
        return errors[0]
    kind = ReadOnly if all(isinstance(error, ReadOnly) for error in errors) else Unavailable
    told = ConnectionError("; ".join(f"{host}: {error}" for host, error in refusals.items()))
    whole = kind(told)
    whole.refused, whole.__cause__ = all(error.refused for error in errors), told
    return whole


def _unusable(error: ValueError) -> JobsdError:
    """E0302 for a URL that is none. A bare `ValueError` repeats a piece of it, which may be one of the password."""
    known = isinstance(error, asyncpg.ClientConfigurationError)
    reason = str(error) if known else "it has another form; are / ? # @ percent-encoded in user and password?"
    hint = "expected postgresql://user@host:5432/database"
    return problem("E0302", f"the database URL cannot be used: {reason}", hint, exit_code=Exit.CONFIGURATION)
